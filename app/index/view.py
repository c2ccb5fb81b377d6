"""One collection's vectors at one moment: a segment, a tail, and which of their rows are dead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from app.domain.anchors import Change
from app.domain.ports import Hits
from app.index.kernels import as_query, similarities
from app.index.segment import Pace, Segment, extended_segment, flat_segment, hnsw_segment
from app.index.tail import Tail

# How far two estimates of one similarity may lie apart; rows closer than this count as a tie
# until their final similarities are known.
_TIE = 1e-6
_REBUILD_AT = 0.2  # share of a graph's rows whose death makes a new graph worth its time
_GATHER_ROWS = 4096


@dataclass(frozen=True, slots=True)
class FaissView:
    """A `VectorView` over a segment and a tail; every seq of the tail is later.

    alive: a bit for each row of the segment, lowest first; None where all are alive.
    dead: how many rows of the segment are not alive.
    seq: the last change applied.
    exact_below: with fewer vectors than this a search is exhaustive.
    """

    segment: Segment
    alive: NDArray[np.uint8] | None
    dead: int
    tail: Tail
    seq: int
    exact_below: int

    @classmethod
    def over(
        cls, segment: Segment, alive: NDArray[np.uint8] | None, seq: int, exact_below: int
    ) -> FaissView:
        """Return the view of a segment alone, which holds every change up to `seq`."""
        dead = 0
        if alive is not None:
            dead = len(segment) - int(np.bitwise_count(alive).sum())
        return cls(segment, alive, dead, Tail.empty(segment.dimension), seq, exact_below)

    def __len__(self) -> int:
        """Return how many vectors it holds."""
        return len(self.segment) - self.dead + self.tail.live

    @property
    def loose(self) -> int:
        """Return how many rows a merge would move or remove."""
        return self.dead + len(self.tail)

    def search(self, vector: NDArray[np.float32], k: int) -> Hits:
        """Return the `k` most similar, fewer where it holds fewer. vector: (dim,) unit length."""
        query = as_query(vector)
        old = self._nearest(query, min(k, len(self.segment) - self.dead))
        new = self.tail.nearest(query, k, _TIE)
        seqs = np.concatenate([self.segment.seqs[old], self.tail.seqs[new]])
        rows = np.concatenate([self.segment.rows(old), self.tail.rows(new)])
        values = similarities(rows, query)
        best = np.lexsort((seqs, -values))[: max(k, 0)]
        return Hits(seqs[best], values[best])

    def similarities(
        self, seqs: NDArray[np.int64], vector: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the cosine of each of `seqs`, exactly; NaN for one it does not hold."""
        found = np.full(len(seqs), np.nan, np.float32)
        query = as_query(vector)
        old = self._alive_positions(seqs)
        new = self.tail.positions(seqs)
        found[old >= 0] = similarities(self.segment.rows(old[old >= 0]), query)
        found[new >= 0] = similarities(self.tail.rows(new[new >= 0]), query)
        return found

    def apply(self, changes: Sequence[Change]) -> FaissView:
        """Return the view after `changes`, in ascending seq; this one stays as it is.

        Changes that it has applied already are passed over, so a log may be replayed from before.
        """
        changes = [change for change in changes if change.seq > self.seq]
        if not changes:
            return self
        added = [(c.seq, c.vector) for c in changes if c.vector is not None]
        removed = np.array([c.removed for c in changes if c.removed is not None], np.int64)
        tail = self.tail
        if added:
            seqs = np.array([seq for seq, _ in added], np.int64)
            tail = tail.extended(seqs, np.stack([vector for _, vector in added]))
        alive, dead = self._without(removed)
        return replace(
            self,
            alive=alive,
            dead=dead,
            tail=tail.without(removed) if len(removed) else tail,
            seq=changes[-1].seq,
        )

    def folded(self, pace: Pace) -> FaissView:
        """Return the same vectors with an empty tail: a new segment holds them.

        A graph is copied and extended while few of its rows are dead, which then stay in it as
        tombstones: building one takes as long as a few hundred thousand searches.
        pace: called between two steps; it may raise to abandon the work.
        """
        graph = self.segment.kind == "hnsw"
        if len(self) < self.exact_below:
            segment = flat_segment(self.segment.dimension, self.batches(), pace)
        elif graph and self.dead < _REBUILD_AT * len(self.segment):
            segment = extended_segment(self.segment, self.tail.batches(), pace)
            return replace(
                self,
                segment=segment,
                alive=_lengthened(self.alive, len(self.segment), len(segment)),
                tail=Tail.empty(segment.dimension),
            )
        else:
            segment = hnsw_segment(self.segment.dimension, self.batches(), pace)
        return FaissView.over(segment, None, self.seq, self.exact_below)

    def batches(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
        """Yield the live rows, in ascending seq."""
        for start in range(0, len(self.segment), _GATHER_ROWS):
            positions = np.arange(start, min(start + _GATHER_ROWS, len(self.segment)))
            positions = positions[self._is_alive(positions)]
            yield self.segment.seqs[positions], self.segment.rows(positions)
        yield from self.tail.batches()

    def _nearest(self, query: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """Return the positions of the segment's `k` nearest rows, and of more that tie."""
        if k <= 0:
            return np.empty(0, np.int64)
        exact = self.segment.kind == "flat" or len(self) < self.exact_below
        live = len(self.segment) - self.dead
        fetch = min(k + 8, live)
        while True:
            found, values = self.segment.search(query, fetch, self.alive, exact=exact)
            if not exact and len(found) < k:
                # Parts of a graph that no path reaches: rare, and a full answer is owed.
                exact = True
                continue
            if not exact or len(found) == live:
                return found
            if values[-1] < min(float(values[k - 1]), 1.0) - _TIE:
                return found
            fetch = min(4 * fetch, live)

    def _alive_positions(self, seqs: NDArray[np.int64]) -> NDArray[np.int64]:
        positions = self.segment.positions(seqs)
        held = positions >= 0
        held[held] = self._is_alive(positions[held])
        return np.where(held, positions, -1)

    def _is_alive(self, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        if self.alive is None:
            return np.ones(len(positions), np.bool_)
        alive: NDArray[np.bool_] = (self.alive[positions >> 3] >> (positions & 7)) & 1 == 1
        return alive

    def _without(self, seqs: NDArray[np.int64]) -> tuple[NDArray[np.uint8] | None, int]:
        """Return the alive bits and the count of dead rows once these, too, are dead."""
        positions = np.unique(self._alive_positions(seqs))
        positions = positions[positions >= 0]
        if not len(positions):
            return self.alive, self.dead
        alive = _all_alive(len(self.segment)) if self.alive is None else self.alive.copy()
        np.bitwise_and.at(alive, positions >> 3, ~(np.uint8(1) << (positions & 7).astype(np.uint8)))
        return alive, self.dead + len(positions)


def _all_alive(rows: int) -> NDArray[np.uint8]:
    return np.packbits(np.ones(rows, np.bool_), bitorder="little")


def _lengthened(alive: NDArray[np.uint8] | None, old: int, new: int) -> NDArray[np.uint8] | None:
    if alive is None:
        return None
    bits = np.ones(new, np.bool_)
    bits[:old] = np.unpackbits(alive, count=old, bitorder="little")
    return np.packbits(bits, bitorder="little")
