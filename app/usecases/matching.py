"""From similarities to matches: the one place where a candidate becomes a verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from app.domain.anchors import Anchor, Collection, CollectionSettings, Match
from app.domain.calibration import Calibration, CutOffs
from app.domain.ports import AnchorReader, VectorView
from app.domain.verdicts import Verdict, verdict_of

# How many nearest anchors are looked at before an anchor is created: the promise of `if_duplicate`.
CANDIDATES = 50


@dataclass(frozen=True, slots=True)
class Question:
    """A text to find duplicates of.

    vector: (dim,) float32, unit length.
    fingerprint: 16 bytes, see `app.domain.text.fingerprint`.
    """

    vector: NDArray[np.float32]
    fingerprint: bytes


class Judge:
    """Turns similarities into probabilities and verdicts by one calibration."""

    def __init__(self, calibration: Calibration) -> None:
        self.calibration = calibration
        # Reading cut-offs off the table takes longer than judging a match.
        self.cut_offs = lru_cache(maxsize=1024)(self._cut_offs)

    def _cut_offs(self, settings: CollectionSettings) -> CutOffs:
        """Return the cut-offs that a collection's settings ask for.

        Raises CalibrationError where explicit ones contradict each other.
        """
        return self.calibration.cut_offs(
            duplicate_precision=settings.duplicate_precision,
            review_recall=settings.review_recall,
            duplicate_at=settings.duplicate_at,
            review_at=settings.review_at,
        )

    def of_pair(
        self, similarity: float, settings: CollectionSettings, *, same: bool
    ) -> tuple[float, Verdict]:
        """Return P(duplicate) and the verdict of two texts.

        similarity: cosine, -1 to 1. same: whether their fingerprints are equal; explicit cut-offs
        may lie anywhere, yet the same text stays the same text.
        """
        if same:
            return 1.0, Verdict.DUPLICATE
        probability = self.calibration.probability(similarity)
        return probability, verdict_of(probability, self.cut_offs(settings))

    def matches(
        self,
        question: Question,
        candidates: Iterable[tuple[Anchor, float]],
        settings: CollectionSettings,
    ) -> list[Match]:
        """Return candidates as matches: by probability, then similarity, then age.

        candidates: each anchor with its cosine to the question.
        """
        matches = []
        for anchor, similarity in candidates:
            same = anchor.fingerprint == question.fingerprint
            probability, verdict = self.of_pair(similarity, settings, same=same)
            matches.append(Match(anchor, similarity, probability, verdict))
        matches.sort(key=lambda match: (-match.probability, -match.similarity, match.anchor.seq))
        return matches

    def find_duplicate(
        self,
        question: Question,
        view: VectorView,
        rows: AnchorReader,
        collection: Collection,
        *,
        except_seq: int | None = None,
    ) -> Match | None:
        """Return the best match with verdict `duplicate`, None where there is none.

        Equal fingerprints are looked up in `rows`, the `CANDIDATES` nearest others in `view`; both
        must stand at the same moment. except_seq: a version that does not count, the text's own.
        """
        settings = collection.settings
        equal = [
            anchor
            for anchor in rows.by_fingerprint(collection.key, question.fingerprint)
            if anchor.seq != except_seq
        ]
        if equal:
            seqs = np.array([anchor.seq for anchor in equal], dtype=np.int64)
            similarities = view.similarities(seqs, question.vector).tolist()
            return self.matches(question, zip(equal, similarities, strict=True), settings)[0]
        hits = view.search(question.vector, CANDIDATES + (except_seq is not None))
        # Only what will be a duplicate is read, most often nothing.
        least = self.cut_offs(settings).duplicate_at
        near = {
            seq: similarity
            for seq, similarity in zip(hits.seqs.tolist(), hits.similarities.tolist(), strict=True)
            if seq != except_seq and self.calibration.probability(similarity) >= least
        }
        if not near:
            return None
        candidates = [(anchor, near[seq]) for seq, anchor in rows.by_seq(list(near)).items()]
        return next(iter(self.matches(question, candidates, settings)), None)
