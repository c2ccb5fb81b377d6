"""How Deja's cost grows with its anchors: one service, grown from size to size.

    python -m benchmarks.scale --data ../shared/data --json scale.json --folder /tmp/scale

At each size: the bulk import against the bare encoder in the same minutes, lookups at rest, under
filters and while the index merges, memory, restarts, and recall against an exact search. Results
are written after each step. With the same `--json` and `--folder`, a run that was stopped goes on
where it was. README.md says how to read what is printed.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.encoders.onnx import OnnxEncoder
from app.runtime import CHUNK
from benchmarks import texts
from benchmarks.growth import bare, lookups, process, recall
from benchmarks.growth.anchors import BATCH, SHARES, Questions
from benchmarks.growth.growing import bulk, merge_rows, say, trickle
from benchmarks.growth.results import Json, read, time_left, write
from benchmarks.growth.targets import lines
from benchmarks.load import LoadFailed
from benchmarks.main_job import COLLECTION
from benchmarks.service import Service, ServiceFailed, cores, deja, get, machine

EMPTY_QUESTIONS = 200


class Growth:
    """A run: what is measured at one size after the other, and what is known already."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        """Read texts and earlier results. folder: for the service's data and log."""
        self.options = options
        self.folder = folder
        self.data = folder / "data"
        self.sizes: list[int] = sorted(set(options.sizes))
        self.held = texts.ballast(options.data, self.sizes[-1])
        self.questions = Questions(options.data, options.seed)
        self.encoder: OnnxEncoder = bare.encoder()
        settings = {
            "seed": options.seed,
            "ask": options.ask,
            "recall": options.recall,
            "batch": BATCH,
            "chunk": CHUNK,
            "threads": cores(),
            "filters": SHARES,
            "encoder": self.encoder.fingerprint,
        }
        self.results: Json = read(options.json, settings, machine())
        self._service: Service | None = None
        self._stack = ExitStack()
        self._grown: set[int] = set()  # sizes that the running process itself imported

    def run(self) -> Json:
        """Measure what is not known yet; return all results. Raises LoadFailed, ServiceFailed."""
        known = self.results["sizes"]
        if any(known.values()) and not (self.data / "deja.db").exists():
            raise ServiceFailed(
                f"{self.options.json} holds results whose data folder is gone: name it with "
                "--folder, or begin anew with another --json"
            )
        if "empty" not in self.results:
            if self.data.exists():
                raise ServiceFailed(
                    f"{self.data} holds another run's data: give that run's --json, or another "
                    "--folder to begin anew"
                )
            self._empty()
        with self._stack:
            for place, size in enumerate(self.sizes):
                done: Json = known.setdefault(str(size), {})
                say(f"{size:,} anchors ({place + 1} of {len(self.sizes)} sizes)")
                for name, step in self._steps(place, size):
                    if name not in done:
                        begun = time.perf_counter()
                        done[name] = step()
                        done.setdefault("seconds", {})[name] = time.perf_counter() - begun
                        write(self.options.json, self.results)
                        left = time_left(self.results, self.sizes)
                        say(f"  {name}: {time.perf_counter() - begun:.0f} s; {left}")
                for line in lines(self.results, size):
                    say(f"  {line}")
        return self.results

    def _steps(self, place: int, size: int) -> Sequence[tuple[str, Callable[[], Json]]]:
        first = self.sizes[place - 1] if place else 0
        bulk_end = size - min(merge_rows(size), (size - first) // 2)
        questions = self.questions
        asked = questions.measured(
            lookups.needed(self.options.ask), self.options.recall + place * self._questions_a_size()
        )
        later = questions.measured(
            2 * self.options.rounds,
            self.options.recall
            + place * self._questions_a_size()
            + lookups.needed(self.options.ask),
        )

        def imported() -> Json:
            service = self._running()
            self._grown.add(size)
            held = _count(service)
            # Two requests were in flight when an earlier run was stopped: those are sent again.
            start = max(first, (held - 2 * BATCH) // BATCH * BATCH) if held > first else first
            return asdict(
                bulk(
                    service,
                    self.encoder,
                    self.held,
                    (start, bulk_end),
                    data=self.data,
                    questions=questions.steady(size),
                    sample=self.options.sample,
                    most=self.options.part,
                    resumed=held > first,
                )
            )

        def trickled() -> Json:
            service = self._running()
            start = max(bulk_end, _count(service) - 1)
            return asdict(
                trickle(
                    service,
                    self.held,
                    (start, size),
                    data=self.data,
                    questions=questions.steady(size + 1),
                )
            )

        def rest() -> Json:
            service = self._running()
            return asdict(lookups.at_rest(service, self.encoder, asked, questions.steady(size + 2)))

        def remembered() -> Json:
            # A process that was started since the import holds less than one that grew.
            held = asdict(process.memory(self._running(), self.data))
            return {**held, "grown": size in self._grown}

        def restarted() -> Json:
            self._stop()
            return asdict(process.restarts(self.data, self.held, size, later, self.options.rounds))

        def recalled() -> Json:
            self._stop()
            return asdict(recall.measure(self.data, questions.recall(self.options.recall)))

        return [
            ("import", imported),
            ("merge", trickled),
            ("rest", rest),
            ("memory", remembered),
            ("restart", restarted),
            ("recall", recalled),
        ]

    def _questions_a_size(self) -> int:
        return lookups.needed(self.options.ask) + 2 * int(self.options.rounds)

    def _empty(self) -> None:
        with tempfile.TemporaryDirectory(prefix="deja-scale-empty-") as folder:
            steady = self.questions.steady(0)
            held, seconds = process.empty(
                Path(folder), [next(steady) for _ in range(EMPTY_QUESTIONS)]
            )
        self.results["empty"] = {**asdict(held), "ready_seconds": seconds}
        write(self.options.json, self.results)

    def _running(self) -> Service:
        """Return the service; started where none runs, and at rest then."""
        if self._service is None:
            self._service = self._stack.enter_context(deja(self.data))
            self._service.wait_idle(timeout=3 * 3600)
        return self._service

    def _stop(self) -> None:
        self._stack.close()
        self._service = None


def _count(service: Service) -> int:
    return int(json.loads(get(service.port, COLLECTION)[1])["anchors"])


def sizes(written: str) -> list[int]:
    """Return the sizes that are written, ascending. Raises ArgumentTypeError for others."""
    try:
        found = sorted({int(part.replace("_", "")) for part in written.split(",")})
    except ValueError:
        found = []
    if not found or found[0] < BATCH:
        raise argparse.ArgumentTypeError(
            f"{written!r}: numbers of anchors with commas between, each at least {BATCH:,}, "
            "such as 10000,100000"
        )
    return found


def main(given: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sizes", type=sizes, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--json", type=Path, required=True, help="results; read to go on")
    parser.add_argument("--folder", type=Path, help="keep the service's data here, to go on later")
    parser.add_argument("--ask", type=int, default=1_000, help="questions of one client, a size")
    parser.add_argument("--recall", type=int, default=1_000, help="questions of the recall")
    parser.add_argument("--rounds", type=int, default=3, help="of restarts")
    parser.add_argument("--sample", type=int, default=4_000, help="texts of the bare encoder")
    parser.add_argument("--part", type=int, default=50_000, help="anchors between two of these")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(given)
    if options.part % BATCH or min(options.part, options.ask, options.rounds, options.recall) < 1:
        parser.error(f"--part is a multiple of {BATCH:,}, and no number is less than 1")
    # So that the service is stopped, too, where this process is asked to end.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        folder = options.folder or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="deja-scale-"))
        )
        folder.mkdir(parents=True, exist_ok=True)
        try:
            results: dict[str, Any] = Growth(options, folder).run()
        except (LoadFailed, ServiceFailed) as error:
            sys.stderr.write(f"failed; what was measured before is in {options.json}: {error}\n")
            return 1
        except KeyboardInterrupt:
            going_on = "the same command goes on" if options.folder else "there was no --folder"
            sys.stderr.write(f"stopped; {going_on}\n")
            return 130
    for line in lines(results):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
