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
# The end of training, where the model is something made of it.
TRAINED = "trained"
# In a model's folder: what share of the way to the mean of which runs it is (`training.delta`).
MADE_OF = "made_of.json"
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
        before = read_config(saved, {})
        if different := config.differences(before):
            raise TrainingError(
                f"{saved}: cannot be resumed with other settings ({', '.join(different)}); "
                "give the ones it was started with, or another --output"
            )
        if not before.ends_alike(config) and (folder / MODEL).is_dir():
            end(folder, before)
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

    Where the run is to be finished with another `blend` or `whiten`, its model and report make way;
    the end of its training stays, as `trained`.
    Raises TrainingError where a run is there that was made from other data: what it has mined and
    measured belongs to those.
    """
    saved, now = read_json(config.output / DATA), json.loads(json.dumps(data))
    # What an earlier release did not note of its data cannot be held against them.
    if saved is not None and saved != {name: now[name] for name in now if name in saved}:
        raise TrainingError(
            f"{config.output / DATA}: the files have changed since the run began; put them back to "
            "go on with it, or give another --output"
        )
    config.output.mkdir(parents=True, exist_ok=True)
    _make_way(config)
    write_json(config.output / CONFIG, config.saved())
    write_json(config.output / DATA, data)


def is_trained(folder: Path) -> bool:
    """Return whether a run has come to the end of its training."""
    return (folder / MODEL).is_dir() or (folder / TRAINED).is_dir()


def end(folder: Path, config: TrainConfig) -> Path:
    """Return the folder of the model at the end of a run's training.

    config: what the run was last finished with.
    Raises TrainingError where there is none, or no more of it is left than what was made of it.
    """
    if (folder / TRAINED).is_dir():
        return folder / TRAINED
    if not (folder / MODEL).is_dir():
        raise TrainingError(f"{folder / MODEL}: there is no tuned model; finish the run first")
    if (folder / MODEL / MADE_OF).is_file():
        raise TrainingError(
            f"{folder / MODEL}: was made of runs by training.delta, it is no end of a run's "
            f"training; give those runs (its {MADE_OF} tells their settings)"
        )
    if not config.ends_as_trained:
        raise TrainingError(
            f"{folder / MODEL}: is {made_of_the_end(config)} already, and the end of its training "
            "was not kept; train again, with blend = 1"
        )
    return folder / MODEL


def made_of_the_end(config: TrainConfig) -> str:
    """Say what a run's model is, where it is not the end of its training."""
    share = f"{config.blend:g} of the way from its base" if config.blend < 1 else ""
    return " and ".join(filter(None, [share, "whitened" if config.whiten else ""]))


def _make_way(config: TrainConfig) -> None:
    """Take a model that was made otherwise from its place; before the new settings are written."""
    folder = config.output
    saved, model, trained = folder / CONFIG, folder / MODEL, folder / TRAINED
    if not saved.is_file() or not model.is_dir() or read_config(saved, {}).ends_alike(config):
        return
    if trained.is_dir():
        gone = folder / f".{MODEL}.gone"
        shutil.rmtree(gone, ignore_errors=True)
        model.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
    else:
        model.rename(trained)
    (folder / REPORT).unlink(missing_ok=True)


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
