"""The anchors that say what a text is: the nearest that have a label, of enough labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from app.domain.anchors import Filter
from app.domain.labels import ANCHORS, LABELS
from app.domain.ports import AnchorReader, VectorView
from app.usecases.filtered import NARROW

WIDENING = (128, 1_024, 8_192)
# Labels of anchor versions that are remembered: a version never changes.
REMEMBERED = 200_000
# What labels further off could add to all probabilities together, at most about so much.
NEGLIGIBLE = 0.01

Floats = NDArray[np.float32]
Seqs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Anchors that have a label, the most similar first, and a view that holds them all."""

    seqs: Seqs
    similarities: Floats
    labels: Sequence[str]
    view: VectorView


@dataclass(frozen=True, slots=True)
class Labelled:
    """Finds the nearest anchors that have a label.

    sharpness: of the softmax over labels, which says how far off one still counts.
    widening: so many nearest anchors are looked at, then more, until they are of enough labels.
    narrow: where they never are, and up to so many anchors have a label, each of them is looked at.
    """

    rows: AnchorReader
    sharpness: float
    widening: tuple[int, ...] = WIDENING
    narrow: int = NARROW
    _known: dict[int, str | None] = field(default_factory=dict)

    def __call__(
        self, collection: int, view: VectorView, where: Filter, vector: Floats
    ) -> Candidates | None:
        """Return the nearest anchors that have a label, None where view and database disagree.

        They are of `LABELS` labels or of all there are, or reach down to where no label counts any
        more; or they are what `narrow` and `widening` allow.
        """
        if where:
            return self._filtered(collection, view, where, vector)
        near: Candidates | None = None
        for k in self.widening:
            near = self._nearest(view, vector, k)
            if near is None or self._enough(near, k):
                return near
        widest = self.widening[-1]
        if near is None or len(near.seqs) / widest * len(view) > self.narrow:
            return near  # too many to look at each of them
        exact = self._exact(collection, view, where, vector, limit=self.narrow)
        return exact if exact is None or len(exact.seqs) <= self.narrow else near

    def _filtered(
        self, collection: int, view: VectorView, where: Filter, vector: Floats
    ) -> Candidates | None:
        """Return what `where` admits: each of up to `narrow`, of more what is near."""
        some = self._exact(collection, view, where, vector, limit=self.narrow)
        if some is None or len(some.seqs) <= self.narrow:
            return some
        for k in self.widening:
            hits = view.search(vector, k)
            anchors = self.rows.by_seq(hits.seqs.tolist())
            if len(anchors) != len(hits.seqs):
                return None
            labels = {
                seq: anchor.label if where.admits(anchor) else None
                for seq, anchor in anchors.items()
            }
            near = _with_label(hits.seqs, hits.similarities, labels, view)
            if self._enough(near, k) or (where.label is not None and len(near.seqs) >= ANCHORS):
                return near
        return near if len(near.seqs) else some

    def _enough(self, near: Candidates, looked_at: int) -> bool:
        if len(near.view) <= looked_at or len(set(near.labels)) >= LABELS:
            return True
        if not len(near.seqs):
            return False
        gap = float(near.similarities[0] - near.similarities[-1])
        return self.sharpness * gap > math.log(LABELS / NEGLIGIBLE)

    def _nearest(self, view: VectorView, vector: Floats, k: int) -> Candidates | None:
        hits = view.search(vector, k)
        labels = self._labels_of(hits.seqs.tolist())
        return None if labels is None else _with_label(hits.seqs, hits.similarities, labels, view)

    def _labels_of(self, seqs: Sequence[int]) -> dict[int, str | None] | None:
        """Return the label of each, None where the database no longer has one that is not known."""
        labels: dict[int, str | None] = {}
        missing = []
        for seq in seqs:
            label = self._known.get(seq, "")  # no label is empty
            if label == "":
                missing.append(seq)
            else:
                labels[seq] = label
        if missing:
            found = self.rows.labels_of(missing)
            if len(found) != len(missing):
                return None
            if len(self._known) + len(found) > REMEMBERED:
                self._known.clear()
            self._known.update(found)
            labels.update(found)
        return labels

    def _exact(
        self,
        collection: int,
        view: VectorView,
        where: Filter,
        vector: Floats,
        *,
        limit: int,
    ) -> Candidates | None:
        """Return every anchor that has a label and `where` admits; over the limit, any so many."""
        labels, newer = self.rows.labelled(collection, where, limit=limit + 1, after=view.seq)
        latest = view.apply(newer)
        seqs = np.fromiter(labels, dtype=np.int64, count=len(labels))
        similarities = latest.similarities(seqs, vector)
        if np.isnan(similarities).any():
            return None  # the collection was deleted in the meantime
        order = np.lexsort((seqs, -similarities))
        return _with_label(seqs[order], similarities[order], labels, latest)


def _with_label(
    seqs: Seqs, similarities: Floats, labels: Mapping[int, str | None], view: VectorView
) -> Candidates:
    names = [labels[seq] for seq in seqs.tolist()]
    places = [place for place, name in enumerate(names) if name is not None]
    known = [name for name in names if name is not None]
    return Candidates(seqs[places], similarities[places], known, view)
