"""The folder of a run: what lies in it, and how it comes to be there whole or not at all."""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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
# With less free than this after a failed write, bytes, it failed for want of room.
_ROOM = 1_000_000


def check(config: TrainConfig, *, resume: bool) -> None:
    """Check that a run can be written to its folder; nothing is changed.

    Raises TrainingError where a run is there and is not to be resumed, or has other settings,
    where the folder holds something else, and where the folder to install in cannot be written to:
    better now than after hours of training.
    """
    if config.install is not None:
        _check_writable(config.install)
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


def _check_writable(folder: Path) -> None:
    """Raise TrainingError where nothing can be put into a folder, or it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=folder):
            pass
    except OSError as error:
        raise TrainingError(f"{folder}: cannot be written to ({error.strerror})") from error


def start(config: TrainConfig, data: Any) -> None:
    """Make the folder of a run, with its settings and what data it is made from.

    Raises TrainingError where a run is there that was made from other data: what it has mined and
    measured belongs to those.
    """
    saved = read_json(config.output / DATA)
    if saved is not None and saved != json.loads(json.dumps(data)):
        raise TrainingError(
            f"{config.output / DATA}: the files have changed since the run began; put them back to "
            "go on with it, or give another --output"
        )
    config.output.mkdir(parents=True, exist_ok=True)
    write_json(config.output / CONFIG, config.saved())
    write_json(config.output / DATA, data)


def write_json(file: Path, data: Any) -> None:
    """Write a JSON file whole or not at all."""
    partial = file.with_name(f".{file.name}.partial")
    try:
        partial.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    except OSError:
        # So that a folder in which nothing else came to be is still an empty one.
        partial.unlink(missing_ok=True)
        raise
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
    with writing(folder.parent):
        model.save(str(partial), create_model_card=False)
    partial.replace(folder)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raise as OSError what torch and safetensors raise where they cannot write below a folder.

    Theirs are errors of their own, which name neither the place nor a full disk.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        if shutil.disk_usage(folder).free < _ROOM:
            raise OSError(errno.ENOSPC, "No space left on device", str(folder)) from error
        reason = str(error).splitlines()[0]
        raise OSError(errno.EIO, f"cannot be written: {reason}", str(folder)) from error
