"""The weights of one-shot labels, fitted by maximum likelihood over episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from app.domain.labels import LabelWeights, Near, none_inputs, pooled
from training.errors import TrainingError
from training.label_episodes import NONE, Episode, Shots, draw_episode

NONE_SHARE = 0.3
"""The share of questions without a label at which `none` is fitted; nobody knows a collection's."""

_EPISODES = 30
_QUESTIONS = 120
_ANCHORS = (1, 2, 3, 5, 10)
# A hair of shrinkage: sets whose `none` is told without fail have no maximum.
_REGULARISATION = 100.0

Floats = NDArray[np.float64]


def draw_episodes(sets: Sequence[Shots], *, seed: int) -> list[Episode]:
    """Return episodes to fit on, as many of each set: from two labels to all, on a log scale.

    A third of them have one anchor a label, a third as many for each, a third a mixture.
    """
    episodes = []
    for number, shots in enumerate(sets):
        rng = np.random.default_rng([seed, number])
        most = len(shots.classes)
        for turn in range(_EPISODES):
            known = round(float(np.exp(rng.uniform(np.log(2), np.log(most)))))
            same = (int(rng.choice(_ANCHORS)),)
            anchors = ((1,), same, _ANCHORS)[turn % 3]
            episodes.append(
                draw_episode(
                    shots,
                    rng,
                    known=known,
                    anchors=anchors,
                    questions=_QUESTIONS,
                    outside=_QUESTIONS,
                )
            )
    return episodes


def fit_weights(episodes: Sequence[Episode]) -> LabelWeights:
    """Return the most likely weights: those of the labels first, then those of `none`.

    Every episode weighs the same. Raises TrainingError where no question, or every one, has a
    label.
    """
    flat = _Flat.of(episodes)
    found = minimize(
        lambda given: flat.loss(_weights(given)),
        np.array([np.log(20.0), np.log(10.0), 0.5, 0.0]),
        method="L-BFGS-B",
        options={"eps": 1e-5, "ftol": 1e-7},
        bounds=[(0, 5), (0, 5), (0, 4), (-1, 1)],
    )
    weights = _weights(found.x)
    return _with_none(weights, episodes)


def _weights(given: Floats) -> LabelWeights:
    sharpness, pooling, crowd, relative = (float(value) for value in given)
    return LabelWeights(
        sharpness=float(np.exp(sharpness)),
        pooling=float(np.exp(pooling)),
        crowd=crowd,
        relative=relative,
        none=0.0,
        best=0.0,
        crowded=0.0,
        alone=0.0,
    )


@dataclass(frozen=True, slots=True)
class _Flat:
    """All questions that have a label, end to end, so that one call scores them.

    near: with label numbers that go on from question to question; starts: (q,) the first of each;
    truths: (q,) the right one; shares: (q,) what each question weighs, together 1.
    """

    near: Near
    starts: NDArray[np.int64]
    truths: NDArray[np.int64]
    shares: Floats

    @classmethod
    def of(cls, episodes: Sequence[Episode]) -> _Flat:
        near: list[Near] = []
        truths: list[int] = []
        shares: list[float] = []
        for episode in episodes:
            some = np.flatnonzero(episode.truths >= 0)
            near += [episode.near[place] for place in some]
            truths += episode.truths[some].tolist()
            shares += [1.0 / len(some)] * len(some)
        if not near:
            raise TrainingError("no question has a label that is known")
        counts = np.array([int(one.labels.max()) + 1 for one in near])
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        whole = Near(
            np.concatenate([one.similarities for one in near]),
            np.concatenate([one.labels + start for one, start in zip(near, starts, strict=True)]),
            np.concatenate([one.hubness for one in near]),
        )
        share = np.array(shares)
        return cls(whole, starts, starts + np.array(truths), share / share.sum())

    def loss(self, weights: LabelWeights) -> float:
        """Return the mean negative log likelihood, in nats, of the right labels."""
        scores = weights.sharpness * pooled(self.near, weights)
        highest = np.maximum.reduceat(scores, self.starts)
        counts = np.diff(np.append(self.starts, len(scores)))
        sums = np.add.reduceat(np.exp(scores - np.repeat(highest, counts)), self.starts)
        return float((self.shares * (highest + np.log(sums) - scores[self.truths])).sum())


def _with_none(weights: LabelWeights, episodes: Sequence[Episode]) -> LabelWeights:
    inputs, none, shares = [], [], []
    for episode in episodes:
        outside = episode.truths == NONE
        if outside.all() or not outside.any():
            continue  # all labels known, and nothing that has none: nothing to tell apart
        inputs.append([none_inputs(near, weights) for near in episode.near])
        none.append(outside)
        shares.append(np.where(outside, NONE_SHARE / outside.sum(), 0.0))
        shares[-1][~outside] = (1 - NONE_SHARE) / (~outside).sum()
    if not none:
        raise TrainingError("no episode has both questions with a label and without")
    table, share = np.concatenate(inputs), np.concatenate(shares)
    centre, spread = table.mean(axis=0), table.std(axis=0)
    model = LogisticRegression(C=_REGULARISATION, tol=1e-8, max_iter=1000)
    model.fit((table - centre) / spread, np.concatenate(none), share * len(share) / share.sum())
    best, crowded = (float(slope) for slope in model.coef_[0] / spread)
    constant = float(model.intercept_[0] - (model.coef_[0] * centre / spread).sum())
    return replace(weights, none=constant, best=best, crowded=crowded, alone=float(centre[1]))
