"""What a pair of texts scores: the one function behind every probability, in log odds.

Lookups, registering, comparing and the fit all come here, so a pair gets the same answer
whoever asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.domain.calibration import Calibration
from app.domain.evidence.pair import Analysis, Values, analyse, compare

# Texts whose analyses are kept, about 2 KB each; a long one takes up to 20 KB, so fewer are.
KEPT_ANALYSES = 16_384
_LONG = 400
_LONG_KEPT = 512

Unknown = Callable[[str], frozenset[str]]


class Head(Protocol):
    """A small model over the two vectors of a pair, which sees where they differ."""

    def scores(
        self, vectors: NDArray[np.float32], others: NDArray[np.floating]
    ) -> NDArray[np.float32]:
        """Return a score for each of `others`, (n,), the same from either side of a pair.

        vectors: (n, dim), or (1, dim) where it is the same for all; others: (n, dim); unit length.
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
        self._short = lru_cache(maxsize=KEPT_ANALYSES)(self._analysis)
        self._long = lru_cache(maxsize=_LONG_KEPT)(self._analysis)

    @property
    def needs_vectors(self) -> bool:
        """Return whether it looks at the vectors themselves, not only at their cosine."""
        return self._head is not None

    def analysis(self, text: str) -> Analysis:
        """Return what the evidence needs of a text, kept for the next time."""
        return self._short(text) if len(text) <= _LONG else self._long(text)

    def prepare(self, texts: Iterable[str]) -> None:
        """Make and keep the analyses of texts that will be compared, but for long ones."""
        for text in texts:
            if len(text) <= _LONG:  # few of the others are kept
                self.analysis(text)

    def forget(self) -> None:
        """Drop the analyses that are kept."""
        self._short.cache_clear()
        self._long.cache_clear()

    def _analysis(self, text: str) -> Analysis:
        return analyse(text, self._unknown(text))

    def evidence(self, left: str, right: str) -> Values:
        """Return the evidence of a pair, in the order of NAMES."""
        return compare(self.analysis(left), self.analysis(right))

    def scores(
        self, vectors: NDArray[np.float32], others: NDArray[np.floating] | None, count: int
    ) -> list[float]:
        """Return the head's score of each of `count` others, zeros where there is no head.

        vectors, others: see `Head`.
        """
        if self._head is None or others is None or not count:
            return [0.0] * count
        found: list[float] = self._head.scores(vectors, others).tolist()
        return found

    def of_pair(self, left: str, right: str, similarity: float, score: float) -> float:
        """Return the log odds of two texts. similarity: cosine, -1..1; score: the head's."""
        return self.calibration.log_odds(similarity, self.evidence(left, right), score)
