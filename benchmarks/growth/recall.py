"""Recall against an exact search, in this process, over the data folder of a stopped service."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from app import DEFAULT_ENCODER
from app.domain.anchors import DEFAULT_COLLECTION, Filter
from app.domain.errors import StartupError
from app.runtime import Runtime, open_runtime
from app.settings import Settings
from app.usecases.lookup import FURTHER, Asked
from app.usecases.startup import bring_index_up
from benchmarks.growth.anchors import SHARES
from benchmarks.service import ServiceFailed

K = 10
TIE = 1e-6
_ROWS = 20_000  # compared at a time: 30 MB of vectors as float32

Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Recall:
    """The share of the true ten nearest anchors that a lookup finds, 0 to 1.

    everything: without a filter. filtered: by label. segment: what the index is made of.
    """

    questions: int
    everything: float
    filtered: dict[str, float]
    segment: str
    tail: int


def measure(data: Path, questions: Sequence[str]) -> Recall:
    """Return the recall of lookups over a data folder that no process has.

    The truth are the vectors of the database; both sides use those of the same encoder.
    Raises ServiceFailed where the folder cannot be opened.
    """
    try:
        runtime = open_runtime(Settings(data_dir=data, encoder=DEFAULT_ENCODER, auth="off"))
    except StartupError as error:
        raise ServiceFailed(f"the recall cannot be measured: {error}") from error
    try:
        bring_index_up(runtime.store, runtime.index, lambda _: None)
        runtime.index.wait_idle(3600)
        return _measure(runtime, questions)
    finally:
        runtime.close()


def _measure(runtime: Runtime, questions: Sequence[str]) -> Recall:
    store = runtime.store
    key = store.collection(DEFAULT_COLLECTION).key
    asked = runtime.encoder.encode(questions).vectors
    subsets = {
        label: store.select(key, Filter(label), limit=None, after=store.last_seq())[0]
        for label in SHARES
    }
    truth = exact(asked, store.vectors(key), subsets)
    view = runtime.index.view(key)
    everything = [view.search(vector, K + FURTHER).similarities for vector in asked]
    # Of ten matches the judge chooses among thirty nearest; these thirty are what recall is about.
    lookup = dataclasses.replace(runtime.lookup, further=0)
    filtered = {}
    for label in SHARES:
        where = Filter(label)
        found = [
            [
                match.similarity
                for match in lookup(
                    DEFAULT_COLLECTION, Asked(text, limit=K + FURTHER, where=where)
                ).matches
            ]
            for text in questions
        ]
        filtered[label] = recall_of(found, truth[label])
    return Recall(
        questions=len(questions),
        everything=recall_of(everything, truth[""]),
        filtered=filtered,
        segment=view.segment.kind,
        tail=len(view.tail),
    )


def exact(
    asked: Vectors,
    batches: Iterable[tuple[Rows, NDArray[np.float16]]],
    subsets: Mapping[str, Rows],
) -> dict[str, Vectors]:
    """Return the similarities of the nearest `K`, (questions, K) best first, by subset.

    asked: (questions, dim) unit length. batches: seqs, ascending, and vectors. subsets: the seqs of
    each, ascending; all together are under "". Where a subset has fewer, the rest is -inf.
    """
    best = {name: np.full((len(asked), K), -np.inf, np.float32) for name in ("", *subsets)}
    for seqs, rows in _together(batches):
        vectors = rows.astype(np.float32)
        best[""] = _better(best[""], asked, vectors)
        for name, subset in subsets.items():
            here = np.isin(seqs, subset, assume_unique=True)
            if here.any():
                best[name] = _better(best[name], asked, vectors[here])
    return {name: np.minimum(values, 1.0) for name, values in best.items()}


def recall_of(found: Sequence[Sequence[float] | Vectors], truth: Vectors) -> float:
    """Return the share of the true nearest that were found, 0 to 1.

    found: similarities for each question, in any order. truth: (questions, K), -inf where there are
    no more. An anchor as similar as the last of the true ones, within `TIE`, is right: which of
    equals comes first is no matter of recall.
    """
    right = owed = 0
    for similarities, best in zip(found, truth, strict=True):
        count = int(np.count_nonzero(np.isfinite(best)))
        owed += count
        if count:
            values = np.asarray(similarities, np.float64)
            right += min(count, int(np.count_nonzero(values >= best[count - 1] - TIE)))
    return right / owed if owed else 1.0


def _better(best: Vectors, asked: Vectors, vectors: Vectors) -> Vectors:
    values, _ = faiss.knn(asked, vectors, min(K, len(vectors)), faiss.METRIC_INNER_PRODUCT)
    together: Vectors = -np.sort(-np.concatenate([best, values], axis=1), axis=1)[:, :K]
    return together


def _together(
    batches: Iterable[tuple[Rows, NDArray[np.float16]]],
) -> Iterable[tuple[Rows, NDArray[np.float16]]]:
    """Yield the same rows, about `_ROWS` at a time."""
    held: list[tuple[Rows, NDArray[np.float16]]] = []
    for batch in batches:
        held.append(batch)
        if sum(len(seqs) for seqs, _ in held) >= _ROWS:
            yield _joined(held)
            held = []
    if held:
        yield _joined(held)


def _joined(
    held: Sequence[tuple[Rows, NDArray[np.float16]]],
) -> tuple[Rows, NDArray[np.float16]]:
    return np.concatenate([seqs for seqs, _ in held]), np.concatenate([rows for _, rows in held])
