"""The real texts that the measurements use, read from the data folder."""

from __future__ import annotations

import csv
import gzip
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BALLAST = "ballast/questions.tsv.gz"
PAIRS = "qqp/dev.tsv.gz"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two questions that a person marked as duplicates.

    anchor, question: the pair's first and second question. group: equal for questions that are
    linked by pairs marked as duplicates, directly or through others.
    """

    anchor: str
    question: str
    group: int


@dataclass(frozen=True, slots=True)
class Questions:
    """What is registered from the pairs and what is looked up.

    pairs: no two share a question, and no question of one is the anchor of another.
    others: further distinct questions, none of which is in a pair.
    """

    pairs: list[Pair]
    others: list[str]


def ballast(data: Path, count: int) -> list[str]:
    """Return the first `count` texts of the ballast, which are a fair sample of it."""
    texts = [row["text"].strip() for row in itertools.islice(_rows(data / BALLAST), count)]
    if len(texts) < count:
        raise SystemExit(f"{data / BALLAST} holds {len(texts)} texts, not {count}")
    return texts


def questions(data: Path, pairs: int, seed: int) -> Questions:
    """Return `pairs` duplicate pairs, drawn by a seed, and all other questions, shuffled.

    Only pairs in their original spelling and drawn at the source's own base rate (`cased`,
    `natural`) count; the others include positives that were easier to find.
    """
    rows = list(_rows(data / PAIRS))
    texts = dict.fromkeys(row[side].strip() for row in rows for side in ("text1", "text2"))
    duplicates = [row for row in rows if row["label"] == "1"]
    groups = _groups((row["text1"].strip(), row["text2"].strip()) for row in duplicates)
    rng = random.Random(seed)
    candidates = [row for row in duplicates if row["natural"] == row["cased"] == "1"]
    rng.shuffle(candidates)
    used: set[str] = set()
    chosen: list[Pair] = []
    for row in candidates:
        anchor, question = row["text1"].strip(), row["text2"].strip()
        if len(chosen) == pairs or anchor in used or question in used or anchor == question:
            continue
        used |= {anchor, question}
        chosen.append(Pair(anchor, question, groups[question]))
    if len(chosen) < pairs:
        raise SystemExit(f"{data / PAIRS} holds {len(chosen)} such pairs, not {pairs}")
    others = [text for text in texts if text not in used]
    rng.shuffle(others)
    return Questions(chosen, others)


def distinct_questions(path: Path) -> list[str]:
    """Return every question of a file of pairs once, in the order of their first mention."""
    sides = ("text1", "text2")
    return list(dict.fromkeys(row[side].strip() for row in _rows(path) for side in sides))


def _groups(pairs: Iterator[tuple[str, str]]) -> dict[str, int]:
    """Return the number of each text's connected component."""
    linked: dict[str, set[str]] = {}
    for left, right in pairs:
        linked.setdefault(left, set()).add(right)
        linked.setdefault(right, set()).add(left)
    groups: dict[str, int] = {}
    for number, first in enumerate(linked):
        reached = [] if first in groups else [first]
        while reached:
            text = reached.pop()
            if text not in groups:
                groups[text] = number
                reached += linked[text]
    return groups


def _rows(path: Path) -> Iterator[dict[str, str]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    except FileNotFoundError:
        raise SystemExit(f"{path} is missing; say where the data folder is with --data") from None
