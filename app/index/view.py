"""One collection's vectors at one moment: a segment, a tail, and which of their rows are dead."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from app.domain.anchors import Change
from app.domain.ports import Hits
from app.index.alive import Alive
from app.index.kernels import CHUNK, as_query, final, similarities
from app.index.segment import Pace, Segment, extended_segment, flat_segment, hnsw_segment
from app.index.tail import Tail

# How far two estimates of one similarity may lie apart; rows closer than this count as a tie
# until their final similarities are known.
_TIE = 1e-6
_REBUILD_AT = 0.2  # dead share of a graph's rows: searches cost as much more by then
_GATHER_ROWS = 4096
# Passing over so many rows in a scan of all takes as long as fetching one by its position.
_SCAN_ROWS = 200
_SPARE = 8  # rows fetched beyond those wanted, among which ties are most often settled


@dataclass(frozen=True, slots=True, eq=False)
class _Nearest:
    """Rows of a segment by position, and their similarities where they are final already."""

    positions: NDArray[np.int64]
    values: NDArray[np.float32] | None


_NONE = _Nearest(np.empty(0, np.int64), np.empty(0, np.float32))


@dataclass(frozen=True, slots=True)
class FaissView:
    """A `VectorView` over a segment and a tail; every seq of the tail is later.

    alive: which rows of the segment are alive.
    settled: how many dead ones the last merge left in it.
    seq: the last change applied.
    exact_below: with fewer vectors than this a search is exhaustive.
    """

    segment: Segment
    alive: Alive
    settled: int
    tail: Tail
    seq: int
    exact_below: int

    @classmethod
    def over(
        cls, segment: Segment, alive: NDArray[np.uint8] | None, seq: int, exact_below: int
    ) -> FaissView:
        """Return the view of a segment alone, which holds every change up to `seq`."""
        rows = Alive.of(segment, alive)
        tail = Tail.empty(segment.dimension)
        return cls(segment, rows, rows.dead, tail, seq, exact_below)

    def __len__(self) -> int:
        """Return how many vectors it holds."""
        return len(self.segment) - self.dead + self.tail.live

    @property
    def dead(self) -> int:
        """Return how many rows of the segment are dead."""
        return self.alive.dead

    @property
    def loose(self) -> int:
        """Return how many rows came or went since the last merge."""
        return self.dead - self.settled + len(self.tail)

    @property
    def worn(self) -> bool:
        """Return whether so many rows of a graph are dead that a new one is worth its time."""
        return self.segment.kind == "hnsw" and self.dead >= _REBUILD_AT * len(self.segment)

    def search(self, vector: NDArray[np.float32], k: int) -> Hits:
        """Return the `k` most similar, fewer where it holds fewer. vector: (dim,) unit length."""
        query = as_query(vector)
        return self._hits(query[np.newaxis], k, [self._nearest(query, k)])[0]

    def search_many(self, vectors: NDArray[np.float32], k: int, least: float) -> Sequence[Hits]:
        """Return, for each vector, what `search` does, without what is less similar than `least`.

        vectors: (n, dim) unit length; they share the overhead of a search of the segment.
        """
        queries = np.ascontiguousarray(vectors, np.float32)
        fetch = min(k + _SPARE, self.alive.live_nodes)
        if fetch <= 0 or k <= 0 or not len(queries):
            return [_at_least(self.search(query, k), least) for query in queries]
        found = self.segment.search_many(queries, fetch, self.alive.nodes, exact=self._exact)
        nearest = []
        for query, first in zip(queries, found, strict=True):
            if not self.tail.live and len(first[1]) and first[1][0] < least - _TIE:
                nearest.append(_NONE)  # where duplicates are asked for: most often
                continue
            nearest.append(self._nearest(query, k, first))
        return [_at_least(hits, least) for hits in self._hits(queries, k, nearest)]

    def compacted(self, pace: Pace) -> FaissView:
        """Return the same vectors in a segment alone: each search of a tail reads all of it.

        Where many rows are dead, in one without them: a graph leads through those in vain.
        pace: called between two steps; it may wait, or raise to abandon the work.
        """
        waiting = self.segment.kind == "flat" and len(self) >= self.exact_below
        return self.folded(pace) if self.tail.live or waiting or self.worn else self

    def _hits(
        self, queries: NDArray[np.float32], k: int, nearest: Sequence[_Nearest]
    ) -> list[Hits]:
        """Return, for each query, the `k` best of these rows of the segment and of the tail."""
        hits = []
        for query, near, vectors in zip(queries, nearest, self._rows(nearest), strict=True):
            rows, seqs, values = vectors, self.segment.seqs[near.positions], near.values
            if values is None:
                values = similarities(rows, query)
            if self.tail.live:  # most often there is none
                new = self.tail.nearest(query, k, _TIE)
                more = self.tail.rows(new)
                seqs = np.concatenate([seqs, self.tail.seqs[new]])
                rows = np.concatenate([rows, more])
                values = np.concatenate([values, similarities(more, query)])
            best = _best(seqs, values, max(k, 0))
            hits.append(Hits(seqs[best], values[best], rows[best]))
        return hits

    def _rows(self, nearest: Sequence[_Nearest]) -> Iterator[NDArray[np.float16]]:
        """Yield the vectors of each of these lists of rows."""
        if self.segment.kind == "hnsw":  # twins may make a list long: one at a time
            yield from (self.segment.rows(near.positions) for near in nearest)
            return
        # One copy for all: each gives the interpreter lock away.
        fetched = self.segment.rows(np.concatenate([near.positions for near in nearest]))
        start = 0
        for near in nearest:
            yield fetched[start : start + len(near.positions)]
            start += len(near.positions)

    def similarities(
        self, seqs: NDArray[np.int64], vector: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the cosine of each of `seqs`, exactly; NaN for one it does not hold."""
        found = np.full(len(seqs), np.nan, np.float32)
        query = as_query(vector)
        for part, positions in (
            (self.segment, self.alive.positions(seqs)),
            (self.tail, self.tail.positions(seqs)),
        ):
            held = np.flatnonzero(positions >= 0)
            for start in range(0, len(held), CHUNK):
                places = held[start : start + CHUNK]
                found[places] = similarities(part.rows(positions[places]), query)
        return found

    def nearest(self, seqs: NDArray[np.int64], vector: NDArray[np.float32], k: int) -> Hits | None:
        """Return the `k` most similar of `seqs`, exactly; None where it does not hold one."""
        if len(seqs) * _SCAN_ROWS < len(self.segment):
            values = self.similarities(seqs, vector)
            if np.isnan(values).any():
                return None
            best = np.lexsort((seqs, -values))[: max(k, 0)]
            return Hits(seqs[best], values[best], self.vectors(seqs[best]))
        alive, tail = self.alive.only(seqs), self.tail.only(seqs)
        if len(self.segment) - alive.dead + tail.live < len(seqs):
            return None
        among = replace(self, alive=alive, tail=tail, exact_below=sys.maxsize)
        return among.search(vector, k)

    def vectors(self, seqs: NDArray[np.int64]) -> NDArray[np.float16]:
        """Return the stored vector of each of `seqs`, (n, dim); NaN for one it does not hold."""
        found = np.full((len(seqs), self.segment.dimension), np.nan, np.float16)
        for part, positions in (
            (self.segment, self.alive.positions(seqs)),
            (self.tail, self.tail.positions(seqs)),
        ):
            held = np.flatnonzero(positions >= 0)
            if len(held):
                found[held] = part.rows(positions[held])
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
        return replace(
            self,
            alive=self.alive.without(removed),
            tail=tail.without(removed) if len(removed) else tail,
            seq=changes[-1].seq,
        )

    def folded(self, pace: Pace) -> FaissView:
        """Return the same vectors with an empty tail: a new segment holds them.

        A graph is copied and extended while few of its rows are dead, which then stay in it as
        tombstones: building one takes as long as a few hundred thousand searches.
        pace: called between two steps; it may raise to abandon the work.
        """
        if len(self) < self.exact_below:
            segment = flat_segment(self.segment.dimension, self.batches(), pace)
        elif self.segment.kind == "hnsw" and not self.worn:
            segment = self.segment
            if self.tail.live:
                segment = extended_segment(segment, self.tail.batches(), pace)
            return replace(
                self,
                segment=segment,
                alive=self.alive.extended(segment),
                settled=self.dead,
                tail=Tail.empty(segment.dimension),
            )
        else:
            segment = hnsw_segment(self.segment.dimension, self.batches(), pace)
        return FaissView.over(segment, None, self.seq, self.exact_below)

    def batches(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
        """Yield the live rows, in ascending seq."""
        for start in range(0, len(self.segment), _GATHER_ROWS):
            positions = np.arange(start, min(start + _GATHER_ROWS, len(self.segment)))
            positions = positions[self.alive(positions)]
            yield self.segment.seqs[positions], self.segment.rows(positions)
        yield from self.tail.batches()

    @property
    def _exact(self) -> bool:
        return self.segment.kind == "flat" or len(self) < self.exact_below

    def _nearest(
        self,
        query: NDArray[np.float32],
        k: int,
        first: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None,
    ) -> _Nearest:
        """Return the segment's `k` nearest rows; of a graph more, among which they are.

        first: what a search for the `k + _SPARE` nearest nodes found, where it was made already.
        """
        live = self.alive.live_nodes
        wanted = min(k, live)
        if wanted <= 0:
            return _NONE
        exact = self._exact
        fetch = min(k + _SPARE, live)
        while True:
            if first is None:
                first = self.segment.search(query, fetch, self.alive.nodes, exact=exact)
            (nodes, values), first = first, None
            if not exact and len(nodes) < wanted:
                # Some nodes no path leads to: rare, and a full answer is owed.
                exact = True
                continue
            if not exact or len(nodes) < fetch or fetch == live:
                break
            if values[-1] < min(float(values[wanted - 1]), 1.0) - _TIE:
                break
            fetch = min(4 * fetch, live)
        positions = self.alive.rows_of(nodes, k)
        if self.segment.kind == "hnsw":
            return _Nearest(positions, None)
        values = final(values)
        best = _best(self.segment.seqs[positions], values, k)
        return _Nearest(positions[best], values[best])


def _best(
    seqs: NDArray[np.int64], values: NDArray[np.float32], k: int
) -> slice | NDArray[np.int64]:
    """Return where the `k` most similar are, the older first of two that are equally so."""
    if bool((values[:-1] > values[1:]).all()):
        return slice(k)  # most often: no copy, no sorting
    return np.lexsort((seqs, -values))[:k]


def _at_least(hits: Hits, least: float) -> Hits:
    """Return the hits without those less similar than `least`; the last is the least similar."""
    if not len(hits.seqs) or hits.similarities[-1] >= least:
        return hits
    return hits.kept(hits.similarities >= least)
