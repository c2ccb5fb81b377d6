"""The dev sets while training: small enough to be measured often, the same ones every time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from training.config import TrainConfig
from training.data import LabelledTexts
from training.encoders import Encoder
from training.pairs import Pairs
from training.prepare import Prepared
from training.tasks import Figures, evaluate_one_shot, evaluate_pairs

SCORE = "score"
_DRAWS = 3


class DevMeasure:
    """Measures encoders on up to `dev_limit` pairs or texts of each dev set."""

    def __init__(self, config: TrainConfig, prepared: Prepared) -> None:
        rng = np.random.default_rng(config.seed)
        self._none_label = config.none_label
        self._sets = {
            name: found.take(_drawn(len(found), config.dev_limit, rng))
            for name, found in prepared.dev.items()
        }

    def __call__(self, encoder: Encoder) -> dict[str, float]:
        """Return the main figures of each set, 0..1, and under `score` their mean.

        The mean chooses between checkpoints: a gain on the trained domain that costs as much
        elsewhere is none.
        """
        found: dict[str, float] = {}
        for name, dev in self._sets.items():
            found.update(main_figures(name, self._figures(encoder, dev)))
        return {**found, SCORE: float(np.mean(list(found.values())))}

    def _figures(self, encoder: Encoder, dev: Pairs | LabelledTexts) -> Figures:
        if isinstance(dev, Pairs):
            return evaluate_pairs(encoder, dev)
        return evaluate_one_shot(encoder, dev, draws=_DRAWS, none_label=self._none_label)


def main_figures(name: str, figures: Mapping[str, object]) -> dict[str, float]:
    """Return what a set is judged by: average precision, accuracy, nDCG@10, and open-set AUROC."""
    match figures:
        case {"kind": "pairs", "average_precision": float(value)}:
            return {name: value}
        case {"kind": "retrieval", "ndcg@10": float(value)}:
            return {name: value}
        case {"accuracy": {"mean": float(accuracy)}, "open_set_auroc": {"mean": float(auroc)}}:
            return {name: accuracy, f"{name} open-set": auroc}
        case {"accuracy": {"mean": float(accuracy)}}:
            return {name: accuracy}
    raise ValueError(f"{name}: figures of an unknown kind")


def _drawn(count: int, limit: int, rng: np.random.Generator) -> np.ndarray:
    """Return `limit` places in order, drawn at random; all where there are no more."""
    places: np.ndarray = np.arange(count)
    return places if count <= limit else np.sort(rng.choice(places, limit, replace=False))
