"""The model of a run: a share of the way, `blend`, from its base to the end of its training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training import run
from training.export import load_model
from training.trainer import blend
from training.weights import find_base

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from training.config import TrainConfig


def save_end(config: TrainConfig, model: SentenceTransformer) -> None:
    """Save what training ended with: the run's model, or what its model is blended from."""
    run.save_model(model, config.output / (run.MODEL if config.blend == 1 else run.TRAINED))


def write_model(config: TrainConfig) -> None:
    """Write the run's model, whole or not at all, of the base and the end; one there is stays.

    Raises TrainingError where the run is not trained.
    """
    if (config.output / run.MODEL).is_dir():
        return
    model = load_model(find_base(str(run.end(config.output, config.blend))))
    if config.blend < 1:
        base = load_model(find_base(config.base))
        model.load_state_dict(blend(base.state_dict(), model.state_dict(), config.blend))
    run.save_model(model, config.output / run.MODEL)
