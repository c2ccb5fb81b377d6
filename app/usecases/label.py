"""Which label does this text belong to, or none?"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.domain.anchors import Anchor, Filter
from app.domain.errors import Unavailable
from app.domain.labels import LabelWeights, near_of, nearest, score
from app.domain.ports import AnchorReader, Encoder, VectorIndex, VectorView
from app.domain.text import fingerprint
from app.usecases.labelled import Candidates, Floats, Labelled, Seqs
from app.usecases.lookup import CATCH_UP_SECONDS, EVERYTHING, PAUSE_SECONDS


@dataclass(frozen=True, slots=True)
class LabelAsked:
    """A text with what narrows its answer.

    limit: how many labels to list at most; least: a label less likely than this is not given.
    """

    text: str
    limit: int = 5
    least: float = 0.0
    where: Filter = EVERYTHING


@dataclass(frozen=True, slots=True)
class LabelFound:
    """A label that the text may belong to.

    anchor: its nearest; similarity: that one's cosine, -1 to 1; probability: 0 to 1.
    """

    label: str
    probability: float
    anchor: Anchor
    similarity: float


@dataclass(frozen=True, slots=True)
class LabelAnswer:
    """What a text belongs to.

    label: None where it is likelier than not to belong to none, or no label is likely enough.
    probability: of that answer; none: P(it belongs to no label that is known).
    labels: the likeliest first.
    """

    text: str
    label: str | None
    probability: float
    labels: Sequence[LabelFound]
    none: float
    encoder: str
    truncated: bool


@dataclass(frozen=True, slots=True)
class Label:
    """Tells the labels of a collection apart."""

    encoder: Encoder
    rows: AnchorReader
    index: VectorIndex
    weights: LabelWeights
    labelled: Labelled

    def __call__(self, collection_name: str, asked: LabelAsked) -> LabelAnswer:
        """Return what a text belongs to. Raises CollectionNotFound."""
        (outcome,) = self.many([(collection_name, asked)])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def many(self, texts: Sequence[tuple[str, LabelAsked]]) -> list[LabelAnswer | Exception]:
        """Return, for each (collection, text), its answer or what prevented it."""
        encoded = self.encoder.encode([asked.text for _, asked in texts])
        outcomes: list[LabelAnswer | Exception] = []
        for place, (name, asked) in enumerate(texts):
            try:
                found, none = self._consistent(name, asked, encoded.vectors[place])
                truncated = encoded.truncated[place]
                outcomes.append(_answer(asked, found, none, self.encoder.name, truncated))
            except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
                outcomes.append(error)
        return outcomes

    def _consistent(
        self, collection_name: str, asked: LabelAsked, vector: Floats
    ) -> tuple[list[LabelFound], float]:
        """Return the labels and P(none), all as they stood at one moment; see `Lookup`."""
        deadline = time.monotonic() + CATCH_UP_SECONDS
        while True:
            key = self.rows.collection(collection_name).key
            found = self._labels(key, asked, vector)
            if found is not None:
                return found
            if time.monotonic() > deadline:
                raise Unavailable("the index lags behind the database; try again")
            time.sleep(PAUSE_SECONDS)

    def _labels(
        self, collection: int, asked: LabelAsked, vector: Floats
    ) -> tuple[list[LabelFound], float] | None:
        """Return the labels, likeliest first, None where view and database disagree."""
        view = self.index.view(collection)
        near = self.labelled(collection, view, asked.where, vector)
        if near is None:
            return None
        chances, none, best = self._scored(near)
        order = np.argsort(-chances, kind="stable")[: asked.limit]
        seqs = near.seqs[best[order]].tolist()
        mark = fingerprint(asked.text)
        read = self.rows.found(collection, seqs, [mark], frozenset(seqs), near.view.seq)
        if read is None or read.gone:
            return None
        anchors = read.anchors
        equal = [
            anchor
            for anchor in anchors.values()
            if anchor.fingerprint == mark and anchor.label and asked.where.admits(anchor)
        ]
        if equal:
            return _equal(equal, near.view, vector)[: asked.limit], 0.0
        found = [
            LabelFound(
                near.labels[best[place]],
                float(chances[place]),
                anchors[int(near.seqs[best[place]])],
                float(near.similarities[best[place]]),
            )
            for place in order
        ]
        return found, none

    def _scored(self, near: Candidates) -> tuple[NDArray[np.float64], float, Seqs]:
        """Return P of each label that counts, P(none), and the place of each label's best."""
        if not len(near.seqs):
            return np.empty(0), 1.0, np.empty(0, np.int64)
        numbers = {label: number for number, label in enumerate(dict.fromkeys(near.labels))}
        of_anchor = np.array([numbers[label] for label in near.labels], dtype=np.int64)
        places, labels = nearest(of_anchor)
        vectors = near.view.vectors(near.seqs[places]).astype(np.float32)
        scored = score(
            near_of(near.similarities[places], labels, vectors @ vectors.T), self.weights
        )
        best = places[np.unique(labels, return_index=True)[1]]
        return scored.labels, scored.none, best


def _equal(anchors: Sequence[Anchor], view: VectorView, vector: Floats) -> list[LabelFound]:
    """Return the labels of anchors that are the text itself: nothing else has a say then."""
    counts = Counter(anchor.label for anchor in anchors)
    seqs = np.array([anchor.seq for anchor in anchors], dtype=np.int64)
    similarities = np.nan_to_num(view.similarities(seqs, vector), nan=1.0).tolist()
    found: dict[str, LabelFound] = {}
    for anchor, similarity in zip(anchors, similarities, strict=True):
        assert anchor.label is not None
        share = counts[anchor.label] / len(anchors)
        found.setdefault(anchor.label, LabelFound(anchor.label, share, anchor, similarity))
    return sorted(found.values(), key=lambda one: (-one.probability, one.anchor.seq))


def _answer(
    asked: LabelAsked, labels: Sequence[LabelFound], none: float, encoder: str, truncated: bool
) -> LabelAnswer:
    best = labels[0] if labels else None
    given = best is not None and none < 0.5 and best.probability >= asked.least
    if best is None or not given:
        return LabelAnswer(asked.text, None, none, labels, none, encoder, truncated)
    return LabelAnswer(asked.text, best.label, best.probability, labels, none, encoder, truncated)
