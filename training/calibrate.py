"""Fit the calibration of an encoder: from similarities and labels to probabilities and cut-offs."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression

from app.domain.calibration import Calibration, CutOff
from training.metrics import precision_recall

# A row measured on fewer pairs says more about chance than about the encoder. Of a small set of
# pairs a tenth has to do: a coarse table, whose population says how small it is, and none at all
# would leave a collection without cut-offs.
FEWEST_PAIRS_A_ROW = 100
_SHARE_A_ROW = 0.1
_STEP = 0.005


def fit(similarities: ArrayLike, labels: ArrayLike, *, population: str) -> Calibration:
    """Return the logistic calibration of (n,) similarities with (n,) labels, and its table.

    The fit is maximum likelihood without regularisation. Where one similarity parts all duplicates
    from all others, the likelihood has no maximum: then duplicates count as such by (n + 1) /
    (n + 2) only, n being how many there are, and others likewise (Platt 1999). The table has a row
    every 0.005 of probability, as far as at least FEWEST_PAIRS_A_ROW pairs lie at or above it, or
    a tenth of all where that is less.

    population: what the pairs are, in words.
    Raises ValueError where labels are not of both kinds or the lengths differ, and its kind
    CalibrationError where duplicates are no more alike than others.
    """
    scores = np.asarray(similarities, dtype=np.float64)
    duplicate = np.asarray(labels, dtype=np.bool_)
    curve = precision_recall(scores, duplicate)
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    if scores[duplicate].min() >= scores[~duplicate].max():
        sure = _sureness(duplicate)
        model.fit(
            np.tile(scores, 2)[:, None],
            np.concatenate([duplicate, ~duplicate]),
            sample_weight=np.concatenate([sure, 1 - sure]),
        )
    else:
        model.fit(scores[:, None], duplicate)
    slope, intercept = float(model.coef_[0, 0]), float(model.intercept_[0])
    fewest = min(FEWEST_PAIRS_A_ROW, math.ceil(_SHARE_A_ROW * len(duplicate)))
    rows = []
    for step in range(1, round(1 / _STEP)):
        probability = step * _STEP
        similarity = (np.log(probability / (1 - probability)) - intercept) / slope
        place = int(np.searchsorted(-curve.thresholds, -similarity, side="right")) - 1
        if place < 0 or curve.accepted[place] < fewest:
            break
        rows.append(
            CutOff(
                probability=round(probability, 3),
                similarity=round(float(similarity), 6),
                precision=round(float(curve.precision[place]), 6),
                recall=round(float(curve.recall[place]), 6),
            )
        )
    return Calibration(
        intercept=round(intercept, 9),
        slope=round(slope, 9),
        base_rate=round(float(duplicate.mean()), 6),
        population=population,
        pairs=len(duplicate),
        cut_offs_table=tuple(rows),
    )


def _sureness(duplicate: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return how far each label is believed, (n,), by how many there are of its kind."""
    many, others = int(duplicate.sum()), int((~duplicate).sum())
    return np.where(duplicate, (many + 1) / (many + 2), (others + 1) / (others + 2))


def log_loss(calibration: Calibration, similarities: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean negative log likelihood, in nats, of (n,) labels under the calibration."""
    duplicate = np.asarray(labels, dtype=np.bool_)
    logits = calibration.intercept + calibration.slope * np.asarray(similarities, np.float64)
    return float(np.mean(np.logaddexp(0.0, np.where(duplicate, -logits, logits))))
