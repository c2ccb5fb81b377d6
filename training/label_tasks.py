"""What is measured of one-shot labels: accuracy, rejection, honest probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.labels import LabelWeights, score
from training.label_episodes import NONE, Episode, Shots, draw_episode
from training.label_fit import NONE_SHARE
from training.metrics import expected_calibration_error, roc_auc

ANCHORS = (1, 3, 5)
DRAWS = 10
_QUESTIONS = 350

Figures = dict[str, Any]


def evaluate_labels(
    shots: Shots, weights: LabelWeights, *, anchors: int, draws: int = DRAWS, seed: int = 0
) -> Figures:
    """Return how well labels are told from `anchors` anchors each, over draws of anchors.

    Accuracy is over questions of known labels, all labels known. The rest is measured with
    questions without a label at a share of `NONE_SHARE`: where the set has texts of no label,
    beside all labels; where it has none, half of the labels are left out, others in each draw.

    Keys: set; anchors; accuracy, nearest (the accuracy of taking the most similar anchor's label);
    auroc (of `none`), best_auroc (of a low best similarity); label_error, none_error (expected
    calibration error of the likeliest label's probability and of `none`), each a mean over draws;
    accuracy_spread, auroc_spread: their standard deviations.
    """
    rows = [_draw(shots, weights, anchors, [seed, draw]) for draw in range(draws)]
    found: Figures = {"set": shots.name, "anchors": anchors}
    for name in rows[0]:
        values = [row[name] for row in rows]
        found[name] = round(float(np.mean(values)), 6)
        if name in ("accuracy", "auroc"):
            spread = float(np.std(values, ddof=1)) if draws > 1 else 0.0
            found[f"{name}_spread"] = round(spread, 6)
    return found


def _draw(
    shots: Shots, weights: LabelWeights, anchors: int, seed: Sequence[int]
) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    every = len(shots.classes)
    outside = round(_QUESTIONS * NONE_SHARE / (1 - NONE_SHARE))
    closed = draw_episode(
        shots, rng, known=every, anchors=[anchors], questions=_QUESTIONS, outside=0
    )
    has_none = bool((shots.labels[shots.asked] == "").any())
    opened = draw_episode(
        shots,
        rng,
        known=every if has_none else every // 2,
        anchors=[anchors],
        questions=_QUESTIONS,
        outside=outside,
    )
    right, _, _ = _answers(closed, weights)
    open_right, likely, none = _answers(opened, weights)
    truth = opened.truths == NONE
    best = np.array([near.similarities[0] for near in opened.near])
    return {
        "accuracy": float(right.mean()),
        "nearest": float(closed.nearest_right.mean()),
        "auroc": roc_auc(none, truth),
        "best_auroc": roc_auc(-best, truth),
        "label_error": expected_calibration_error(likely, open_right),
        "none_error": expected_calibration_error(none, truth),
    }


def _answers(
    episode: Episode, weights: LabelWeights
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    """Return of each question whether the likeliest label is right, its probability, and none's."""
    scored = [score(near, weights) for near in episode.near]
    answers = np.array([int(one.labels.argmax()) for one in scored])
    likely = np.array([float(one.labels.max()) for one in scored])
    none = np.array([one.none for one in scored])
    return answers == episode.truths, likely, none
