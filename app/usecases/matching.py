"""From similarities to matches: the one place where a candidate becomes a verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from app.domain.anchors import Anchor, Collection, CollectionSettings, Match
from app.domain.calibration import IDENTITY, Calibration, Correction, CutOffs, logistic
from app.domain.explanation import Explanation, explain
from app.domain.ports import AnchorReader, Hits, VectorView
from app.domain.scoring import Head, Scorer, Unknown
from app.domain.text import fingerprint
from app.domain.verdicts import Verdict, verdict_of

# How many nearest anchors are looked at before an anchor is created: the promise of `if_duplicate`.
CANDIDATES = 50


@dataclass(frozen=True, slots=True)
class Question:
    """A text to find duplicates of.

    vector: (dim,) float32, unit length.
    fingerprint: 16 bytes, see `app.domain.text.fingerprint`.
    """

    text: str
    vector: NDArray[np.float32]
    fingerprint: bytes

    @classmethod
    def of(cls, text: str, vector: NDArray[np.float32]) -> Question:
        """Return the question of a text, with its fingerprint."""
        return cls(text, vector, fingerprint(text))


@dataclass(frozen=True, slots=True)
class Standard:
    """What a collection judges by: its cut-offs, after a correction of the log odds."""

    cut_offs: CutOffs
    correction: Correction


class Judge:
    """Turns pairs of texts into probabilities and verdicts by one calibration.

    head, unknown: see `app.domain.scoring`.
    """

    def __init__(
        self, calibration: Calibration, head: Head | None = None, unknown: Unknown | None = None
    ) -> None:
        self.calibration = calibration
        self.scorer = Scorer(calibration, head, *([] if unknown is None else [unknown]))
        # Reading cut-offs off the table takes longer than judging a match.
        self.standard = lru_cache(maxsize=1024)(self._standard)

    def _standard(
        self, settings: CollectionSettings, correction: Correction = IDENTITY
    ) -> Standard:
        """Return what settings ask for.

        correction: of a collection's own, applied after the shift to its base rate.
        Raises CalibrationError where explicit cut-offs contradict each other.
        """
        if settings.base_rate is not None:
            shift = Correction.of_base_rate(self.calibration.base_rate, settings.base_rate)
            correction = shift.then(correction)
        cut_offs = self.calibration.cut_offs(
            duplicate_precision=settings.duplicate_precision,
            review_recall=settings.review_recall,
            duplicate_at=settings.duplicate_at,
            review_at=settings.review_at,
            correction=correction,
        )
        return Standard(cut_offs, correction)

    def standard_of(self, collection: Collection) -> Standard:
        """Return what a collection judges by."""
        return self.standard(collection.settings, collection.correction)

    def cut_offs(self, settings: CollectionSettings) -> CutOffs:
        """Return the cut-offs that settings ask for. Raises CalibrationError as `standard`."""
        return self.standard(settings).cut_offs

    def of_log_odds(self, log_odds: float, standard: Standard) -> tuple[float, Verdict]:
        """Return P(duplicate) and the verdict of two texts with these log odds."""
        probability = logistic(standard.correction(log_odds))
        return probability, verdict_of(probability, standard.cut_offs)

    def of_pair(
        self, left: Question, right: Question, similarity: float, standard: Standard
    ) -> tuple[float, Verdict]:
        """Return P(duplicate) and the verdict of two texts.

        Explicit cut-offs may lie anywhere, yet the same text stays the same text.
        similarity: cosine, -1 to 1.
        """
        if left.fingerprint == right.fingerprint:
            return 1.0, Verdict.DUPLICATE
        scores = self.scorer.scores(left.vector[np.newaxis], right.vector[np.newaxis], 1)
        log_odds = self.scorer.of_pair(left.text, right.text, similarity, scores[0])
        return self.of_log_odds(log_odds, standard)

    def explain_pair(
        self, left: Question, right: Question, similarity: float, standard: Standard
    ) -> Explanation:
        """Return why `of_pair` answers as it does."""
        scores = self.scorer.scores(left.vector[np.newaxis], right.vector[np.newaxis], 1)
        return explain(
            self.calibration,
            similarity=similarity,
            evidence=self.scorer.evidence(left.text, right.text),
            score=scores[0],
            correction=standard.correction,
            cut_offs=standard.cut_offs,
            same_text=left.fingerprint == right.fingerprint,
        )

    def bases(
        self, question: Question, hits: Hits, scores: Sequence[float] | None = None
    ) -> list[float]:
        """Return the log odds of each hit as far as its vector tells them, without its text.

        scores: the head's of each, where `scores_each` has them already.
        """
        if scores is None:
            (scores,) = self.scores_each([(question, hits)])
        return self.calibration.log_odds_each(hits.similarities.tolist(), scores)

    def scores_each(self, found: Sequence[tuple[Question, Hits]]) -> list[list[float]]:
        """Return the head's score of each hit of each question, all from one call."""
        counts = [len(hits.seqs) for _, hits in found]
        if not found or not self.scorer.needs_vectors:
            return [[0.0] * count for count in counts]
        vectors = np.repeat([question.vector for question, _ in found], counts, axis=0)
        others = np.concatenate([hits.vectors for _, hits in found])
        scores = iter(self.scorer.scores(vectors, others, len(others)))
        return [list(islice(scores, count)) for count in counts]

    def log_odds(self, question: Question, anchor: Anchor, base: float) -> float:
        """Return the log odds of an anchor, whose `bases` are known, with what its text adds."""
        if anchor.fingerprint == question.fingerprint:
            return math.inf
        evidence = self.scorer.evidence(question.text, anchor.text)
        return base + self.calibration.from_evidence(evidence)

    def match(
        self, anchor: Anchor, similarity: float, log_odds: float, standard: Standard
    ) -> Match:
        """Return an anchor as a match. log_odds: infinite for the same text."""
        if log_odds == math.inf:
            return Match(anchor, similarity, 1.0, Verdict.DUPLICATE)
        return Match(anchor, similarity, *self.of_log_odds(log_odds, standard))

    def explanations(
        self, question: Question, matches: Sequence[Match], standard: Standard, view: VectorView
    ) -> list[Explanation]:
        """Return why each match has its probability and verdict."""
        scores = self._scores(question, [match.anchor.seq for match in matches], view)
        return [
            explain(
                self.calibration,
                similarity=match.similarity,
                evidence=self.scorer.evidence(question.text, match.anchor.text),
                score=score,
                correction=standard.correction,
                cut_offs=standard.cut_offs,
                same_text=match.anchor.fingerprint == question.fingerprint,
            )
            for match, score in zip(matches, scores, strict=True)
        ]

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
        standard = self.standard_of(collection)
        equal = [
            anchor
            for anchor in rows.by_fingerprint(collection.key, question.fingerprint)
            if anchor.seq != except_seq
        ]
        if equal:
            seqs = np.array([anchor.seq for anchor in equal], dtype=np.int64)
            similarities = view.similarities(seqs, question.vector).tolist()
            return in_order(
                [
                    self.match(anchor, similarity, math.inf, standard)
                    for anchor, similarity in zip(equal, similarities, strict=True)
                ]
            )[0]
        hits = view.search(question.vector, CANDIDATES + (except_seq is not None))
        # Only what may be a duplicate is read, most often nothing: no text adds more than `most`.
        most = self.calibration.most_evidence
        near = {
            seq: (similarity, base)
            for seq, similarity, base in zip(
                hits.seqs.tolist(),
                hits.similarities.tolist(),
                self.bases(question, hits),
                strict=True,
            )
            if seq != except_seq and self.of_log_odds(base + most, standard)[1] is Verdict.DUPLICATE
        }
        if not near:
            return None
        matches = []
        for seq, anchor in rows.by_seq(list(near)).items():
            similarity, base = near[seq]
            log_odds = self.log_odds(question, anchor, base)
            matches.append(self.match(anchor, similarity, log_odds, standard))
        best = next(iter(in_order(matches)), None)
        return best if best and best.verdict is Verdict.DUPLICATE else None

    def _scores(self, question: Question, seqs: Sequence[int], view: VectorView) -> list[float]:
        if not self.scorer.needs_vectors or not seqs:
            return [0.0] * len(seqs)
        vectors = view.vectors(np.array(seqs, dtype=np.int64))
        return self.scorer.scores(question.vector[np.newaxis], vectors, len(seqs))


def in_order(matches: Iterable[Match]) -> list[Match]:
    """Return matches by probability, then similarity, then age."""
    return sorted(
        matches, key=lambda match: (-match.probability, -match.similarity, match.anchor.seq)
    )
