"""A `VectorIndex` in plain NumPy, exact and unsaved: for tests, and for a file's duplicates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.domain.anchors import Change
from app.domain.ports import Hits

_COLUMNS = 8192  # rows that are multiplied at a time: the products stay some dozen megabytes
_ROUNDING = 1e-6  # how far an estimate may lie from the final similarity


@dataclass(frozen=True, slots=True)
class MemoryView:
    """A `VectorView` over one array.

    seqs: (n,) int64, ascending. held: (n, dim) float16. seq: the last change applied.
    """

    seqs: NDArray[np.int64]
    held: NDArray[np.float16]
    seq: int

    def __len__(self) -> int:
        """Return how many vectors it holds."""
        return len(self.seqs)

    def search(self, vector: NDArray[np.float32], k: int) -> Hits:
        """Return the `k` most similar, fewer where it holds fewer. vector: (dim,) unit length."""
        values = _cosines(self.held, vector)
        best = np.lexsort((self.seqs, -values))[: max(k, 0)]
        return Hits(self.seqs[best], values[best], self.held[best])

    def similarities(
        self, seqs: NDArray[np.int64], vector: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the cosine of each of `seqs`, exactly; NaN for one it does not hold."""
        found = np.full(len(seqs), np.nan, np.float32)
        if len(self.seqs):
            at = np.minimum(np.searchsorted(self.seqs, seqs), len(self.seqs) - 1)
            known = self.seqs[at] == seqs
            found[known] = _cosines(self.held[at[known]], vector)
        return found

    def nearest(self, seqs: NDArray[np.int64], vector: NDArray[np.float32], k: int) -> Hits | None:
        """Return the `k` most similar of `seqs`, exactly; None where it does not hold one."""
        held = np.isin(self.seqs, seqs, assume_unique=True)
        if np.count_nonzero(held) < len(seqs):
            return None
        return MemoryView(self.seqs[held], self.held[held], self.seq).search(vector, k)

    def vectors(self, seqs: NDArray[np.int64]) -> NDArray[np.float16]:
        """Return the stored vector of each of `seqs`, (n, dim); NaN for one it does not hold."""
        found = np.full((len(seqs), self.held.shape[1]), np.nan, np.float16)
        if len(self.seqs):
            at = np.minimum(np.searchsorted(self.seqs, seqs), len(self.seqs) - 1)
            known = self.seqs[at] == seqs
            found[known] = self.held[at[known]]
        return found

    def search_many(self, vectors: NDArray[np.float32], k: int, least: float) -> Sequence[Hits]:
        """Return, for each vector, what `search` does, without what is less similar than `least`.

        Here a matrix product is worth the threads it takes: it is one for many vectors.
        """
        queries = vectors.astype(np.float32)
        near = [_Nearest(k, least) for _ in queries]
        for start in range(0, len(self) if k > 0 else 0, _COLUMNS):
            values = queries @ self.held[start : start + _COLUMNS].astype(np.float32).T
            bounds = np.array([one.bound for one in near], np.float32)
            rows, columns = np.nonzero(values >= bounds[:, np.newaxis])
            ends = np.searchsorted(rows, np.arange(len(queries) + 1))
            for row in np.unique(rows):
                places = columns[ends[row] : ends[row + 1]]
                near[row].add(start + places, values[row, places])
        return [one.hits(self, query, least) for one, query in zip(near, queries, strict=True)]

    def compacted(self, pace: Callable[[], None]) -> MemoryView:  # noqa: ARG002 - the port's
        """Return itself: it is one array already."""
        return self

    def apply(self, changes: Sequence[Change]) -> MemoryView:
        """Return the view after `changes`, in ascending seq; this one stays as it is."""
        changes = [change for change in changes if change.seq > self.seq]
        if not changes:
            return self
        added = [(c.seq, c.vector) for c in changes if c.vector is not None]
        seqs, vectors = self.seqs, self.held
        if added:
            seqs = np.concatenate([seqs, np.array([seq for seq, _ in added], np.int64)])
            vectors = np.concatenate([vectors, np.stack([v for _, v in added]).astype(np.float16)])
        keep = ~np.isin(seqs, [c.removed for c in changes if c.removed is not None])
        return MemoryView(seqs[keep], vectors[keep], changes[-1].seq)


class _Nearest:
    """The `k` best places found so far, and those so close behind that rounding may decide.

    bound: what is below need not be added.
    """

    def __init__(self, k: int, least: float) -> None:
        self.bound = least - _ROUNDING
        self._k = k
        self._places = np.empty(0, np.int64)
        self._values = np.empty(0, np.float32)

    def add(self, places: NDArray[np.int64], values: NDArray[np.float32]) -> None:
        """Take further places into account, with their estimated similarities."""
        self._places = np.concatenate([self._places, places])
        self._values = np.concatenate([self._values, values])
        if len(self._places) > self._k:
            last = float(np.partition(self._values, -self._k)[-self._k])
            self.bound = max(self.bound, last - _ROUNDING)
            keep = self._values >= self.bound
            self._places, self._values = self._places[keep], self._values[keep]

    def hits(self, view: MemoryView, query: NDArray[np.float32], least: float) -> Hits:
        """Return the best of them by their final similarities, none below `least`."""
        values = _cosines(view.held[self._places], query)
        best = np.lexsort((view.seqs[self._places], -values))[: self._k]
        best = best[values[best] >= least]
        places = self._places[best]
        return Hits(view.seqs[places], values[best], view.held[places])


class MemoryIndex:
    """A `VectorIndex` that answers exactly and forgets everything when the process ends."""

    def __init__(self, dimension: int) -> None:
        """Begin with no collection. dimension: the length of a vector."""
        self._empty = MemoryView(np.empty(0, np.int64), np.empty((0, dimension), np.float16), 0)
        self._views: dict[int, MemoryView] = {}

    def view(self, collection: int) -> MemoryView:
        """Return the current view of a collection, an empty one for one it does not know."""
        return self._views.get(collection, self._empty)

    def apply(self, collection: int, changes: Sequence[Change]) -> None:
        """Publish one new view with all of `changes`, in ascending seq."""
        self._views[collection] = self.view(collection).apply(changes)

    def restore(self, collection: int) -> int | None:  # noqa: ARG002 - the port's signature
        """Return None: nothing is ever saved."""
        return None

    def rebuild(
        self,
        collection: int,
        batches: Iterable[tuple[NDArray[np.int64], NDArray[np.float16]]],
        seq: int,
    ) -> None:
        """Publish a view of exactly these vectors, which hold every change up to `seq`."""
        parts = list(batches)
        self._views[collection] = MemoryView(
            np.concatenate([self._empty.seqs, *(seqs for seqs, _ in parts)]),
            np.concatenate([self._empty.held, *(vectors for _, vectors in parts)]),
            seq,
        )

    def saved_seq(self, collection: int) -> int | None:  # noqa: ARG002 - the port's signature
        """Return None: nothing is ever saved."""
        return None

    def drop(self, collection: int) -> None:
        """Forget a collection."""
        self._views.pop(collection, None)

    def retain(self, collections: AbstractSet[int]) -> None:
        """Drop every collection but these."""
        for collection in set(self._views) - collections:
            self.drop(collection)

    def close(self) -> None:
        """Do nothing: there is nothing to save and no background work."""


def _cosines(vectors: NDArray[np.float16], vector: NDArray[np.float32]) -> NDArray[np.float32]:
    # Not a matrix product: for that BLAS starts threads, which wait for each other when a machine
    # is busy.
    values: NDArray[np.float32] = np.einsum(
        "ij,j->i", vectors.astype(np.float32), vector.astype(np.float32)
    )
    return np.clip(values, -1, 1, out=values)
