"""Has a lookup become much slower? Deja against the floor, in one short run.

    python -m benchmarks.regression

Both are measured in turns on made-up questions, in several short rounds, and the best round of each
counts: another process that takes the cores for a moment then spoils a round, not the result,
whichever of the two it hits. A ratio holds on any machine, an absolute time on none.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.floor import NEAREST, Floor, floor
from benchmarks.load import LoadFailed, ask, matches_of, post
from benchmarks.made_up import made_up
from benchmarks.service import Service, ServiceFailed, deja

# Lookups a second of Deja by those of the floor: less is a large loss.
LEAST = 0.4

CLIENTS = 32
_ANCHORS = 1_000
_QUESTIONS = 320  # of each, a round
_ROUNDS = 4
_SEED = 1


@dataclass(frozen=True, slots=True)
class Rates:
    """One round, in lookups a second."""

    deja: float
    floor: float

    @property
    def ratio(self) -> float:
        """Return Deja's share of the floor."""
        return self.deja / self.floor


@dataclass(frozen=True, slots=True)
class Judged:
    """Whether the best round reaches the bound, and the sentence that says so."""

    passed: bool
    said: str


def judge(rounds: Sequence[Rates], least: float = LEAST) -> Judged:
    """Return whether Deja's best rate is at least `least` of the floor's best."""
    best = Rates(max(row.deja for row in rounds), max(row.floor for row in rounds))
    ratios = ", ".join(f"{row.ratio:.2f}" for row in rounds)
    said = (
        f"Deja answers {best.ratio:.2f} of what the floor does, each in its best of {len(rounds)} "
        f"rounds ({ratios}), with {best.deja:,.0f} against {best.floor:,.0f} lookups/s; "
        f"at least {least:.2f} is asked for"
    )
    return Judged(best.ratio >= least, said)


def measure(folder: Path, rounds: int) -> list[Rates]:
    """Return the rates of some rounds. folder: an empty one, for data and logs.

    Raises LoadFailed, ServiceFailed.
    """
    drawn = made_up(_ANCHORS + (rounds + 1) * _QUESTIONS, _SEED)
    anchors, questions = drawn[:_ANCHORS], drawn[_ANCHORS:]
    with deja(folder / "data") as service, floor(folder, anchors) as bare:
        body = json.dumps({"anchors": [{"text": text} for text in anchors]}).encode()
        path = "/v1/collections/default/anchors"
        post(service.port, path, [body], clients=1, statuses=(201,))
        service.wait_idle(quiet=0.5)
        # The first round warms up.
        parts = [questions[at : at + _QUESTIONS] for at in range(0, len(questions), _QUESTIONS)]
        return [_round(service, bare, part) for part in parts][1:]


def _round(service: Service, bare: Floor, questions: Sequence[str]) -> Rates:
    load = ask(service.port, questions, clients=CLIENTS)
    for answer in load.answers:
        if len(matches_of(answer)) != NEAREST:
            raise LoadFailed(f"not {NEAREST} matches: {answer[:200]!r}")
    return Rates(load.rate, bare.ask(questions).rate)


def main() -> int:
    """Measure, print, and return 1 where Deja is much too slow."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.regression", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--least", type=float, default=LEAST, help=f"of the floor; {LEAST}")
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.rounds > 20:
        parser.error("--rounds must be 1 to 20")
    try:
        with tempfile.TemporaryDirectory(prefix="deja-regression-") as folder:
            judged = judge(measure(Path(folder), arguments.rounds), arguments.least)
    except (LoadFailed, ServiceFailed) as error:
        sys.stderr.write(f"failed, nothing measured: {error}\n")
        return 2
    print(judged.said)
    return 0 if judged.passed else 1


if __name__ == "__main__":
    sys.exit(main())
