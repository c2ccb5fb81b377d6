"""Episodes: some labels known from a few anchors each, and questions about them or about others.

What a label is known from changes from collection to collection, so weights are fitted over many
draws of labels and anchors rather than over one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.domain.labels import Near, near_of, nearest
from training.data import LabelledTexts
from training.errors import TrainingError

NONE = -1
"""The truth of a question that belongs to no label that is known."""
MISSED = -2
"""The truth of a question whose label is known, but not among the nearest that count."""

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Shots:
    """Labelled texts as vectors.

    vectors: (n, dim) float32, unit length; labels: (n,) str, "" for texts of no label.
    pool, asked: places of the texts that anchors and questions are drawn from.
    """

    name: str
    vectors: NDArray[np.float32]
    labels: NDArray[np.str_]
    pool: Places
    asked: Places

    @property
    def classes(self) -> list[str]:
        """Return the labels that have texts to draw anchors from."""
        return [str(label) for label in np.unique(self.labels[self.pool]) if label]


@dataclass(frozen=True, slots=True)
class Episode:
    """Questions, each with what is near it and what it is.

    truths: (q,) the number that its label has in its `Near`, or NONE or MISSED.
    nearest_right: (q,) whether the most similar anchor has the question's label.
    """

    near: tuple[Near, ...]
    truths: Places
    nearest_right: NDArray[np.bool_]


def read_shots(name: str, texts: LabelledTexts, vectors: NDArray[np.float32], none: str) -> Shots:
    """Return labelled texts as vectors.

    Of texts with a split, anchors come from `train` and questions from `test`; of others, both
    come from all. Raises TrainingError where there are fewer than two labels.
    """
    labels = np.array(["" if label == none else label for label in texts.labels])
    split = np.array(texts.split) if any(texts.split) else None
    everything = np.arange(len(labels))
    pool = everything if split is None else np.flatnonzero(split == "train")
    asked = everything if split is None else np.flatnonzero(split == "test")
    shots = Shots(name, vectors, labels, pool, asked)
    if len(shots.classes) < 2:
        raise TrainingError(f"{name}: needs two labels to tell apart")
    return shots


def draw_episode(
    shots: Shots,
    rng: np.random.Generator,
    *,
    known: int,
    anchors: Sequence[int],
    questions: int,
    outside: int,
) -> Episode:
    """Return an episode of `known` labels, each with a number of anchors out of `anchors`.

    questions: at most so many that have a known label; outside: at most so many that have none:
    texts of the labels that are left out, and of no label.
    """
    classes = [str(label) for label in rng.choice(shots.classes, known, replace=False)]
    chosen: list[int] = []
    for label in classes:
        texts = shots.pool[shots.labels[shots.pool] == label]
        count = min(int(rng.choice(anchors)), len(texts))
        chosen += rng.choice(texts, count, replace=False).tolist()
    places = np.array(chosen)
    numbers = {label: number for number, label in enumerate(classes)}
    of_anchor = np.array([numbers[str(label)] for label in shots.labels[places]])
    free = np.setdiff1d(shots.asked, places)
    inside = np.isin(shots.labels[free], classes)
    asked = np.concatenate(
        [_some(free[inside], questions, rng), _some(free[~inside], outside, rng)]
    )
    if not len(asked):
        raise TrainingError(f"{shots.name}: there is nothing to ask besides the anchors")
    between = shots.vectors[places] @ shots.vectors[places].T
    similarities = shots.vectors[asked] @ shots.vectors[places].T
    near, truths, right = [], [], []
    for place, row in zip(asked.tolist(), similarities, strict=True):
        order = np.argsort(-row, kind="stable")
        kept, labels = nearest(of_anchor[order])
        used = order[kept]
        near.append(near_of(row[used], labels, between[np.ix_(used, used)]))
        truth = numbers.get(str(shots.labels[place]), NONE)
        found = labels[of_anchor[used] == truth]
        truths.append(NONE if truth == NONE else int(found[0]) if len(found) else MISSED)
        right.append(of_anchor[order[0]] == truth)
    return Episode(tuple(near), np.array(truths), np.array(right))


def _some(places: Places, count: int, rng: np.random.Generator) -> Places:
    return places if len(places) <= count else rng.choice(places, count, replace=False)
