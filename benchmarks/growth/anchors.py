"""The anchors that a growing service is given, and the questions that it is asked."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import texts

BATCH = 1_000  # anchors a request
REST = "rest"
# Label and share of the anchors that have it: what a filter by that label admits.
SHARES = {"tenth": 0.1, "hundredth": 0.01, "thousandth": 0.001}


def label_of(number: int) -> str:
    """Return the label of the anchor with this number.

    Of every thousand in a row exactly 100, 10 and 1 have the labels of `SHARES`, spread evenly, so
    each filter admits its share of the anchors whatever their number.
    """
    if number % 10 == 0:
        return "tenth"
    if number % 100 == 1:
        return "hundredth"
    return "thousandth" if number % 1_000 == 2 else REST


def id_of(number: int) -> str:
    """Return the id of the anchor with this number."""
    return f"a-{number:07d}"


def body(held: Sequence[str], start: int, end: int, *, touched: int | None = None) -> bytes:
    """Return a request that registers the anchors `start` to `end`, the last not included.

    touched: metadata that makes new versions of anchors that are there already.
    """
    anchors = [
        {
            "id": id_of(number),
            "text": held[number],
            "label": label_of(number),
            "metadata": {} if touched is None else {"touched": touched},
        }
        for number in range(start, end)
    ]
    return json.dumps({"anchors": anchors}).encode()


def parts(start: int, end: int, most: int) -> list[tuple[int, int]]:
    """Return consecutive stretches from `start` to `end` after which an import is looked at.

    They end at 10,000, 20,000 and then at multiples of `most`: up to 20,000 anchors a collection
    is searched exhaustively, and from there on through a graph that the service builds.
    """
    stops = [*(stop for stop in (10_000, 20_000) if start < stop < end)]
    stops += [stop for stop in range(most, end, most) if stop > max(start, 20_000)]
    return list(itertools.pairwise([start, *stops, end])) if end > start else []


class Questions:
    """Questions that have not been asked before, each handed out once.

    measured: for the timings at rest and for recall. Where they run out, the run fails.
    """

    def __init__(self, data: Path, seed: int) -> None:
        """Read `qqp/dev` for what is measured one by one, `qqp/train` for the steady load."""
        rng = random.Random(seed)
        measured = texts.distinct_questions(data / "qqp/dev.tsv.gz")
        known = set(measured)
        further = texts.distinct_questions(data / "qqp/train.tsv.gz")
        self._steady = [text for text in further if text not in known]
        rng.shuffle(measured)
        rng.shuffle(self._steady)
        self._measured = measured

    def recall(self, count: int) -> list[str]:
        """Return the questions of the recall, the same at every size; no other call has them."""
        return self._measured[:count]

    def measured(self, count: int, place: int) -> list[str]:
        """Return `count` questions, those from `place` on.

        Raises SystemExit where there are not so many.
        """
        found = self._measured[place : place + count]
        if len(found) < count:
            raise SystemExit(
                f"qqp/dev holds {len(self._measured):,} distinct questions, and "
                f"{place + count:,} are needed; ask fewer with --ask, or give fewer --sizes"
            )
        return found

    def steady(self, seed: int) -> Iterator[str]:
        """Yield questions without end, from a place that depends on the seed.

        After more than 100,000 the first comes again; the service remembers 4,096 vectors at most,
        so that none is answered from its memory.
        """
        start = random.Random(seed).randrange(len(self._steady))
        yield from itertools.islice(itertools.cycle(self._steady), start, None)
