"""What a pair of texts scores: the one function behind every probability, in log odds.

Lookups, registering, comparing and the fit all come here, so a pair gets the same answer
whoever asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.domain.calibration import Calibration
from app.domain.evidence.pair import Analysis, Values, analyse, compare

# Texts whose analyses are kept, about 2 KB each.
_KEPT = 4096

Unknown = Callable[[str], frozenset[str]]


class Head(Protocol):
    """A small model over the two vectors of a pair, which sees where they differ."""

    def scores(
        self, vector: NDArray[np.float32], others: NDArray[np.floating]
    ) -> NDArray[np.float32]:
        """Return a score for each of `others`, (n,), the same from either side of a pair.

        vector: (dim,), others: (n, dim), unit length.
        """
        ...


def _all_known(_text: str) -> frozenset[str]:
    return frozenset()


class Scorer:
    """Gives pairs of texts their log odds by one calibration, before any correction.

    unknown: gives the words of a text that all look the same to the encoder.
    """

    def __init__(
        self, calibration: Calibration, head: Head | None = None, unknown: Unknown = _all_known
    ) -> None:
        self.calibration = calibration
        self._head = head if calibration.head else None
        self._unknown = unknown
        self.analysis = lru_cache(maxsize=_KEPT)(self._analysis)

    @property
    def needs_vectors(self) -> bool:
        """Return whether it looks at the vectors themselves, not only at their cosine."""
        return self._head is not None

    def _analysis(self, text: str) -> Analysis:
        # What is plain ASCII, every tokenizer has pieces for.
        return analyse(text, frozenset() if text.isascii() else self._unknown(text))

    def evidence(self, left: str, right: str) -> Values:
        """Return the evidence of a pair, in the order of NAMES."""
        return compare(self.analysis(left), self.analysis(right))

    def scores(
        self, vector: NDArray[np.float32], others: NDArray[np.floating] | None, count: int
    ) -> list[float]:
        """Return the head's score of each of `count` others, zeros where there is no head."""
        if self._head is None or others is None or not count:
            return [0.0] * count
        found: list[float] = self._head.scores(vector, others).tolist()
        return found

    def log_odds(
        self,
        text: str,
        others: Sequence[str],
        similarities: Sequence[float],
        scores: Sequence[float],
    ) -> list[float]:
        """Return the log odds of `text` with each of `others`.

        similarities: cosines, -1..1; scores: of the head, from `scores`.
        """
        mine = self.analysis(text)
        return [
            self.calibration.log_odds(similarity, compare(mine, self.analysis(other)), score)
            for other, similarity, score in zip(others, similarities, scores, strict=True)
        ]

    def most(self, similarity: float, score: float) -> float:
        """Return log odds that no text can exceed at this similarity and score of the head."""
        return self.calibration.log_odds(similarity, None, score) + self.calibration.most_evidence
