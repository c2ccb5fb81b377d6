"""The nearest anchors that a filter admits."""

from __future__ import annotations

import hashlib
import math
import threading
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from app.domain.anchors import Filter, canonical_json
from app.domain.ports import AnchorReader, Hits, VectorView

NARROW = 10_000
WIDENING = (256, 2_048, 8_192)
# A filter that admits a share s of the anchors needs about k / s nearest ones for k; some more, as
# what is near a question is no fair sample.
_SPARE = 1.5
# Changes after which selecting anew costs less than following the log.
_FOLLOWED = 2_000
# Seqs kept of all filters together, 8 bytes each; and what a filter itself takes, in seqs.
_KEPT = 2_000_000
_A_FILTER = 64

Seqs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Selection:
    """What a filter admitted, ascending, when all changes up to `seq` had been made.

    seqs: None where it admits so many that they were not all read.
    """

    seqs: Seqs | None
    seq: int

    @property
    def size(self) -> int:
        """Return what it takes, in seqs."""
        return _A_FILTER + (0 if self.seqs is None else len(self.seqs))


class Selections:
    """What filters admit, kept from lookup to lookup and brought up to date by the change log.

    A filter is most often asked for again and again, a product or a language; reading what it
    admits out of the database takes longer than all else in a lookup.
    """

    def __init__(self, rows: AnchorReader, limit: int = _KEPT) -> None:
        """Prepare to keep up to `limit` seqs, those of the filters asked for last."""
        self._rows = rows
        self._limit = limit
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, bytes], _Selection] = OrderedDict()
        self._size = 0

    def few(
        self, collection: int, view: VectorView, where: Filter, narrow: int
    ) -> tuple[Seqs, VectorView] | None:
        """Return what is admitted, None where that is not known and more than `narrow`.

        With it comes the view brought to the same moment.
        """
        known = self._find(collection, where)
        if known is not None and known.seqs is None:
            return None
        if known is not None and known.seqs is not None:
            return self._brought_up(collection, view, where, known.seqs, known.seq)
        seqs, newer = self._rows.select(collection, where, limit=narrow + 1, after=view.seq)
        latest = view.apply(newer)
        if len(seqs) > narrow:
            self._keep(collection, where, _Selection(None, latest.seq))
            return None
        self._keep(collection, where, _Selection(seqs, latest.seq))
        return seqs, latest

    def every(self, collection: int, view: VectorView, where: Filter) -> tuple[Seqs, VectorView]:
        """Return what is admitted, however much, and the view brought to the same moment."""
        seqs, newer = self._rows.select(collection, where, limit=None, after=view.seq)
        # Selecting many takes long enough for writes to come in between: the log says which.
        latest = view.apply(newer)
        self._keep(collection, where, _Selection(seqs, latest.seq))
        return seqs, latest

    def _brought_up(
        self, collection: int, view: VectorView, where: Filter, seqs: Seqs, seq: int
    ) -> tuple[Seqs, VectorView]:
        since = self._rows.select_since(collection, where, seq, limit=_FOLLOWED, after=view.seq)
        if since is None:
            return self.every(collection, view, where)
        latest = view.apply(since.newer)
        if len(since.gone):
            # Not `isin`, which sorts all of them.
            gone = since.gone[_among(since.gone, seqs)]
            seqs = np.delete(seqs, np.searchsorted(seqs, gone))
        if len(since.come):
            seqs = np.concatenate([seqs, since.come])
        if latest.seq > seq:
            self._keep(collection, where, _Selection(seqs, latest.seq))
        return seqs, latest

    def _find(self, collection: int, where: Filter) -> _Selection | None:
        key = _key(collection, where)
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def _keep(self, collection: int, where: Filter, selection: _Selection) -> None:
        """Keep a selection, unless a later one of the same filter is kept.

        Of one that is too large it is kept that it admits many: others need not go for it.
        """
        if selection.size > self._limit:
            selection = _Selection(None, selection.seq)
        key = _key(collection, where)
        with self._lock:
            before = self._kept.get(key)
            if before is not None:
                if selection.seqs is None or (
                    before.seqs is not None and before.seq >= selection.seq
                ):
                    return
                self._size -= before.size
            self._kept[key] = selection
            self._kept.move_to_end(key)
            self._size += selection.size
            while self._size > self._limit:
                _, gone = self._kept.popitem(last=False)
                self._size -= gone.size


def _key(collection: int, where: Filter) -> tuple[int, bytes]:
    """Return what stands for a filter: a hash, as metadata may be thousands of characters."""
    told = canonical_json([where.label, dict(where.metadata)])
    return collection, hashlib.blake2b(told.encode(), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Filtered:
    """Finds the nearest anchors that a filter admits.

    narrow: a filter that admits no more anchors is answered by looking at each of them.
    widening: a wider one is answered out of so many nearest anchors, then out of more.
    """

    rows: AnchorReader
    narrow: int = NARROW
    widening: tuple[int, ...] = WIDENING
    _selections: Selections = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_selections", Selections(self.rows))

    def __call__(
        self,
        collection: int,
        view: VectorView,
        where: Filter,
        vector: NDArray[np.float32],
        wanted: int,
    ) -> tuple[Hits, VectorView] | None:
        """Return the `wanted` nearest that `where` admits, with a view that holds them all.

        None where view and database disagree. vector: (dim,) float32, unit length.
        """
        few = self._selections.few(collection, view, where, self.narrow)
        if few is None:
            hits = self._among_nearest(view, where, vector, wanted)
            if hits is not None:
                return hits, view
            few = self._selections.every(collection, view, where)
        seqs, latest = few
        # Of what came after the view, which the log may no longer tell; the rest it holds itself.
        fresh = seqs[np.searchsorted(seqs, view.seq, side="right") :]
        if np.isnan(latest.similarities(fresh, vector)).any():
            return None
        if len(seqs) > self.narrow:
            for k in self._depths(len(seqs) / max(len(latest), 1), wanted):
                hits = latest.search(vector, k)
                admitted = np.flatnonzero(_among(hits.seqs, seqs))
                if len(admitted) >= wanted:
                    return hits.kept(admitted[:wanted]), latest
        near = latest.nearest(seqs, vector, wanted)
        return None if near is None else (near, latest)

    def _among_nearest(
        self, view: VectorView, where: Filter, vector: NDArray[np.float32], wanted: int
    ) -> Hits | None:
        """Return what is admitted of a few nearest, by reading these; None where that is less."""
        if not self.widening:
            return None
        hits = view.search(vector, self.widening[0])
        anchors = self.rows.by_seq(hits.seqs.tolist())
        if len(anchors) != len(hits.seqs):
            return None  # a write came in between; selecting has the log to help
        admitted = [where.admits(anchors[seq]) for seq in hits.seqs.tolist()]
        places = np.flatnonzero(admitted)
        return hits.kept(places[:wanted]) if len(places) >= wanted else None

    def _depths(self, share: float, wanted: int) -> list[int]:
        """Return how many nearest to look at, in turn, where so large a share is admitted."""
        first = math.ceil(_SPARE * wanted / share)
        further = [k for k in self.widening if k > first]
        return [first, *further] if further else []


def _among(seqs: Seqs, ascending: Seqs) -> NDArray[np.bool_]:
    """Return which of `seqs` are among others."""
    if not len(ascending):
        return np.zeros(len(seqs), np.bool_)
    at = np.minimum(np.searchsorted(ascending, seqs), len(ascending) - 1)
    found: NDArray[np.bool_] = ascending[at] == seqs
    return found
