"""From what is known of a pair to P(duplicate), and from an aim to a cut-off measured to reach it.

A calibration belongs to one encoder: it was fitted on that encoder's similarities over labelled
pairs of a stated population, at that population's base rate. `app.domain.cut_offs` has the parts
that do not depend on how a probability is made.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import mul
from typing import Self

from app.domain.cut_offs import (
    IDENTITY,
    CalibrationError,
    Correction,
    CutOff,
    CutOffs,
    choose,
    logistic,
    logit,
    row_at,
)
from app.domain.evidence.pair import NAMES, Values

__all__ = [
    "BEYOND_EQUAL",
    "FORMAT",
    "IDENTITY",
    "KIND",
    "Calibration",
    "CalibrationError",
    "Correction",
    "CutOff",
    "CutOffs",
    "closeness_of",
    "logistic",
    "logit",
]

# Format 1 knew nothing but the similarity; it is still read.
FORMAT = 2
_FORMATS = (1, 2)
KIND = "logistic"
# Where `closeness_of` would be without bound: a little beyond the cosine of equal vectors.
BEYOND_EQUAL = 1.02


@dataclass(frozen=True)
class Calibration:
    """A logistic calibration: the log odds of a duplicate are a sum of weighted pieces.

    `intercept + slope * similarity + closeness * closeness_of(similarity)
    + sum of evidence weights * values + head * head's score`

    closeness: the weight of what a straight line does not see near 1, 0 where it was not fitted;
    evidence: the weight of each piece that has one, by its name in `app.domain.evidence`;
    head: the weight of the score that the artifact's pairwise head gives, 0 where it has none;
    base_rate: share of duplicates among the pairs it was fitted on; population: what those pairs
    are, in words; pairs: how many; cut_offs_table: rows by rising probability.
    """

    intercept: float
    slope: float
    base_rate: float
    population: str
    pairs: int
    cut_offs_table: tuple[CutOff, ...]
    evidence: Mapping[str, float] = field(default_factory=dict)
    head: float = 0.0
    closeness: float = 0.0

    def __post_init__(self) -> None:
        if self.slope < 0 or not (self.slope > 0 or self.head > 0 or self.closeness > 0):
            raise _bad("coefficients.similarity", "must be above 0, or more alike is less likely")
        for name, weight in (("head", self.head), ("closeness", self.closeness)):
            if weight < 0:
                raise _bad(f"coefficients.{name}", "must not be below 0")
        unknown = sorted(set(self.evidence) - set(NAMES))
        if unknown:
            raise _bad(f"coefficients.evidence.{unknown[0]}", "is not a term this version knows")
        if not 0 < self.base_rate < 1:
            raise _bad("base_rate", "must be between 0 and 1")
        if not self.cut_offs_table:
            raise _bad("table", "must have at least one row")
        steps = zip(self.cut_offs_table, self.cut_offs_table[1:], strict=False)
        for place, (row, following) in enumerate(steps, start=1):
            if following.probability <= row.probability:
                raise _bad(f"table[{place}]", "rows must rise in probability")

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Self:
        """Return the calibration that `to_json` wrote, of this format or an earlier one.

        Raises CalibrationError, naming the field, where something is missing or malformed, and
        where a coefficient is of a kind this version cannot apply: leaving it out would be wrong.
        """
        if data.get("format") not in _FORMATS:
            raise _bad("format", f"must be 1 or 2, not {data.get('format')!r}")
        if data.get("kind") != KIND:
            raise _bad("kind", f"must be {KIND!r}, not {data.get('kind')!r}")
        coefficients = _mapping(data.get("coefficients"), "coefficients")
        known = {"intercept", "similarity"}
        if data["format"] != 1:
            known |= {"evidence", "head", "closeness"}
        unknown = sorted(set(coefficients) - known)
        if unknown:
            raise _bad(f"coefficients.{unknown[0]}", "is not a term this version knows")
        evidence = _mapping(coefficients.get("evidence", {}), "coefficients.evidence")
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
            evidence={name: _number(evidence, name, "coefficients.evidence.") for name in evidence},
            head=_number({"head": 0.0, **coefficients}, "head", "coefficients."),
            closeness=_number({"closeness": 0.0, **coefficients}, "closeness", "coefficients."),
        )

    def to_json(self) -> dict[str, object]:
        """Return what `from_json` reads: plain numbers, texts, lists and mappings."""
        return {
            "format": FORMAT,
            "kind": KIND,
            "coefficients": {
                "intercept": self.intercept,
                "similarity": self.slope,
                "closeness": self.closeness,
                "evidence": dict(self.evidence),
                "head": self.head,
            },
            "base_rate": self.base_rate,
            "population": self.population,
            "pairs": self.pairs,
            "table": [
                {"probability": row.probability, "precision": row.precision, "recall": row.recall}
                for row in self.cut_offs_table
            ],
        }

    @cached_property
    def weights(self) -> Values:
        """The weight of each piece of evidence, in the order of NAMES."""
        return tuple(self.evidence.get(name, 0.0) for name in NAMES)

    @cached_property
    def most_evidence(self) -> float:
        """The most that evidence can add to the log odds: every value lies in 0..1."""
        return sum(max(weight, 0.0) for weight in self.weights)

    def log_odds(
        self, similarity: float, evidence: Values | None = None, score: float = 0.0
    ) -> float:
        """Return the log odds of a duplicate, rising with similarity.

        similarity: cosine, -1..1; evidence: in the order of NAMES, None for none at all;
        score: the head's.
        """
        (found,) = self.log_odds_each((similarity,), (score,))
        return found if evidence is None else found + self.from_evidence(evidence)

    def log_odds_each(self, similarities: Iterable[float], scores: Iterable[float]) -> list[float]:
        """Return, for each similarity and head's score, what `log_odds` does without evidence.

        Every lookup asks it of all of its candidates: the formula of `closeness_of` is written out.
        """
        intercept, slope, head, closeness = self.intercept, self.slope, self.head, self.closeness
        return [
            intercept
            + slope * similarity
            + head * score
            - closeness * math.log(BEYOND_EQUAL - min(similarity, 1.0))
            for similarity, score in zip(similarities, scores, strict=True)
        ]

    def from_evidence(self, values: Values) -> float:
        """Return what evidence, in the order of NAMES, adds to the log odds."""
        return float(sum(map(mul, self.weights, values)))

    def probability(
        self, similarity: float, evidence: Values | None = None, score: float = 0.0
    ) -> float:
        """Return P(duplicate), 0..1, at the base rate it was fitted at; see `log_odds`."""
        return logistic(self.log_odds(similarity, evidence, score))

    def at(self, probability: float) -> CutOff:
        """Return the measured row at `probability`: the first at or above it, else the last."""
        return row_at(self.cut_offs_table, probability)

    def cut_offs(
        self,
        *,
        duplicate_precision: float = 0.80,
        review_recall: float = 0.95,
        duplicate_at: float | None = None,
        review_at: float | None = None,
        correction: Correction = IDENTITY,
    ) -> CutOffs:
        """Return the two cut-offs, as corrected probabilities; see `app.domain.cut_offs.choose`.

        correction: of the log odds, by which the measured rows move too.
        """
        return choose(
            [row.corrected(correction) for row in self.cut_offs_table],
            duplicate_precision=duplicate_precision,
            review_recall=review_recall,
            duplicate_at=duplicate_at,
            review_at=review_at,
        )


def closeness_of(similarity: float) -> float:
    """Return how near a cosine is to 1, -0.70 (opposite) .. 3.91 (equal), steeply at the end.

    What is left between two vectors counts by its logarithm here, as in beta calibration (Kull et
    al. 2017, arXiv:1704.05430): from 0.90 to 0.95 is about as far as from 0.5 to 0.7.
    """
    return -math.log(BEYOND_EQUAL - min(similarity, 1.0))


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
    numbers = {key: _number(row, key, prefix) for key in ("probability", "precision", "recall")}
    for key, value in numbers.items():
        if not 0 <= value <= 1:
            raise _bad(prefix + key, f"must be between 0 and 1, not {value}")
    if numbers["probability"] in (0, 1):
        raise _bad(prefix + "probability", "must be above 0 and below 1")
    return CutOff(**numbers)
