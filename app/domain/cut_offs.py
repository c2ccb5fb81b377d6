"""The two probabilities that verdicts are read from, chosen out of what was measured."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

# Beyond this, exp() is exactly 0 or 1 for our purpose; it keeps math.exp from overflowing.
_EXTREME_LOGIT = 700.0


class CalibrationError(ValueError):
    """A calibration's data is malformed, or two explicit cut-offs contradict each other."""


@dataclass(frozen=True, slots=True)
class Correction:
    """A straight line on the log odds: `log odds' = intercept + slope * log odds`.

    It carries a calibration over to another population; `Correction()` changes nothing. The order
    of pairs stays as it is, so slope must be above 0.
    """

    intercept: float = 0.0
    slope: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.intercept) and math.isfinite(self.slope) and self.slope > 0):
            raise CalibrationError(
                f"correction: intercept {self.intercept} must be a number and slope {self.slope} "
                "one above 0"
            )

    @classmethod
    def of_base_rate(cls, fitted: float, own: float) -> Correction:
        """Return the correction from one base rate to another: `logit(own) - logit(fitted)`.

        By Bayes' rule the odds of a pair are those of its population times what its evidence says,
        and only the first differ, as long as duplicates and others look there as they do here.
        fitted, own: shares of duplicates among pairs, above 0 and below 1.
        """
        return cls(intercept=logit(own) - logit(fitted))

    def __call__(self, log_odds: float) -> float:
        """Return the corrected log odds."""
        return self.intercept + self.slope * log_odds

    def then(self, later: Correction) -> Correction:
        """Return the correction that applies this one and then `later`."""
        return Correction(later(self.intercept), later.slope * self.slope)


IDENTITY = Correction()


def logit(probability: float) -> float:
    """Return the log odds of a probability, above 0 and below 1."""
    return math.log(probability / (1.0 - probability))


def logistic(log_odds: float) -> float:
    """Return the probability of log odds: `1 / (1 + exp(-log_odds))`."""
    if log_odds >= 0:
        return 1.0 / (1.0 + math.exp(-min(log_odds, _EXTREME_LOGIT)))
    odds = math.exp(max(log_odds, -_EXTREME_LOGIT))
    return odds / (1.0 + odds)


@dataclass(frozen=True, slots=True)
class CutOff:
    """One row of the table: what accepting every pair at or above a probability gave.

    probability: calibrated, above 0 and below 1; precision and recall: measured on the pairs of
    the calibration, 0..1.
    """

    probability: float
    precision: float
    recall: float

    def corrected(self, correction: Correction) -> CutOff:
        """Return the row as it stands after a correction of the log odds.

        The pairs at or above it stay the same, so recall does; precision's log odds move as far
        as those of the probability do. For a shift of the base rate that is exact: the odds of
        precision are the odds of the population times what was measured of the row. For a slope
        other than 1 it is the best guess without pairs to measure on.
        """
        if correction == IDENTITY:
            return self
        before = logit(self.probability)
        after = correction(before)
        precision = self.precision
        if 0 < precision < 1:
            precision = logistic(logit(precision) + after - before)
        return CutOff(logistic(after), precision, self.recall)


@dataclass(frozen=True, slots=True)
class CutOffs:
    """The two probabilities that verdicts are read from; `duplicate_at >= review_at` always.

    duplicate_reached, review_reached: False where no row of the table was measured to reach the
    aim. True for an explicit cut-off, which has no aim.
    """

    duplicate_at: float
    review_at: float
    duplicate_reached: bool = True
    review_reached: bool = True


def choose(
    table: Sequence[CutOff],
    *,
    duplicate_precision: float,
    review_recall: float,
    duplicate_at: float | None,
    review_at: float | None,
) -> CutOffs:
    """Return the two cut-offs, as probabilities; explicit ones win over aims.

    table: rows by rising probability, at least one.

    `duplicate_at` from an aim is the lowest row whose precision, and every stricter row's, was
    measured to reach `duplicate_precision` (one lucky row is not enough). Where even the strictest
    row does not, it is that row or the aim itself, whichever is higher, as pairs of a probability
    that high are duplicates at least so often; and `duplicate_reached` is False.

    `review_at` from an aim is the highest row whose recall was measured to reach `review_recall`;
    where none does, the lowest row, and `review_reached` is False.

    Where the two cross, the one that came from an aim gives way: `review_at` is lowered, or, if
    only `review_at` is explicit, `duplicate_at` is raised to it.

    Raises CalibrationError where both are explicit and `duplicate_at` is below `review_at`.
    """
    duplicate_reached = review_reached = True
    wanted_duplicate, wanted_review = duplicate_at, review_at
    if duplicate_at is None:
        duplicate_at, duplicate_reached = _reach_precision(table, duplicate_precision)
    if review_at is None:
        review_at, review_reached = _reach_recall(table, review_recall)
    if duplicate_at < review_at:
        if wanted_review is None:
            review_at = duplicate_at
        elif wanted_duplicate is None:
            duplicate_at = review_at
        else:
            raise CalibrationError(
                f"duplicate_at ({duplicate_at}) must not be below review_at ({review_at})"
            )
    return CutOffs(duplicate_at, review_at, duplicate_reached, review_reached)


def row_at(table: Sequence[CutOff], probability: float) -> CutOff:
    """Return the measured row at `probability`: the first at or above it, else the last."""
    place = bisect_left(table, probability, key=lambda row: row.probability)
    return table[min(place, len(table) - 1)]


def _reach_precision(table: Sequence[CutOff], aim: float) -> tuple[float, bool]:
    """Return the lowest probability from which on every row has the precision, and whether."""
    lowest: float | None = None
    for row in reversed(table):
        if row.precision < aim:
            break
        lowest = row.probability
    if lowest is None:
        return max(table[-1].probability, aim), False
    return lowest, True


def _reach_recall(table: Sequence[CutOff], aim: float) -> tuple[float, bool]:
    """Return the highest probability whose row has the recall, and whether any has."""
    for row in reversed(table):
        if row.recall >= aim:
            return row.probability, True
    return table[0].probability, False
