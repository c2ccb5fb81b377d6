"""What is measured of an encoder: labelled pairs, and classes known from one example each.

Each task is a function of an encoder and its data that returns figures ready for JSON, as shares
of 1. Retrieval and speed have modules of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from training.errors import TrainingError
from training.fields import NONE_LABEL
from training.metrics import (
    Curve,
    average_precision,
    best_accuracy,
    best_f1,
    precision_recall,
    roc_auc,
)
from training.vectors import pair_similarities

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.data import LabelledTexts, Pairs
    from training.encoders import Encoder

Figures = dict[str, Any]

DRAWS = 10
CURVE_POINTS = 200
_DECIMALS = 6


def evaluate_pairs(encoder: Encoder, pairs: Pairs) -> Figures:
    """Return how well the similarity of a pair tells duplicates from others.

    pairs: all are measured, so give them at their population's share of duplicates.

    Keys: kind `pairs`; pairs; duplicates (their share); average_precision; roc_auc; best_f1;
    accuracy (of the best cut-off); curve with recall and precision, at most CURVE_POINTS each.
    Raises TrainingError where the labels are not of both kinds.
    """
    if pairs.labels.all() or not pairs.labels.any():
        raise TrainingError("pairs to measure on need both duplicates and non-duplicates")
    similarities = pair_similarities(encoder.encode(pairs.texts), pairs)
    labels = pairs.labels
    return {
        "kind": "pairs",
        "pairs": len(labels),
        "duplicates": round(float(labels.mean()), _DECIMALS),
        "average_precision": round(average_precision(similarities, labels), _DECIMALS),
        "roc_auc": round(roc_auc(similarities, labels), _DECIMALS),
        "best_f1": round(best_f1(similarities, labels), _DECIMALS),
        "accuracy": round(best_accuracy(similarities, labels), _DECIMALS),
        "curve": _points(precision_recall(similarities, labels)),
    }


def evaluate_one_shot(
    encoder: Encoder,
    texts: LabelledTexts,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    none_label: str = NONE_LABEL,
) -> Figures:
    """Return how well one random anchor a class makes the class known.

    A question takes the label of its most similar anchor. Where the texts have a column `split`,
    anchors are drawn from `train` and all of `test` are questions; otherwise anchors are drawn
    from all texts and the rest are questions. Questions of a class without an anchor are left out,
    except those labelled `none_label`, which is no class: telling them by a low best similarity
    from questions that have a class is the open-set AUROC.

    draws: how often anchors are drawn; draw i of a seed picks the same ones for every encoder.

    Keys: kind `one_shot`; classes; questions; accuracy and, where there are texts of `none_label`
    to ask, open_set_auroc (else None), each with mean, std (of the sample, n - 1) and draws.
    Raises TrainingError where there are fewer than two classes, or nothing to ask.
    """
    labels = np.array(texts.labels)
    split = np.array(texts.split) if any(texts.split) else None
    everything = np.arange(len(labels))
    pool = everything if split is None else np.flatnonzero(split == "train")
    asked = everything if split is None else np.flatnonzero(split == "test")
    classes = {
        str(label): pool[labels[pool] == label]
        for label in np.unique(labels[pool])
        if label != none_label
    }
    if len(classes) < 2:
        raise TrainingError("one-shot classification needs two classes to draw anchors from")
    known = asked[np.isin(labels[asked], list(classes))]
    unknown = asked[labels[asked] == none_label]
    drawn = [_draw(classes, seed=seed, draw=draw) for draw in range(draws)]
    vectors = _vectors(encoder, texts.texts, np.concatenate([*drawn, known, unknown]))
    names = np.array(list(classes))
    accuracy: list[float] = []
    auroc: list[float] = []
    for anchors in drawn:
        questions = known[~np.isin(known, anchors)] if split is None else known
        if not len(questions):
            raise TrainingError("one-shot classification has no questions besides the anchors")
        similarities = vectors[questions] @ vectors[anchors].T
        answers = names[similarities.argmax(axis=1)]
        accuracy.append(float(np.mean(answers == labels[questions])))
        if len(unknown):
            others = (vectors[unknown] @ vectors[anchors].T).max(axis=1)
            best = np.concatenate([similarities.max(axis=1), others])
            auroc.append(roc_auc(best, np.arange(len(best)) < len(questions)))
    return {
        "kind": "one_shot",
        "classes": len(classes),
        "questions": len(known) if split is not None else len(known) - len(classes),
        "accuracy": _spread(accuracy),
        "open_set_auroc": _spread(auroc) if auroc else None,
    }


def _points(curve: Curve) -> dict[str, list[float]]:
    """Return a curve thinned to CURVE_POINTS at about even steps of recall, its end included."""
    steps = np.linspace(curve.recall[0], curve.recall[-1], CURVE_POINTS)
    places = np.unique(np.searchsorted(curve.recall, steps))
    return {
        "recall": np.round(curve.recall[places], _DECIMALS).tolist(),
        "precision": np.round(curve.precision[places], _DECIMALS).tolist(),
    }


def _draw(classes: Mapping[str, NDArray[np.int64]], *, seed: int, draw: int) -> NDArray[np.int64]:
    """Return the place of one anchor a class."""
    rng = np.random.default_rng([seed, draw])
    return np.array([rng.choice(places) for places in classes.values()])


def _vectors(
    encoder: Encoder, texts: Sequence[str], places: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return an array as long as the texts, filled at the places that are used."""
    used = np.unique(places)
    found = encoder.encode([texts[place] for place in used])
    vectors = np.zeros((len(texts), found.shape[1]), dtype=np.float32)
    vectors[used] = found
    return vectors


def _spread(values: Sequence[float]) -> Figures:
    return {
        "mean": round(float(np.mean(values)), _DECIMALS),
        "std": round(float(np.std(values, ddof=1)), _DECIMALS) if len(values) > 1 else 0.0,
        "draws": [round(value, _DECIMALS) for value in values],
    }
