"""Metrics over labelled pairs, as standalone functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True)
class Curve:
    """Precision and recall of accepting every pair at or above a similarity.

    thresholds: (k,) distinct similarities, falling; precision, recall: (k,) 0..1;
    accepted: (k,) how many pairs are at or above.
    """

    thresholds: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    accepted: NDArray[np.int64]


def precision_recall(similarities: ArrayLike, labels: ArrayLike) -> Curve:
    """Return precision and recall at every distinct similarity; ties are accepted together.

    similarities: (n,); labels: (n,) truthy for duplicates.
    Raises ValueError where the labels are not of both kinds or the lengths differ.
    """
    scores = np.asarray(similarities, dtype=np.float64)
    duplicate = np.asarray(labels, dtype=np.bool_)
    if scores.shape != duplicate.shape or scores.ndim != 1:
        raise ValueError(f"shapes {scores.shape} and {duplicate.shape} are not one (n,)")
    if duplicate.all() or not duplicate.any():
        raise ValueError("needs both duplicates and non-duplicates")
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    ends = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)
    hits = np.cumsum(duplicate[order])[ends]
    accepted = ends + 1
    return Curve(falling[ends], hits / accepted, hits / duplicate.sum(), accepted)


def average_precision(similarities: ArrayLike, labels: ArrayLike) -> float:
    """Return the average precision, 0..1: the sum of precision times each step of recall.

    It depends on the order of the similarities alone, so it stays comparable between encoders
    whose similarities have different ranges; it does depend on the share of duplicates, so it
    compares only over the same pairs. The same as scikit-learn's `average_precision_score`.
    """
    curve = precision_recall(similarities, labels)
    return float(np.sum(np.diff(curve.recall, prepend=0.0) * curve.precision))
