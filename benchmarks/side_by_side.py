"""Is a change faster? Another version of Deja and this one side by side, in turns.

    python -m benchmarks.side_by_side COMMIT --data ../shared/data

Each is given the same texts in the same short blocks, in each of the six orders in turn, and what
counts is the ratio of their times within a block: a machine that drifts slows both. One runs at a
time, the others are stopped by a signal, so that what a version does later it does in its own
blocks. This version runs twice: where it stands to itself is what this machine leaves undecided.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks import texts
from benchmarks.load import Load, LoadFailed, ask, post
from benchmarks.main_job import ANCHORS
from benchmarks.service import ROOT, Service, ServiceFailed, deja

_FILLED_BY = 500  # anchors a request
_VERSIONS = ("before", "now", "again")
_ORDERS = tuple(itertools.permutations(_VERSIONS))

Times = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Workload:
    """What is asked of a service in a block.

    texts: how many, each in a request of its own. clients: how many send them, each its next once
    the last is answered. register: whether they become anchors; they are looked up otherwise.
    time: what a load took, in milliseconds.
    """

    name: str
    texts: int
    clients: int
    register: bool
    time: Callable[[Load], float]

    def measure(self, service: Service, block: Sequence[str]) -> float:
        """Return the milliseconds that a block took. Raises LoadFailed."""
        if not self.register:
            return self.time(ask(service.port, block, clients=self.clients))
        bodies = [_body([text]) for text in block]
        return self.time(
            post(service.port, ANCHORS, bodies, clients=self.clients, statuses=(200, 201))
        )


def _median(load: Load) -> float:
    return load.percentile(50)


def _each(load: Load) -> float:
    return 1e3 / load.rate


WORKLOADS = {
    "one": Workload("lookups, one client, p50", 60, 1, register=False, time=_median),
    "many": Workload("lookups, 32 clients, each", 400, 32, register=False, time=_each),
    "register-one": Workload("registering, one client, p50", 60, 1, register=True, time=_median),
    "register-many": Workload("registering, 32 clients, each", 240, 32, register=True, time=_each),
}


def extract(commit: str, folder: Path) -> None:
    """Write the files of a commit of this repository into an empty folder.

    Raises SystemExit where there is no such commit, or no git.
    """
    command = ["git", "-C", str(ROOT), "archive", "--format=zip", "--end-of-options", commit]
    try:
        made = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - no shell
    except FileNotFoundError:
        raise SystemExit(f"{commit}: git is needed to extract it, and is not installed") from None
    if made.returncode:
        reason = made.stderr.decode("utf-8", "replace").strip()
        raise SystemExit(f"{commit}: no commit of {ROOT} ({reason})")
    with zipfile.ZipFile(io.BytesIO(made.stdout)) as files:
        files.extractall(folder)


def sources(before: Path) -> dict[str, Path]:
    """Return the source tree of each version. before: that of the other one."""
    return dict(zip(_VERSIONS, (before, ROOT, ROOT), strict=True))


def measure(
    services: Mapping[str, Service], workload: Workload, blocks: Iterator[Sequence[str]]
) -> Times:
    """Return each version's milliseconds, a block each; the first block warms up.

    services: of `_VERSIONS`, all paused. Raises LoadFailed.
    """
    times: dict[str, list[float]] = {name: [] for name in _VERSIONS}
    for place, block in enumerate(blocks):
        # Who comes after whom matters a little: within a block each follows each as often, in six.
        for name in _ORDERS[place % len(_ORDERS)]:
            services[name].resume()
            try:
                taken = workload.measure(services[name], block)
            finally:
                services[name].pause()
            if place:
                times[name].append(taken)
    return times


def ratio(times: Times, one: str, other: str) -> str:
    """Return the median of one version's times by the other's, with the middle half of them."""
    ratios = [mine / others for mine, others in zip(times[one], times[other], strict=True)]
    if len(ratios) < 2:
        return f"{ratios[0]:.3f}"
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def line(workload: Workload, times: Times) -> str:
    """Return what a workload's blocks say."""
    medians = "".join(f"{statistics.median(times[name]):9.2f}" for name in _VERSIONS)
    return (
        f"{workload.name:30}{medians}   {ratio(times, 'now', 'before'):24}"
        f"   {ratio(times, 'again', 'now')}"
    )


def _body(some: Sequence[str]) -> bytes:
    return json.dumps({"anchors": [{"text": text} for text in some]}).encode()


def _fill(service: Service, anchors: Sequence[str]) -> None:
    """Register anchors, wait until all that follows from them is done, and pause the service."""
    bodies = [
        _body(anchors[start : start + _FILLED_BY]) for start in range(0, len(anchors), _FILLED_BY)
    ]
    post(service.port, ANCHORS, bodies, clients=1, statuses=(201,))
    service.wait_idle()
    service.pause()


def _parts(held: Iterator[str], size: int, count: int) -> Iterator[list[str]]:
    for _ in range(count):
        yield [next(held) for _ in range(size)]


def run(options: argparse.Namespace, folder: Path) -> Generator[str, None, None]:
    """Yield a line for each workload. folder: an empty one.

    Raises LoadFailed, ServiceFailed, and SystemExit where texts or the commit are missing.
    """
    tree = folder / "tree"
    tree.mkdir()
    extract(options.commit, tree)
    workloads = [WORKLOADS[name] for name in options.workloads]
    blocks = options.blocks + 1
    asked = sum(workload.texts * blocks for workload in workloads)
    held = iter(texts.ballast(options.data, options.anchors + asked))
    (anchors,) = _parts(held, options.anchors, 1)
    with ExitStack() as stack:
        services: dict[str, Service] = {}
        for name, source in sources(tree).items():
            services[name] = stack.enter_context(deja(folder / name / "data", source))
            _fill(services[name], anchors)
        names = "".join(f"{name:>9}" for name in _VERSIONS)
        yield f"{'milliseconds, medians':30}{names}   {'now by before':24}   again by now"
        for workload in workloads:
            yield line(workload, measure(services, workload, _parts(held, workload.texts, blocks)))


def show(lines: Iterator[str]) -> int:
    """Print lines as they come; return the exit status."""
    try:
        for said in lines:
            print(said, flush=True)
    except (LoadFailed, ServiceFailed) as error:
        sys.stderr.write(f"failed: {error}\n")
        return 1
    return 0


def main(given: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.side_by_side", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("commit", help="of the other version, such as HEAD for what is committed")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--anchors", type=int, default=10_000, help="of each version at first")
    parser.add_argument("--blocks", type=int, default=18, help="of each workload and version")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    options = parser.parse_args(given)
    if options.anchors < 1 or options.blocks < 1:
        parser.error("--anchors and --blocks must be at least 1")
    with (
        tempfile.TemporaryDirectory(prefix="deja-side-by-side-") as folder,
        closing(run(options, Path(folder))) as lines,
    ):
        return show(lines)


if __name__ == "__main__":
    sys.exit(main())
