"""FAISS against a brute-force oracle, over random histories of a collection.

The components are small multiples of 1/16, so every inner product is exact in float32 and equal
similarities are equal to the last bit in any order of summation.
"""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from app.domain.anchors import Change
from app.index.kernels import float16_index, similarities
from app.index.segment import Segment, flat_segment
from app.index.view import FaissView

Step = tuple[list[tuple[NDArray[np.float16] | None, int | None]], bool, bool]

DIMENSION = 8
ALWAYS, NEVER = 10**6, 0  # below how many vectors a search is exact

vectors = arrays(np.int8, DIMENSION, elements=st.integers(-3, 3)).map(
    lambda cells: cells.astype(np.float16) / np.float16(16)
)
# A step adds vectors, updating or deleting versions picked by their place among the live ones;
# it may be staged and thrown away first, and a merge may follow.
changes = st.tuples(st.none() | vectors, st.none() | st.integers(0, 10**6))
steps = st.tuples(st.lists(changes, max_size=12), st.booleans(), st.booleans())


@dataclass
class Oracle:
    """The live vectors by seq, and the obvious way to search them."""

    live: dict[int, NDArray[np.float16]] = field(default_factory=dict)

    def cosine(self, seq: int, question: NDArray[np.float32]) -> float:
        """Return the cosine of a live row."""
        exact = float(self.live[seq].astype(np.float64) @ question.astype(np.float64))
        return min(max(exact, -1.0), 1.0)

    def search(self, question: NDArray[np.float32], k: int) -> list[tuple[int, float]]:
        """Return the (seq, cosine) of the k nearest, best first."""
        ranked = sorted((-self.cosine(seq, question), seq) for seq in self.live)
        return [(seq, -value) for value, seq in ranked[:k]]


def history(view: FaissView, oracle: Oracle, drawn: list[Step]) -> FaissView:
    """Return the view after the drawn steps, and bring the oracle to the same state."""
    for step, staged, merged in drawn:
        log = []
        seq = view.seq
        for vector, place in step:
            seq += 1
            removed = (
                sorted(oracle.live)[place % len(oracle.live)] if place and oracle.live else None
            )
            if removed is not None:
                del oracle.live[removed]
            if vector is not None:
                oracle.live[seq] = vector
            log.append(Change(seq, removed, vector))
        if staged:
            view.apply([Change(c.seq, None, np.ones(DIMENSION, np.float16)) for c in log])
            view.apply(log)
        view = view.apply(log)
        if merged:
            view = view.folded(lambda: None)
    return view


def empty(exact_below: int) -> FaissView:
    segment = Segment("flat", float16_index(DIMENSION), np.empty(0, np.int64))
    return FaissView.over(segment, None, 0, exact_below)


@settings(max_examples=100)
@given(st.lists(steps, max_size=8), vectors, st.integers(0, 12))
def test_flat_search_equals_brute_force(
    drawn: list[Step], question: NDArray[np.float16], k: int
) -> None:
    """An exact view finds what brute force finds, ties included, whatever its history."""
    oracle = Oracle()
    view = history(empty(ALWAYS), oracle, drawn)
    asking = question.astype(np.float32)
    hits = view.search(asking, k)
    assert len(view) == len(oracle.live)
    assert list(zip(hits.seqs.tolist(), hits.similarities.tolist(), strict=True)) == oracle.search(
        asking, k
    )


@settings(max_examples=100)
@given(st.lists(steps, max_size=8), vectors, st.integers(0, 12))
def test_graph_search_tells_no_lies(
    drawn: list[Step], question: NDArray[np.float16], k: int
) -> None:
    """Through a graph come as many as are owed: live, distinct, in order, with true cosines."""
    oracle = Oracle()
    view = history(empty(NEVER), oracle, drawn)
    asking = question.astype(np.float32)
    hits = view.search(asking, k)
    assert len(view) == len(oracle.live)
    assert len(hits.seqs) == min(k, len(oracle.live)) == len(set(hits.seqs.tolist()))
    pairs = list(zip(hits.seqs.tolist(), hits.similarities.tolist(), strict=True))
    assert [value for _, value in pairs] == [oracle.cosine(seq, asking) for seq, _ in pairs]
    assert pairs == sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


@pytest.mark.parametrize("exact_below", [ALWAYS, NEVER])
@settings(max_examples=100)
@given(st.lists(steps, max_size=8), vectors, st.lists(st.integers(0, 100), max_size=30))
def test_similarities_equal_brute_force(
    exact_below: int, drawn: list[Step], question: NDArray[np.float16], asked: list[int]
) -> None:
    """Similarities of any rows are the true cosines, NaN exactly where a row is not live."""
    oracle = Oracle()
    view = history(empty(exact_below), oracle, drawn)
    asking = question.astype(np.float32)
    answer = view.similarities(np.array(asked, np.int64), asking)
    for seq, value in zip(asked, answer.tolist(), strict=True):
        if seq in oracle.live:
            assert value == oracle.cosine(seq, asking)
        else:
            assert np.isnan(value)


@pytest.mark.parametrize("dimension", [8, 20, 384, 768])
def test_a_flat_scan_compares_as_similarities_does(dimension: int) -> None:
    """To the last bit, whatever the place and the company: no hit is compared a second time."""
    drawn = np.random.default_rng(dimension).normal(size=(1_003, dimension))
    rows = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float16)
    seqs = np.arange(1, len(rows) + 1)
    view = FaissView.over(
        flat_segment(dimension, [(seqs, rows)], lambda: None), None, 1_003, ALWAYS
    )
    for hits, asked in zip(
        view.search_many(rows[:9].astype(np.float32), 50, -2.0), rows, strict=False
    ):
        assert np.array_equal(
            hits.similarities, similarities(rows[hits.seqs - 1], asked.astype(np.float32))
        )


def test_a_tie_of_all_rows_fetches_no_more_than_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest of equal ones, for several questions at once; not every row for each of them."""
    rows = np.tile(np.eye(1, DIMENSION, dtype=np.float16), (500, 1))
    seqs = np.arange(1, len(rows) + 1)
    view = FaissView.over(flat_segment(DIMENSION, [(seqs, rows)], lambda: None), None, 500, ALWAYS)
    fetched: list[int] = []
    fetch = Segment.rows

    def counted(segment: Segment, positions: NDArray[np.int64]) -> NDArray[np.float16]:
        fetched.append(len(positions))
        return fetch(segment, positions)

    monkeypatch.setattr(Segment, "rows", counted)
    for hits in view.search_many(rows[:4].astype(np.float32), 5, -2.0):
        assert hits.seqs.tolist() == [1, 2, 3, 4, 5]
    assert sum(fetched) == 20
