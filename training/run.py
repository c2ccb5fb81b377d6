"""The folder of a run: what lies in it, and how it comes to be there whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from training.config import TrainConfig, read_config
from training.errors import TrainingError

CONFIG = "config.json"
DATA = "data.json"
LOG = "log.jsonl"
MINING = "mining.json"
EVALUATION = "evaluation.json"
ERRORS = "errors.json"
RELIABILITY = "reliability.json"
REPORT = "report.html"
CHECKPOINTS = "checkpoints"
MODEL = "model"


def check(config: TrainConfig, *, resume: bool) -> None:
    """Check that a run can be written to its folder; nothing is changed.

    Raises TrainingError where a run is there and is not to be resumed, or has other settings, and
    where the folder holds something else.
    """
    folder, saved = config.output, config.output / CONFIG
    if resume and saved.is_file():
        if different := config.differences(read_config(saved, {})):
            raise TrainingError(
                f"{saved}: cannot be resumed with other settings ({', '.join(different)}); "
                "give the ones it was started with, or another --output"
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        remedy = "go on with it by --resume, or give" if saved.is_file() else "give"
        raise TrainingError(f"{folder}: is not empty; {remedy} another --output")


def start(config: TrainConfig, data: Any) -> None:
    """Make the folder of a run, with its settings and what data it is made from."""
    config.output.mkdir(parents=True, exist_ok=True)
    write_json(config.output / CONFIG, config.saved())
    write_json(config.output / DATA, data)


def write_json(file: Path, data: Any) -> None:
    """Write a JSON file whole or not at all."""
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    partial.replace(file)


def read_json(file: Path) -> Any:
    """Return what a JSON file of the run holds, None where it is not there."""
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def last_logged(log: Path) -> dict[str, Any]:
    """Return the last line of a log that tells of a step of training."""
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    found: dict[str, Any] = [entry for entry in entries if "loss" in entry][-1]
    return found


def save_model(model: Any, folder: Path) -> None:
    """Save a sentence-transformers model whole or not at all."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save(str(partial), create_model_card=False)
    partial.replace(folder)
