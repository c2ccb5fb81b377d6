"""What every `VectorView` does for whoever searches with many vectors at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from app.domain.anchors import Change
from app.domain.ports import Hits, VectorIndex
from app.index import view as view_module
from app.index.faiss_index import FaissIndex
from app.index.memory import MemoryIndex

DIMENSION = 8


def faiss_index(folder: Path, exact_below: int, merge_least: int) -> FaissIndex:
    return FaissIndex(
        folder,
        DIMENSION,
        encoder="an encoder",
        store="a database",
        exact_below=exact_below,
        merge_least=merge_least,
    )


KINDS: dict[str, Callable[[Path], VectorIndex]] = {
    "memory": lambda _: MemoryIndex(DIMENSION),
    "faiss, never merged": lambda folder: faiss_index(folder, 1000, 1000),
    "faiss, always merged": lambda folder: faiss_index(folder, 1000, 1),
    "faiss, always a graph": lambda folder: faiss_index(folder, 1, 1),
    "faiss, a graph that waits to be made": lambda folder: faiss_index(folder, 4, 1000),
}


@pytest.fixture(params=KINDS)
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VectorIndex]:
    index = KINDS[request.param](tmp_path)
    yield index
    index.close()


def no_wait() -> None:
    pass


def found(hits: Hits) -> list[tuple[int, float]]:
    return list(zip(hits.seqs.tolist(), hits.similarities.tolist(), strict=True))


# Multiples of 1/16: every inner product is exact in float32, whatever the order of summation.
vectors = arrays(np.int8, DIMENSION, elements=st.integers(-3, 3)).map(
    lambda cells: cells.astype(np.float16) / np.float16(16)
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    held=st.lists(vectors, max_size=30),
    gone=st.sets(st.integers(1, 30), max_size=6),
    asked=st.lists(vectors, max_size=5),
    k=st.integers(0, 12),
    least=st.sampled_from([-2.0, 0.0, 0.05, 0.25]),
)
def test_many_searches_find_what_each_alone_does(
    index: VectorIndex,
    *,
    held: list[NDArray[np.float16]],
    gone: set[int],
    asked: list[NDArray[np.float16]],
    k: int,
    least: float,
) -> None:
    """Above `least`, ties included; also after compaction, which changes no vector."""
    index.drop(1)
    index.apply(1, [Change(seq, None, vector) for seq, vector in enumerate(held, 1)])
    index.apply(1, [Change(100 + seq, seq, None) for seq in sorted(gone)])
    view = index.view(1)
    questions = np.array(asked, np.float32).reshape(len(asked), DIMENSION)
    alone = [[hit for hit in found(view.search(q, k)) if hit[1] >= least] for q in questions]
    assert [found(hits) for hits in view.search_many(questions, k, least)] == alone
    compacted = view.compacted(no_wait)
    assert len(compacted) == len(view)
    assert compacted.seq == view.seq
    assert [found(hits) for hits in compacted.search_many(questions, k, least)] == alone


def test_a_search_says_what_similarities_says(index: VectorIndex) -> None:
    """To the last bit, for rows of a segment with dead ones among them, and of a tail."""
    made = np.random.default_rng(3).normal(size=(90, DIMENSION))
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    rows = made.astype(np.float16)
    index.rebuild(1, [(np.arange(1, 61), rows[:60])], 60)
    index.apply(1, [Change(100 + seq, seq, None) for seq in range(1, 60, 7)])
    index.apply(1, [Change(201 + place, None, row) for place, row in enumerate(rows[60:])])
    view = index.view(1)
    questions = made[:5].astype(np.float32)
    for held in (view, view.compacted(no_wait)):
        for question, hits in zip(questions, held.search_many(questions, 40, -2.0), strict=True):
            assert len(hits.seqs) == 40
            assert np.array_equal(hits.similarities, held.similarities(hits.seqs, question))
            assert np.array_equal(hits.vectors, held.vectors(hits.seqs))


def test_vectors_in_the_order_asked(index: VectorIndex) -> None:
    """To the last bit, wherever they lie; NaN for a version that is gone, or never was."""
    made = np.random.default_rng(1).normal(size=(5, DIMENSION)).astype(np.float16)
    index.apply(1, [Change(seq, None, vector) for seq, vector in enumerate(made, 1)])
    index.apply(1, [Change(6, 2, made[1][::-1].copy())])
    view = index.view(1)
    asked = np.array([6, 3, 1, 3])
    expected = np.stack([made[1][::-1], made[2], made[0], made[2]])
    assert np.array_equal(view.vectors(asked), expected)
    assert np.array_equal(view.compacted(no_wait).vectors(asked), expected)
    assert view.vectors(np.empty(0, np.int64)).shape == (0, DIMENSION)
    some = view.vectors(np.array([1, 2, 7, 0]))
    assert np.isnan(some).all(axis=1).tolist() == [False, True, True, True]


def test_a_similarity_is_the_same_from_either_side(index: VectorIndex) -> None:
    """To the last bit: which of two rows asks makes no difference to what a pair is."""
    made = np.random.default_rng(2).normal(size=(20, DIMENSION))
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    index.apply(1, [Change(s, None, v) for s, v in enumerate(made.astype(np.float16), 1)])
    view = index.view(1)
    seqs = np.arange(1, 21)
    rows = view.vectors(seqs).astype(np.float32)
    table = np.stack([view.similarities(seqs, row) for row in rows])
    assert np.array_equal(table, table.T)


@pytest.mark.parametrize("scan_rows", [0, 200], ids=["fetching each", "passing over the others"])
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    held=st.lists(vectors, min_size=1, max_size=30),
    gone=st.sets(st.integers(1, 30), max_size=6),
    later=st.lists(vectors, max_size=6),
    left_out=st.sets(st.integers(0, 35)),
    stray=st.sampled_from([None, None, None, 30, 300]),
    question=vectors,
    k=st.integers(0, 12),
)
def test_the_nearest_of_given_ones_are_what_comparing_each_finds(
    index: VectorIndex,
    monkeypatch: pytest.MonkeyPatch,
    scan_rows: int,
    *,
    held: list[NDArray[np.float16]],
    gone: set[int],
    later: list[NDArray[np.float16]],
    left_out: set[int],
    stray: int | None,
    question: NDArray[np.float16],
    k: int,
) -> None:
    """In a segment and in a tail, among dead ones and copies; None where one of them is gone."""
    monkeypatch.setattr(view_module, "_SCAN_ROWS", scan_rows)
    index.drop(1)
    index.apply(1, [Change(seq, None, vector) for seq, vector in enumerate(held, 1)])
    index.apply(1, [Change(100 + seq, seq, None) for seq in sorted(gone)])
    # What came last is, in most kinds, in no segment yet.
    index.apply(1, [Change(200 + seq, None, vector) for seq, vector in enumerate(later)])
    view = index.view(1)
    left = {seq for seq in range(1, len(held) + 1) if seq not in gone}
    left |= {200 + place for place in range(len(later))}
    chosen = {seq for place, seq in enumerate(sorted(left)) if place not in left_out}
    seqs = np.array(sorted(chosen | ({stray} if stray else set())), np.int64)
    hits = view.nearest(seqs, question.astype(np.float32), k)
    if not set(seqs.tolist()) <= left:
        assert hits is None
        return
    assert hits is not None
    values = view.similarities(seqs, question.astype(np.float32))
    best = np.lexsort((seqs, -values))[:k]
    assert found(hits) == list(zip(seqs[best].tolist(), values[best].tolist(), strict=True))
    assert np.array_equal(hits.vectors, view.vectors(seqs[best]))
