"""Do these two texts ask the same?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.anchors import CollectionSettings
from app.domain.explanation import Explanation
from app.domain.ports import Encoder
from app.domain.verdicts import Verdict
from app.usecases.matching import Judge, Question

_DEFAULTS = CollectionSettings()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two texts, compared.

    similarity: cosine, -1 to 1; probability: calibrated P(duplicate), 0 to 1.
    truncated: whether either text was longer than the encoder reads.
    explanation: None where it was not asked for.
    """

    similarity: float
    probability: float
    verdict: Verdict
    truncated: bool
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True)
class Compare:
    """Compares pairs of texts by the cut-offs of the shipped calibration."""

    encoder: Encoder
    judge: Judge

    def __call__(
        self, pairs: Sequence[tuple[str, str]], *, explain: bool = False
    ) -> list[Comparison]:
        """Return a comparison for each pair, in order."""
        standard = self.judge.standard(_DEFAULTS)
        encoded = self.encoder.encode([text for pair in pairs for text in pair])
        left, right = encoded.vectors[0::2], encoded.vectors[1::2]
        similarities = (left * right).sum(axis=1).clip(-1.0, 1.0).tolist()
        results = []
        for place, (pair, similarity) in enumerate(zip(pairs, similarities, strict=True)):
            one = Question.of(pair[0], left[place])
            other = Question.of(pair[1], right[place])
            probability, verdict = self.judge.of_pair(one, other, similarity, standard)
            truncated = encoded.truncated[2 * place] or encoded.truncated[2 * place + 1]
            why = self.judge.explain_pair(one, other, similarity, standard) if explain else None
            results.append(Comparison(similarity, probability, verdict, truncated, why))
        return results
