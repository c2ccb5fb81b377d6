"""Metrics as standalone functions, over labelled pairs, rankings and probabilities.

All lie in 0..1, higher is better except for the calibration error. None depends on the range of an
encoder's similarities, only on their order or on probabilities, so they compare between encoders.
"""

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


@dataclass(frozen=True, slots=True)
class Bin:
    """The pairs whose probability lies in one stretch of 0..1.

    low, high: its ends; predicted: their mean probability; observed: their share of duplicates.
    """

    low: float
    high: float
    predicted: float
    observed: float
    pairs: int


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


def roc_auc(similarities: ArrayLike, labels: ArrayLike) -> float:
    """Return the chance that a duplicate has a higher similarity than a non-duplicate.

    A tie counts half. It does not depend on the share of duplicates. 0.5 is no better than chance.
    The same as scikit-learn's `roc_auc_score`; raises ValueError as `precision_recall` does.
    """
    curve = precision_recall(similarities, labels)
    hits = _hits(curve)
    misses = np.concatenate([[0.0], (curve.accepted - hits) / (curve.accepted[-1] - hits[-1])])
    return float(np.trapezoid(np.concatenate([[0.0], curve.recall]), misses))


def best_f1(similarities: ArrayLike, labels: ArrayLike) -> float:
    """Return the highest F1, the harmonic mean of precision and recall, of any one cut-off.

    Raises ValueError as `precision_recall` does.
    """
    curve = precision_recall(similarities, labels)
    duplicates = _hits(curve)[-1]
    return float(np.max(2 * _hits(curve) / (curve.accepted + duplicates)))


def best_accuracy(similarities: ArrayLike, labels: ArrayLike) -> float:
    """Return the highest share of pairs told rightly by any one cut-off, accepting none included.

    Raises ValueError as `precision_recall` does.
    """
    curve = precision_recall(similarities, labels)
    hits = _hits(curve)
    pairs, duplicates = curve.accepted[-1], hits[-1]
    right = hits + (pairs - duplicates) - (curve.accepted - hits)
    return float(max(right.max(), pairs - duplicates) / pairs)


def ndcg_at(k: int, relevance: ArrayLike, relevant: ArrayLike) -> float:
    """Return the mean nDCG@k for relevance that is either there or not.

    A relevant text at rank r gains 1 / log2(1 + r); the sum is divided by that of the best order
    possible (Järvelin and Kekäläinen, 2002).

    relevance: (q, ranks) truthy where the text at that rank is relevant, best rank first; fewer
    than k ranks are for corpora that are smaller. relevant: (q,) how many relevant texts the corpus
    holds for each query. Queries that have none are left out.
    Raises ValueError where no query has any, or the shapes do not fit.
    """
    ranked, total = _ranked(relevance, relevant)
    gains = 1 / np.log2(np.arange(2, k + 2))
    best = np.cumsum(gains)[np.minimum(total, k) - 1]
    found = ranked[:, :k] @ gains[: ranked.shape[1]]
    return float(np.mean(found / best))


def mrr_at(k: int, relevance: ArrayLike, relevant: ArrayLike) -> float:
    """Return the mean of 1 / (rank of the first relevant text), 0 where none is in the first k.

    Arguments and errors as in `ndcg_at`.
    """
    ranked, _ = _ranked(relevance, relevant)
    first = ranked[:, :k]
    return float(np.mean(np.where(first.any(axis=1), 1 / (first.argmax(axis=1) + 1), 0.0)))


def map_at(k: int, relevance: ArrayLike, relevant: ArrayLike) -> float:
    """Return the mean over queries of the average precision within the first k.

    A query's is the sum of the precisions at its relevant ranks, divided by the number of relevant
    texts or by k if that is less, so that 1 can be reached; sentence-transformers divides alike.
    Arguments and errors as in `ndcg_at`.
    """
    ranked, total = _ranked(relevance, relevant)
    first = ranked[:, :k]
    precision = np.cumsum(first, axis=1) / np.arange(1, first.shape[1] + 1)
    return float(np.mean((precision * first).sum(axis=1) / np.minimum(total, k)))


def recall_at(k: int, relevance: ArrayLike, relevant: ArrayLike) -> float:
    """Return the mean share of a query's relevant texts that are in the first k.

    Arguments and errors as in `ndcg_at`.
    """
    ranked, total = _ranked(relevance, relevant)
    return float(np.mean(ranked[:, :k].sum(axis=1) / total))


def reliability(probabilities: ArrayLike, labels: ArrayLike, *, bins: int = 10) -> tuple[Bin, ...]:
    """Return predicted and observed shares of duplicates over equal stretches of probability.

    A probability on the border of two stretches belongs to the lower; stretches without pairs are
    left out.

    probabilities: (n,) 0..1; labels: (n,) truthy for duplicates.
    Raises ValueError where there are no pairs, the lengths differ or a probability is not one.
    """
    chances = np.asarray(probabilities, dtype=np.float64)
    duplicate = np.asarray(labels, dtype=np.bool_)
    if chances.shape != duplicate.shape or chances.ndim != 1 or not len(chances):
        raise ValueError(f"shapes {chances.shape} and {duplicate.shape} are not one (n,), n > 0")
    if not np.all((chances >= 0) & (chances <= 1)):
        raise ValueError("a probability is not between 0 and 1")
    edges = np.linspace(0, 1, bins + 1)
    place = np.searchsorted(edges[1:-1], chances, side="left")
    found = []
    for number in np.unique(place):
        inside = place == number
        found.append(
            Bin(
                low=float(edges[number]),
                high=float(edges[number + 1]),
                predicted=float(chances[inside].mean()),
                observed=float(duplicate[inside].mean()),
                pairs=int(inside.sum()),
            )
        )
    return tuple(found)


def expected_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, *, bins: int = 10
) -> float:
    """Return how far predicted and observed shares of duplicates lie apart on average, 0..1.

    The mean over the stretches of `reliability`, weighted by their pairs (Guo et al., 2017).
    Arguments and errors as there.
    """
    found = reliability(probabilities, labels, bins=bins)
    pairs = sum(one.pairs for one in found)
    return sum(one.pairs * abs(one.predicted - one.observed) for one in found) / pairs


def _hits(curve: Curve) -> NDArray[np.float64]:
    """Return how many duplicates are at or above each threshold, (k,)."""
    return np.rint(curve.precision * curve.accepted)


def _ranked(
    relevance: ArrayLike, relevant: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the rankings as 0 and 1, and the counts, of the queries that have relevant texts."""
    ranked = np.asarray(relevance, dtype=np.bool_)
    total = np.asarray(relevant, dtype=np.int64)
    if ranked.ndim != 2 or total.shape != (len(ranked),):
        raise ValueError(f"shapes {ranked.shape} and {total.shape} are not (q, ranks) and (q,)")
    if np.any(ranked.sum(axis=1) > total):
        raise ValueError("a ranking holds more relevant texts than there are")
    answerable = total > 0
    if not answerable.any():
        raise ValueError("no query has a relevant text")
    return ranked[answerable].astype(np.float64), total[answerable]
