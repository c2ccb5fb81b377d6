"""Which label a text belongs to, out of those known from their anchors, or none of them.

A label is known from as little as one anchor. Its score is a soft maximum over its nearest anchors'
similarities, each taken relative to how close that anchor is to anchors of other labels: an anchor
that is near to everything says little by being near to the text. The softmax over the scores tells
the labels apart; whether the text belongs to any of them is a second, logistic question, about the
best similarity, and how close the labels lie to each other there. All weights are
fitted on labelled texts (`training.calibrate_labels`), none is chosen by hand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from app.domain.calibration import CalibrationError

# What counts of a collection: the nearest labels, and of each its nearest anchors. A label with
# thousands of anchors has no more say than one with these.
LABELS: Final = 32
ANCHORS: Final = 5
# The neighbourhood of a text or an anchor is this many of the nearest.
NEIGHBOURS: Final = 10

FORMAT: Final = 1

Floats = NDArray[np.float32]
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LabelWeights:
    """The fitted weights.

    sharpness: of the softmax over labels; pooling: of the soft maximum over a label's anchors;
    crowd: how much of what several anchors add up to is taken back, 0 none, 1 their mean;
    relative: how much of an anchor's closeness to other labels is taken off its similarity.
    none, best, crowded: log odds of `none`: constant, and by the best similarity and the mean
    hubness of the anchors that count.
    alone: what counts as hubness where one label is known and there are no others.
    """

    sharpness: float
    pooling: float
    crowd: float
    relative: float
    none: float
    best: float
    crowded: float
    alone: float


@dataclass(frozen=True, slots=True)
class LabelCalibration:
    """Weights with what they were fitted on.

    none_share: share of texts that belong to no label, at which `none` was fitted;
    population: what the texts are, in words; texts: how many.
    """

    weights: LabelWeights
    none_share: float
    population: str
    texts: int

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Return what `to_json` wrote. Raises CalibrationError, naming the field."""
        section = _mapping(data, "labels")
        if section.get("format") != FORMAT:
            raise _bad("labels.format", f"must be {FORMAT}, not {section.get('format')!r}")
        given = _mapping(section.get("weights"), "labels.weights")
        names = [field.name for field in fields(LabelWeights)]
        unknown = sorted(set(given) - set(names))
        if unknown:
            raise _bad(f"labels.weights.{unknown[0]}", "is not a weight this version knows")
        weights = LabelWeights(**{name: _number(given, name, "labels.weights.") for name in names})
        for name in ("sharpness", "pooling"):
            if not getattr(weights, name) > 0:
                raise _bad(f"labels.weights.{name}", "must be above 0")
        none_share = _number(section, "none_share", "labels.")
        if not 0 < none_share < 1:
            raise _bad("labels.none_share", "must be between 0 and 1")
        population, texts = section.get("population"), section.get("texts")
        if not isinstance(population, str) or not population:
            raise _bad("labels.population", "must be a text that says what the texts are")
        if not isinstance(texts, int) or isinstance(texts, bool) or texts < 1:
            raise _bad("labels.texts", "must be a whole number above 0")
        return cls(weights, none_share, population, texts)

    def to_json(self) -> dict[str, object]:
        """Return what `from_json` reads: plain numbers, texts and mappings."""
        return {
            "format": FORMAT,
            "weights": asdict(self.weights),
            "none_share": self.none_share,
            "population": self.population,
            "texts": self.texts,
        }


# For artifacts without a section of their own: fitted for all-MiniLM-L6-v2 in int8 by
# `python -m training.calibrate_labels`. Encoders tuned from it spread similarities much alike.
FALLBACK: Final = LabelCalibration(
    LabelWeights(
        sharpness=16.765,
        pooling=13.167,
        crowd=1.687,
        relative=0.4935,
        none=0.9834,
        best=-7.5695,
        crowded=6.8291,
        alone=0.2523,
    ),
    none_share=0.3,
    population="banking77, hwu64, hint3_sofmattress",
    texts=24_914,
)


@dataclass(frozen=True, slots=True)
class Near:
    """What scores are made of: the anchors that count, as `nearest` chose them.

    similarities: (n,) cosine to the text, most similar first; labels: (n,) a number for each label,
    0 for the nearest one, 1 for the next, ….
    hubness: (n,) mean cosine of each to its `NEIGHBOURS` nearest of other labels among these.
    """

    similarities: Floats
    labels: Places
    hubness: Floats


@dataclass(frozen=True, slots=True)
class Scored:
    """How likely each label is.

    labels: (m,) P(label), the nearest label first; they and `none` add up to 1.
    none: P(the text belongs to none of them).
    """

    labels: NDArray[np.float64]
    none: float


def nearest(labels: Places) -> tuple[Places, Places]:
    """Return the places of the anchors that count, and a number for the label of each.

    labels: (n,) any number for the label of each anchor, the most similar anchor first. Of each of
    the first `LABELS` labels, the first `ANCHORS` anchors count.
    """
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))[inverse]  # 0 for the label seen first
    order = np.argsort(rank, kind="stable")
    starts = np.searchsorted(rank[order], np.arange(len(first)))
    turn = np.empty(len(labels), dtype=np.int64)  # of each anchor within its label
    turn[order] = np.arange(len(labels)) - starts[rank[order]]
    places = np.flatnonzero((rank < LABELS) & (turn < ANCHORS))
    return places, rank[places]


def near_of(similarities: Floats, labels: Places, between: Floats) -> Near:
    """Return what scores are made of.

    similarities, labels: (n,) of the anchors that count; between: (n, n) their cosines.
    """
    others = np.where(labels[:, None] == labels[None, :], -np.inf, between)
    most = min(NEIGHBOURS, len(labels))
    top = -np.partition(-others, most - 1, axis=1)[:, :most]
    found = np.isfinite(top)
    # Where there is one label alone, there is nothing to be relative to.
    sums = np.where(found, top, 0.0).sum(axis=1) / np.maximum(found.sum(axis=1), 1)
    return Near(similarities, labels, sums.astype(np.float32))


def pooled(near: Near, weights: LabelWeights) -> NDArray[np.float64]:
    """Return (m,) the score of each label, before the sharpness of the softmax."""
    # In float64: the fit takes differences of its sums.
    relative = near.similarities - weights.relative * near.hubness.astype(np.float64)
    count = int(near.labels.max()) + 1
    best = np.full(count, -np.inf)
    np.maximum.at(best, near.labels, relative)
    spread = np.exp(weights.pooling * (relative - best[near.labels]))
    sums = np.bincount(near.labels, spread, minlength=count)
    anchors = np.bincount(near.labels, minlength=count)
    scores: NDArray[np.float64] = (
        best + (np.log(sums) - weights.crowd * np.log(anchors)) / weights.pooling
    )
    return scores


def none_inputs(near: Near, weights: LabelWeights) -> tuple[float, float]:
    """Return what `none` depends on: the best similarity and the mean hubness."""
    single = int(near.labels.max()) == 0
    return float(near.similarities[0]), weights.alone if single else float(near.hubness.mean())


def score(near: Near, weights: LabelWeights) -> Scored:
    """Return how likely each label and `none` are; there is at least one anchor."""
    scores = pooled(near, weights)
    best, hubness = none_inputs(near, weights)
    log_odds = weights.none + weights.best * best + weights.crowded * hubness
    none = 0.5 * (1.0 + math.tanh(0.5 * log_odds))
    odds = np.exp(weights.sharpness * (scores - scores.max()))
    return Scored((1.0 - none) * odds / odds.sum(), none)


def _bad(field: str, problem: str) -> CalibrationError:
    return CalibrationError(f"calibration: {field} {problem}")


def _mapping(value: object, field: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise _bad(field, "must be an object")
    return value


def _number(data: Mapping[str, object], key: str, prefix: str) -> float:
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _bad(prefix + key, f"must be a number, not {value!r}")
    return float(value)
