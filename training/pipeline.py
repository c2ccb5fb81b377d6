"""A whole run: read, train, export, measure, report; each part once, and whole or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from app.encoders.artifact import MANIFEST
from training import run
from training.finish import finish, install
from training.prepare import prepare
from training.report import write_report
from training.train import Processes, train
from training.tuned import check_end, write_model

if TYPE_CHECKING:
    from pathlib import Path

    from training.config import TrainConfig


def run_pipeline(config: TrainConfig, *, resume: bool = False) -> Path | None:
    """Return the folder of the artifact; None in every process but the first.

    Whatever the inputs can be refused for, they are refused before anything is written.
    resume: go on with the run in the output folder; parts that are done are not done again. With
    another `blend` or `whiten`, a run that is done is finished again with that.
    Raises TrainingError, naming file and line, where an input cannot be used.
    """
    processes = Processes.of_environment()
    if processes.first:
        run.check(config, resume=resume)
    artifact = config.output / config.name
    if not (resume and _is_finished(config)):
        # Text is tokenised before the loaders of torch could fork; the warning is of no use.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        prepared = prepare(config)
        check_end(config, prepared)
        if processes.first:
            run.start(config, prepared.summary)
        if not run.is_trained(config.output):
            train(config, prepared, resume=resume)
        if not processes.first:
            return None
        write_model(config, prepared)
        artifact = finish(config, prepared)
    elif not processes.first:
        return None
    elif not (config.output / run.REPORT).is_file():
        write_report(config.output)
    if config.install is not None:
        install(artifact, config.install)
    return artifact


def _is_finished(config: TrainConfig) -> bool:
    """Return whether the artifact is there, made of the end of training as is asked for."""
    manifest = run.read_json(config.output / config.name / MANIFEST)
    if manifest is None:
        return False
    # A kill may have come between the model's making way and its being made again.
    between = run.is_trained(config.output) and not (config.output / run.MODEL).is_dir()
    made = manifest.get("made", {}).get("training", {})
    alike = made.get("blend", config.blend) == config.blend
    return not between and bool(alike and made.get("whiten", 0.0) == config.whiten)
