"""Do these two texts ask the same?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.anchors import CollectionSettings
from app.domain.ports import Encoder
from app.domain.text import fingerprint
from app.domain.verdicts import Verdict
from app.usecases.matching import Judge

_DEFAULTS = CollectionSettings()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two texts, compared.

    similarity: cosine, -1 to 1; probability: calibrated P(duplicate), 0 to 1.
    truncated: whether either text was longer than the encoder reads.
    """

    similarity: float
    probability: float
    verdict: Verdict
    truncated: bool


@dataclass(frozen=True, slots=True)
class Compare:
    """Compares pairs of texts by the cut-offs of the shipped calibration."""

    encoder: Encoder
    judge: Judge

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[Comparison]:
        """Return a comparison for each pair, in order."""
        encoded = self.encoder.encode([text for pair in pairs for text in pair])
        left, right = encoded.vectors[0::2], encoded.vectors[1::2]
        similarities = (left * right).sum(axis=1).clip(-1.0, 1.0).tolist()
        results = []
        for place, (pair, similarity) in enumerate(zip(pairs, similarities, strict=True)):
            same = fingerprint(pair[0]) == fingerprint(pair[1])
            probability, verdict = self.judge.of_pair(similarity, _DEFAULTS, same=same)
            truncated = encoded.truncated[2 * place] or encoded.truncated[2 * place + 1]
            results.append(Comparison(similarity, probability, verdict, truncated))
        return results
