"""What was registered by racing clients, held against brute force afterwards."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.domain.anchors import CollectionSettings
from app.domain.ports import Encoder
from app.domain.text import fingerprint
from app.domain.verdicts import Verdict
from app.index.memory import MemoryView
from app.usecases.grouping import Criteria, Text
from app.usecases.matching import CANDIDATES, Judge

# How far a text's vector may lie from the one stored, which was encoded in other company.
SAME_VECTOR = 2e-3


class PromiseBroken(Exception):
    """Something is stored that must not be, or is missing."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The anchors of a collection in the order in which they were created.

    vectors: (n, dim) float32, as stored.
    """

    ids: list[str]
    texts: list[str]
    vectors: NDArray[np.float32]


def read(database: Path, exported: Mapping[str, str], collection: int = 1) -> Stored:
    """Return what a database holds. The service has stopped.

    exported: text by id, as the service exported them.
    Raises PromiseBroken where the two disagree.
    """
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        rows = connection.execute(
            "SELECT id, text, vector FROM anchors JOIN vectors USING (seq) "
            "WHERE anchors.collection = ? ORDER BY seq",
            (collection,),
        ).fetchall()
    connection.close()
    if {row[0]: row[1] for row in rows} != dict(exported):
        raise PromiseBroken("the export is not what the database holds")
    vectors = np.array([np.frombuffer(row[2], np.float16) for row in rows], np.float32)
    return Stored([row[0] for row in rows], [row[1] for row in rows], vectors)


def check(stored: Stored, refused: Sequence[str], judge: Judge, encoder: Encoder) -> int:
    """Hold what is stored against every promise of `if_duplicate`; return how many pairs it took.

    refused: texts that were not stored, as a duplicate of theirs was.
    Raises PromiseBroken.
    """
    criteria = Criteria(judge, judge.standard(CollectionSettings()))
    marks = [fingerprint(text) for text in stored.texts]
    if len(set(marks)) != len(marks):
        twice = next(
            text for text, mark in zip(stored.texts, marks, strict=True) if marks.count(mark) > 1
        )
        raise PromiseBroken(f"created more than once: {twice!r}")
    listed = [Text(*one) for one in zip(range(len(marks)), stored.texts, marks, strict=True)]
    view = MemoryView(np.arange(len(listed)), stored.vectors.astype(np.float16), 0)
    judged = 0
    for place in range(1, len(listed)):
        before = stored.vectors[:place]
        similarities = np.einsum("ij,j->i", before, stored.vectors[place])
        nearest = np.argsort(-similarities, kind="stable")[:CANDIDATES]
        bases = criteria.bases(stored.vectors[place], nearest, similarities[nearest], view)
        for near, base in zip(nearest.tolist(), bases, strict=True):
            judged += 1
            if criteria.judged(listed[near], listed[place], base)[1] is Verdict.DUPLICATE:
                raise PromiseBroken(
                    f"created although a duplicate was there: {listed[place].text!r} "
                    f"after {listed[near].text!r}"
                )
    _check_absent(listed, view, refused, criteria, encoder)
    return judged


def _check_absent(
    listed: Sequence[Text],
    view: MemoryView,
    refused: Sequence[str],
    criteria: Criteria,
    encoder: Encoder,
) -> None:
    """Raise PromiseBroken if a text is not there and nothing it duplicates is."""
    there = {text.fingerprint for text in listed}
    vectors = view.vectors(np.arange(len(listed))).astype(np.float32)
    for text in dict.fromkeys(refused):
        mark = fingerprint(text)
        if mark in there:
            continue
        vector = encoder.encode([text]).vectors[0]
        asked = Text(len(listed), text, mark)
        similarities = vectors @ vector
        nearest = np.argsort(-similarities)[:CANDIDATES]
        # Upwards by what rounding may do to a vector of another batch.
        bases = criteria.bases(vector, nearest, similarities[nearest] + SAME_VECTOR, view)
        if not any(
            criteria.judged(listed[near], asked, base)[1] is Verdict.DUPLICATE
            for near, base in zip(nearest.tolist(), bases, strict=True)
        ):
            raise PromiseBroken(f"neither created nor a duplicate of anything: {text!r}")
