"""A collection's own correction of the calibration, from what people said of its matches.

The log odds of the shipped calibration are moved along a straight line, `a + b * log odds`. The fit
is the most probable line under a prior that expects no change: `a` is Gaussian around 0, `log b`
Gaussian around 0, so a few verdicts move it a little, many as far as they ask, and `b` stays above
0, so the order of matches never changes. One verdict in fifty is taken to be a slip, or a single
one against a probability near 0 or 1 would outweigh all others.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from app.domain.cut_offs import Correction

# How far populations are expected to lie apart: standard deviations of `a` and of `log b`. Chosen
# by measuring, see docs/decisions/0011.
SPREADS: Final = (0.3, 0.15)
SLIPS: Final = 0.02

# Probabilities come rounded, 1 for sure things; beyond these log odds nothing is learnt anyway.
EXTREME: Final = 12.0
# Leaving out one at a time is worth its cost as long as a tenth is a handful.
ONE_BY_ONE: Final = 100
FOLDS: Final = 10

_STEPS = 50
_BINS = 10

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What people said, beside what the calibration says.

    log_odds: (n,) of a duplicate, before any correction of the collection's own.
    duplicate: (n,) bool, whether it is one.
    """

    log_odds: Floats
    duplicate: NDArray[np.bool_]

    @classmethod
    def of(cls, probabilities: ArrayLike, duplicate: ArrayLike) -> Verdicts:
        """Return verdicts from P(duplicate), (n,) 0 to 1, and whether each is one."""
        given = np.asarray(probabilities, dtype=np.float64)
        with np.errstate(divide="ignore"):
            log_odds = np.log(given) - np.log1p(-given)
        return cls(np.clip(log_odds, -EXTREME, EXTREME), np.asarray(duplicate, dtype=np.bool_))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.duplicate)

    def take(self, chosen: NDArray[np.bool_]) -> Verdicts:
        """Return those of a (n,) mask."""
        return Verdicts(self.log_odds[chosen], self.duplicate[chosen])


@dataclass(frozen=True, slots=True)
class Fitted:
    """A collection's correction, and what it was fitted on.

    duplicate, distinct: how many verdicts of each kind.
    encoder: the fingerprint of the encoder whose log odds it corrects; it says nothing about
    those of another.
    base_rate: what it comes after: that of the collection's settings, 0 where they had none; None
    where an earlier release did not note it. Under another one, the difference would count twice.
    """

    correction: Correction
    duplicate: int
    distinct: int
    encoder: str
    fitted_at: datetime
    base_rate: float | None = None

    def outdated_by(
        self, encoder: str, base_rate: float | None
    ) -> Literal["encoder", "base_rate"] | None:
        """Return what has changed since, so that it no longer applies; None where it does.

        encoder: the fingerprint of the one in use; base_rate: that of the settings.
        """
        if self.encoder != encoder:
            return "encoder"
        return None if same_base_rate(self.base_rate, base_rate) else "base_rate"


def same_base_rate(noted: float | None, base_rate: float | None) -> bool:
    """Return whether a correction noted with one base rate applies under another; see `Fitted`."""
    return noted is None or noted == (base_rate or 0.0)


@dataclass(frozen=True, slots=True)
class Quality:
    """How good probabilities are.

    log_loss: mean, in nats; accuracy: share on the right side of 0.5;
    error: mean distance of stated probability and observed share over ten bins, by their size.
    """

    log_loss: float
    accuracy: float
    error: float


def fit_correction(verdicts: Verdicts, spreads: tuple[float, float] = SPREADS) -> Correction:
    """Return the most probable correction, `Correction()` of no verdicts.

    spreads: standard deviations of the prior on `a` and on `log b`.
    Newton's method on (a, log b) with the Fisher information, halving a step that does not help.
    """
    place = np.zeros(2)
    loss, slope, curvature = _posterior(place, verdicts, spreads)
    for _ in range(_STEPS):
        step = np.linalg.solve(curvature, slope)
        while True:
            there = _posterior(place - step, verdicts, spreads)
            if there[0] <= loss or not np.abs(step).max() > 1e-9:
                break
            step = step / 2
        if there[0] > loss:
            break
        place, (loss, slope, curvature) = place - step, there
        if np.abs(step).max() < 1e-9:
            break
    return Correction(float(place[0]), float(np.exp(place[1])))


def quality(log_odds: Floats, duplicate: NDArray[np.bool_]) -> Quality:
    """Return how good (n,) log odds are against what is so."""
    stated = _logistic(log_odds)
    bins = np.minimum((stated * _BINS).astype(int), _BINS - 1)
    gaps = np.bincount(bins, stated - duplicate, minlength=_BINS)
    return Quality(
        float(np.logaddexp(0.0, np.where(duplicate, -log_odds, log_odds)).mean()),
        float(((stated >= 0.5) == duplicate).mean()),
        float(np.abs(gaps).sum() / len(duplicate)),
    )


def left_out(verdicts: Verdicts) -> Floats:
    """Return (n,) corrected log odds, each by the correction that the other verdicts give.

    Up to `ONE_BY_ONE` verdicts are left out one at a time, of more every tenth.
    """
    folds = len(verdicts) if len(verdicts) <= ONE_BY_ONE else FOLDS
    fold = np.arange(len(verdicts)) % max(folds, 1)
    corrected = np.empty(len(verdicts))
    for number in range(folds):
        here = fold == number
        correction = fit_correction(verdicts.take(~here))
        corrected[here] = correction.intercept + correction.slope * verdicts.log_odds[here]
    return corrected


def _posterior(
    place: Floats, verdicts: Verdicts, spreads: tuple[float, float] = SPREADS
) -> tuple[float, Floats, Floats]:
    """Return the negative log posterior at (a, log b), its gradient and a curvature above 0."""
    a, b = place[0], np.exp(place[1])
    precision = np.array(spreads) ** -2.0
    line = b * verdicts.log_odds
    stated = _logistic(a + line)
    seen = SLIPS + (1 - 2 * SLIPS) * stated  # P(a person says duplicate)
    likelihood = np.where(verdicts.duplicate, seen, 1 - seen)
    moved = (1 - 2 * SLIPS) * stated * (1 - stated)  # d seen / d log odds
    pull = np.where(verdicts.duplicate, -moved / seen, moved / (1 - seen))
    weight = moved**2 / (seen * (1 - seen))
    inputs = np.stack([np.ones_like(line), line])
    loss = float(-np.log(likelihood).sum() + 0.5 * (precision * place**2).sum())
    gradient: Floats = inputs @ pull + precision * place
    curvature: Floats = (inputs * weight) @ inputs.T + np.diag(precision)
    return loss, gradient, curvature


def _logistic(log_odds: Floats) -> Floats:
    """Return the probability of log odds; np.exp never overflows here."""
    halves: Floats = 0.5 * (1.0 + np.tanh(0.5 * log_odds))
    return halves
