"""Fit the calibration of an encoder: from what is known of pairs and labels to probabilities."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from app.domain.calibration import BEYOND_EQUAL, Calibration, CutOff
from app.domain.evidence.pair import NAMES, analyse, compare
from training.evidence_prior import PRIOR, PRIOR_DEVIATION
from training.metrics import precision_recall

if TYPE_CHECKING:
    from app.domain.scoring import Unknown
    from training.pairs import Pairs

# A row measured on fewer pairs says more about chance than about the encoder. Of a small set of
# pairs a tenth has to do: a coarse table, whose population says how small it is, and none at all
# would leave a collection without cut-offs.
FEWEST_PAIRS_A_ROW = 100
_SHARE_A_ROW = 0.1
_STEP = 0.005
_LINEAR = 2  # columns: intercept and similarity
_ROUNDS = 100
_SMALLEST_STEP = 1e-10


def pair_evidence(pairs: Pairs, unknown: Unknown) -> NDArray[np.float64]:
    """Return the evidence of each pair, (n, len(NAMES)), as the service sees it.

    unknown: gives the words of a text that all look the same to the encoder.
    """
    analysed = [analyse(text, unknown(text)) for text in pairs.texts]
    return np.array(
        [
            compare(analysed[left], analysed[right])
            for left, right in zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)
        ]
    ).reshape(-1, len(NAMES))


def fit(
    similarities: ArrayLike,
    labels: ArrayLike,
    *,
    population: str,
    evidence: ArrayLike | None = None,
    scores: ArrayLike | None = None,
) -> Calibration:
    """Return the logistic calibration of n pairs with (n,) labels, and its table of cut-offs.

    The fit is maximum likelihood for the intercept and the weights of similarity and head; the
    weights of evidence have a normal prior (`training.evidence_prior`), for some of it is rare.
    Evidence speaks against a duplicate or not at all: a weight that would be above 0 is 0; so is
    one of head or closeness that would be below. Closeness is fitted beside a head, which sees most
    of what a straight line over the similarity sees. Where one similarity parts all duplicates from
    all others, the likelihood has no maximum: then duplicates count as such by (n + 1) / (n + 2)
    only, n being how many there are, and others likewise (Platt 1999). The table has a row every
    0.005 of probability, as far as at least FEWEST_PAIRS_A_ROW pairs lie at or above it, or a tenth
    of all where that is less.

    similarities: (n,) cosines; evidence: (n, len(NAMES)), None for a calibration without;
    scores: (n,) of a head, None where there is none; population: what the pairs are, in words.
    Raises ValueError where labels are not of both kinds or the lengths differ, and its kind
    CalibrationError where duplicates are no more alike than others.
    """
    cosines = np.asarray(similarities, dtype=np.float64)
    duplicate = np.asarray(labels, dtype=np.bool_)
    precision_recall(cosines, duplicate)  # refuses what cannot be fitted
    columns = [np.ones(len(cosines)), cosines]
    if scores is not None:
        columns += [_closeness(cosines), np.asarray(scores, dtype=np.float64)]
    free = len(columns)
    if evidence is not None:
        columns += list(np.asarray(evidence, dtype=np.float64).T)
    values = np.stack(columns, axis=1)
    weights = _weights(values, _targets(cosines, duplicate), free)
    rounded = [round(float(weight), 9) for weight in weights]
    if scores is not None and not rounded[3]:
        return fit(cosines, duplicate, population=population, evidence=evidence)
    return Calibration(
        intercept=rounded[0],
        slope=rounded[1],
        base_rate=round(float(duplicate.mean()), 6),
        population=population,
        pairs=len(duplicate),
        cut_offs_table=measured(expit(values @ weights), duplicate),
        evidence={
            name: weight for name, weight in zip(NAMES, rounded[free:], strict=False) if weight
        },
        closeness=rounded[2] if scores is not None else 0.0,
        head=rounded[3] if scores is not None else 0.0,
    )


def measured(probabilities: ArrayLike, labels: ArrayLike) -> tuple[CutOff, ...]:
    """Return the table of cut-offs that (n,) probabilities and labels measure."""
    duplicate = np.asarray(labels, dtype=np.bool_)
    curve = precision_recall(probabilities, duplicate)
    fewest = min(FEWEST_PAIRS_A_ROW, math.ceil(_SHARE_A_ROW * len(duplicate)))
    rows = []
    for step in range(1, round(1 / _STEP)):
        probability = step * _STEP
        place = int(np.searchsorted(-curve.thresholds, -probability, side="right")) - 1
        if place < 0 or curve.accepted[place] < fewest:
            break
        rows.append(
            CutOff(
                probability=round(probability, 3),
                precision=round(float(curve.precision[place]), 6),
                recall=round(float(curve.recall[place]), 6),
            )
        )
    return tuple(rows)


def log_odds(
    calibration: Calibration,
    similarities: ArrayLike,
    evidence: ArrayLike | None = None,
    scores: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Return the log odds of n pairs, (n,), as `Calibration.log_odds` gives them one by one."""
    cosines = np.asarray(similarities, np.float64)
    found = calibration.intercept + calibration.slope * cosines
    if calibration.closeness:
        found = found + calibration.closeness * _closeness(cosines)
    if evidence is not None:
        found = found + np.asarray(evidence, np.float64) @ np.array(calibration.weights)
    if scores is not None:
        found = found + calibration.head * np.asarray(scores, np.float64)
    return np.asarray(found)


def _closeness(cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `app.domain.calibration.closeness_of` of (n,) cosines, (n,)."""
    return -np.log(BEYOND_EQUAL - np.minimum(cosines, 1.0))


def log_loss(log_odds: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean negative log likelihood, in nats, of (n,) labels under (n,) log odds."""
    return float(np.mean(log_losses(log_odds, labels)))


def log_losses(log_odds: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """Return the negative log likelihood, (n,) in nats, of each label under its log odds."""
    duplicate = np.asarray(labels, dtype=np.bool_)
    logits = np.asarray(log_odds, np.float64)
    return np.logaddexp(0.0, np.where(duplicate, -logits, logits))


def _targets(cosines: NDArray[np.float64], duplicate: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return how far each pair counts as a duplicate, (n,): Platt's where a cosine parts them."""
    if cosines[duplicate].min() < cosines[~duplicate].max():
        return duplicate.astype(np.float64)
    many, others = int(duplicate.sum()), int((~duplicate).sum())
    return np.where(duplicate, (many + 1) / (many + 2), 1 / (others + 2))


def _weights(
    values: NDArray[np.float64], targets: NDArray[np.float64], free: int
) -> NDArray[np.float64]:
    """Return the most likely weights: the first `free` without a prior, the others at most 0.

    What is free are intercept and similarity and, beside a head, closeness and head: these two are
    at least 0, and with them the similarity, too.
    """
    names = NAMES[: values.shape[1] - free]
    mean = np.array([0.0] * free + [PRIOR[name] for name in names])
    strength = np.array([0.0] * free + [PRIOR_DEVIATION**-2] * len(names))
    kept = np.ones(values.shape[1], dtype=np.bool_)
    while True:
        found = np.zeros(values.shape[1])
        found[kept] = _newton(values[:, kept], targets, mean[kept], strength[kept])
        wrong = found > 0
        wrong[:free] = found[:free] < 0
        wrong[: 1 if free > _LINEAR else _LINEAR] = False
        if not wrong.any():
            return found
        kept &= ~wrong


def _newton(
    values: NDArray[np.float64],
    targets: NDArray[np.float64],
    mean: NDArray[np.float64],
    strength: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the weights of a logistic regression with a normal prior, by damped Newton steps."""

    def loss(weights: NDArray[np.float64]) -> float:
        logits = values @ weights
        likelihood = np.sum(np.logaddexp(0.0, logits) - targets * logits)
        return float(likelihood + 0.5 * np.sum(strength * (weights - mean) ** 2))

    weights = np.zeros(values.shape[1])
    current = loss(weights)
    for _ in range(_ROUNDS):
        chances = expit(values @ weights)
        slope = values.T @ (chances - targets) + strength * (weights - mean)
        curvature = (values * (chances * (1 - chances))[:, None]).T @ values + np.diag(strength)
        step = np.linalg.lstsq(curvature, slope, rcond=None)[0]
        part = 1.0
        while part > _SMALLEST_STEP and loss(weights - part * step) > current:
            part /= 2
        weights = weights - part * step
        before, current = current, loss(weights)
        if np.abs(part * step).max() < _SMALLEST_STEP or before - current <= 0:
            break
    return weights
