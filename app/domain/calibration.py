"""From a similarity to P(duplicate), and from an aim to a cut-off that was measured to reach it.

A calibration belongs to one encoder: it was fitted on that encoder's similarities over labelled
pairs of a stated population, at that population's base rate.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

FORMAT = 1
KIND = "logistic"

# Beyond this, exp() is exactly 0 or 1 for our purpose; it keeps math.exp from overflowing.
_EXTREME_LOGIT = 700.0


class CalibrationError(ValueError):
    """A calibration's data is malformed, or two explicit cut-offs contradict each other."""


@dataclass(frozen=True, slots=True)
class CutOff:
    """One row of the table: what accepting every pair at or above this point was measured to give.

    probability: calibrated, 0..1; similarity: the same point as a cosine, -1..1;
    precision and recall: measured on the pairs of the calibration, 0..1.
    """

    probability: float
    similarity: float
    precision: float
    recall: float


@dataclass(frozen=True, slots=True)
class CutOffs:
    """The two probabilities that verdicts are read from; `duplicate_at >= review_at` always.

    duplicate_reached, review_reached: False where no row of the table was measured to reach the
    aim and the nearest row stands in. True for an explicit cut-off, which has no aim.
    """

    duplicate_at: float
    review_at: float
    duplicate_reached: bool = True
    review_reached: bool = True


@dataclass(frozen=True, slots=True)
class Calibration:
    """A logistic calibration: `P = 1 / (1 + exp(-(intercept + slope * similarity)))`.

    base_rate: share of duplicates among the pairs it was fitted on; population: what those pairs
    are, in words; pairs: how many; cut_offs_table: rows by rising probability.
    """

    intercept: float
    slope: float
    base_rate: float
    population: str
    pairs: int
    cut_offs_table: tuple[CutOff, ...]

    def __post_init__(self) -> None:
        if not self.slope > 0:
            raise _bad("coefficients.similarity", "must be above 0, or more alike is less likely")
        if not 0 < self.base_rate < 1:
            raise _bad("base_rate", "must be between 0 and 1")
        if not self.cut_offs_table:
            raise _bad("table", "must have at least one row")
        steps = zip(self.cut_offs_table, self.cut_offs_table[1:], strict=False)
        for place, (row, following) in enumerate(steps, start=1):
            if following.probability <= row.probability or following.similarity <= row.similarity:
                raise _bad(f"table[{place}]", "rows must rise in probability and similarity")

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Self:
        """Return the calibration that `to_json` wrote.

        Raises CalibrationError, naming the field, where something is missing or malformed, and
        where a coefficient is of a kind this version cannot apply: leaving it out would be wrong.
        """
        if data.get("format") != FORMAT:
            raise _bad("format", f"must be {FORMAT}, not {data.get('format')!r}")
        if data.get("kind") != KIND:
            raise _bad("kind", f"must be {KIND!r}, not {data.get('kind')!r}")
        coefficients = _mapping(data.get("coefficients"), "coefficients")
        unknown = sorted(set(coefficients) - {"intercept", "similarity"})
        if unknown:
            raise _bad(f"coefficients.{unknown[0]}", "is not a term this version knows")
        population = data.get("population")
        if not isinstance(population, str) or not population:
            raise _bad("population", "must be a text that says what the pairs are")
        pairs = data.get("pairs")
        if not isinstance(pairs, int) or isinstance(pairs, bool) or pairs < 1:
            raise _bad("pairs", "must be a whole number above 0")
        table = data.get("table")
        if not isinstance(table, Sequence) or isinstance(table, str):
            raise _bad("table", "must be a list of rows")
        return cls(
            intercept=_number(coefficients, "intercept", "coefficients."),
            slope=_number(coefficients, "similarity", "coefficients."),
            base_rate=_number(data, "base_rate"),
            population=population,
            pairs=pairs,
            cut_offs_table=tuple(_row(row, place) for place, row in enumerate(table)),
        )

    def to_json(self) -> dict[str, object]:
        """Return what `from_json` reads: plain numbers, texts, lists and mappings."""
        return {
            "format": FORMAT,
            "kind": KIND,
            "coefficients": {"intercept": self.intercept, "similarity": self.slope},
            "base_rate": self.base_rate,
            "population": self.population,
            "pairs": self.pairs,
            "table": [
                {
                    "probability": row.probability,
                    "similarity": row.similarity,
                    "precision": row.precision,
                    "recall": row.recall,
                }
                for row in self.cut_offs_table
            ],
        }

    def probability(self, similarity: float) -> float:
        """Return P(duplicate), 0..1, for a cosine similarity; never falls as similarity rises."""
        logit = self.intercept + self.slope * similarity
        if logit >= 0:
            return 1.0 / (1.0 + math.exp(-min(logit, _EXTREME_LOGIT)))
        odds = math.exp(max(logit, -_EXTREME_LOGIT))
        return odds / (1.0 + odds)

    def similarity(self, probability: float) -> float:
        """Return the similarity at which `probability` holds; it may lie outside -1..1.

        probability: above 0 and below 1.
        """
        return (math.log(probability / (1.0 - probability)) - self.intercept) / self.slope

    def at(self, probability: float) -> CutOff:
        """Return the measured row at `probability`: the first at or above it, else the last."""
        place = bisect_left(self.cut_offs_table, probability, key=lambda row: row.probability)
        return self.cut_offs_table[min(place, len(self.cut_offs_table) - 1)]

    def cut_offs(
        self,
        *,
        duplicate_precision: float = 0.80,
        review_recall: float = 0.95,
        duplicate_at: float | None = None,
        review_at: float | None = None,
    ) -> CutOffs:
        """Return the two cut-offs, as probabilities; explicit ones win over aims.

        `duplicate_at` from an aim is the lowest row whose precision, and every stricter row's,
        was measured to reach `duplicate_precision` (one lucky row is not enough). Where even the
        strictest row does not, it is that row, and `duplicate_reached` is False.

        `review_at` from an aim is the highest row whose recall was measured to reach
        `review_recall`; where none does, the lowest row, and `review_reached` is False.

        Where the two cross, the one that came from an aim gives way: `review_at` is lowered, or,
        if only `review_at` is explicit, `duplicate_at` is raised to it.

        Raises CalibrationError where both are explicit and `duplicate_at` is below `review_at`.
        """
        duplicate_reached = review_reached = True
        wanted_duplicate, wanted_review = duplicate_at, review_at
        if duplicate_at is None:
            duplicate_at, duplicate_reached = self._reach_precision(duplicate_precision)
        if review_at is None:
            review_at, review_reached = self._reach_recall(review_recall)
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

    def _reach_precision(self, aim: float) -> tuple[float, bool]:
        """Return the lowest probability from which on every row has the precision, and whether."""
        lowest: float | None = None
        for row in reversed(self.cut_offs_table):
            if row.precision < aim:
                break
            lowest = row.probability
        if lowest is None:
            return self.cut_offs_table[-1].probability, False
        return lowest, True

    def _reach_recall(self, aim: float) -> tuple[float, bool]:
        """Return the highest probability whose row has the recall, and whether any has."""
        for row in reversed(self.cut_offs_table):
            if row.recall >= aim:
                return row.probability, True
        return self.cut_offs_table[0].probability, False


def _bad(field: str, problem: str) -> CalibrationError:
    return CalibrationError(f"calibration: {field} {problem}")


def _mapping(value: object, field: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise _bad(field, "must be an object")
    return value


def _number(data: Mapping[str, object], key: str, prefix: str = "") -> float:
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _bad(prefix + key, f"must be a number, not {value!r}")
    return float(value)


def _row(data: object, place: int) -> CutOff:
    row = _mapping(data, f"table[{place}]")
    prefix = f"table[{place}]."
    numbers = {
        key: _number(row, key, prefix)
        for key in ("probability", "similarity", "precision", "recall")
    }
    for key in ("probability", "precision", "recall"):
        if not 0 <= numbers[key] <= 1:
            raise _bad(prefix + key, f"must be between 0 and 1, not {numbers[key]}")
    return CutOff(**numbers)
