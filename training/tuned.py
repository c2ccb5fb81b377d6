"""The model of a run, made of the end of its training: a share of the way to it, whitened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training import run
from training.data import read_texts
from training.export import load_model
from training.trainer import blend
from training.weights import find_base
from training.whitening import TEXTS, check_whitening, whiten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentence_transformers import SentenceTransformer

    from training.config import TrainConfig
    from training.prepare import Prepared


def save_end(config: TrainConfig, model: SentenceTransformer) -> None:
    """Save what training ended with: the run's model, or what its model is made of."""
    run.save_model(model, config.output / (run.MODEL if config.ends_as_trained else run.TRAINED))


def write_model(config: TrainConfig, prepared: Prepared) -> None:
    """Write the run's model, whole or not at all, of the base and the end; one there is stays.

    Raises TrainingError where the run is not trained, or has too few texts to whiten it by.
    """
    if (config.output / run.MODEL).is_dir():
        return
    model = load_model(find_base(str(run.end(config.output, config))))
    if config.blend < 1:
        base = load_model(find_base(config.base))
        model.load_state_dict(blend(base.state_dict(), model.state_dict(), config.blend))
    if config.whiten:
        whiten(model, _texts(config, prepared), config.whiten)
    run.save_model(model, config.output / run.MODEL)


def check_end(config: TrainConfig, prepared: Prepared) -> None:
    """Raise TrainingError where no model could be made of the end: before training, not after."""
    if config.whiten:
        check_whitening(load_model(find_base(config.base)), _texts(config, prepared))


def _texts(config: TrainConfig, prepared: Prepared) -> Sequence[str]:
    """Return the texts to whiten by: the unlabelled ones, without any those of the pairs."""
    if config.unlabelled is None:
        return prepared.pairs.texts[:TEXTS]
    return read_texts(config.unlabelled, min(config.unlabelled_limit or TEXTS, TEXTS))
