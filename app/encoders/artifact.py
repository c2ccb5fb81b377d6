"""The encoder artifact: a folder that is complete and unaltered, or refused.

NAME/  model.onnx  tokenizer.json  calibration.json  README.md  manifest.json (written last)
       head.onnx where the calibration gives a pairwise head a weight

The manifest holds the SHA-256 of every other file, so its own SHA-256 identifies the encoder.
Nothing here needs ONNX Runtime or torch: the service and training both read artifacts through it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.domain.calibration import Calibration, CalibrationError
from app.domain.errors import ArtifactError
from app.domain.labels import FALLBACK, LabelCalibration

MANIFEST = "manifest.json"
MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
CALIBRATION = "calibration.json"
CARD = "README.md"
FILES = (MODEL, TOKENIZER, CALIBRATION, CARD)
HEAD = "head.onnx"
# The section of the calibration for one-shot labels.
LABELS = "labels"
# What the graph's one output is called; its inputs are `input_ids` and `attention_mask`.
OUTPUT = "sentence_embedding"
SHIPPED = Path(__file__).resolve().parent.parent / "artifacts"

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"

Batching = Literal["one", "padded", "packed"]

_AGAIN = "export it again, or put back a complete copy"


class Manifest(BaseModel):
    """What an artifact is and how it came to be.

    dimension: of its vectors; max_tokens: special tokens included, longer texts are cut;
    batching: whether texts may share a call of the graph, the shorter ones padded, without changing
    each other's vectors (`padded`, and `packed` where the linear layers see no padding) or not
    (`one`); made: config, data fingerprint, source weights' hash and tool versions; metrics: as
    measured when it was exported; files: SHA-256 (hex) of every other file of the folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: str = Field(pattern=NAME_PATTERN)
    version: str = Field(min_length=1)
    base_model: str
    dimension: int = Field(gt=0)
    max_tokens: int = Field(gt=2)
    pooling: Literal["mean", "cls"]
    precision: Literal["fp32", "int8"]
    batching: Batching
    licence: str
    made: dict[str, Any]
    metrics: dict[str, Any]
    files: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A folder whose every file matches its manifest.

    fingerprint: SHA-256 (hex) of manifest.json, and so of everything.
    labels: of one-shot labels; an artifact without any gets the base model's.
    """

    path: Path
    manifest: Manifest
    fingerprint: str
    calibration: Calibration
    labels: LabelCalibration = FALLBACK


def graph_input(rows: Sequence[Sequence[int]]) -> dict[str, NDArray[np.int64]]:
    """Return what an artifact's graph takes: token rows, padded on the right, and their mask.

    Both are (n, t), t the longest row's length. Serving and training go through here, so that
    neither can come to pad otherwise than the other.
    """
    ids = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    mask = np.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
        mask[place, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def load_artifact(path: Path | str) -> Artifact:
    """Return the artifact in the folder `path`, every file checked against the manifest.

    Raises ArtifactError, naming the file, where one is missing, malformed or altered.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ArtifactError(folder, "there is no such folder", "give an artifact's folder or name")
    text = _read(folder / MANIFEST)
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise ArtifactError(folder / MANIFEST, f"{place}: {first['msg']}", _AGAIN) from error
    for name in FILES:
        if name not in manifest.files:
            raise ArtifactError(folder / MANIFEST, f"does not list {name}", _AGAIN)
    for name, expected in manifest.files.items():
        if Path(name).name != name:
            raise ArtifactError(folder / MANIFEST, f"lists {name!r}, not a plain name", _AGAIN)
        if hashlib.sha256(_read(folder / name)).hexdigest() != expected:
            raise ArtifactError(folder / name, f"is not the file {MANIFEST} describes", _AGAIN)
    calibration, labels = _read_calibration(folder / CALIBRATION)
    if calibration.head and HEAD not in manifest.files:
        raise ArtifactError(folder / MANIFEST, f"does not list {HEAD}, which has a weight", _AGAIN)
    return Artifact(
        path=folder,
        manifest=manifest,
        fingerprint=hashlib.sha256(text).hexdigest(),
        calibration=calibration,
        labels=labels,
    )


def write_artifact(path: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Artifact:
    """Write the folder `path` whole, or not at all, and return it as read back.

    It is written beside its place, each file flushed to the disk and the manifest last, then
    renamed into place; an artifact already there is replaced.

    manifest: its `files` are filled in here; files: contents by name, all of FILES.
    Raises ArtifactError where a file is missing from `files` or the folder could not be loaded.
    """
    for name in FILES:
        if name not in files:
            raise ArtifactError(path / name, "was not given to be written")
    digests = {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}
    complete = manifest.model_copy(update={"files": digests})
    text = json.dumps(complete.model_dump(), indent=2, ensure_ascii=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        fresh = staging / "new"
        fresh.mkdir()
        for name in sorted(files):
            _write(fresh / name, files[name])
        _write(fresh / MANIFEST, text.encode())
        _sync_folder(fresh)
        written = _checked(fresh, path)
        _swap(path, fresh, staging / "old")
        _sync_folder(path.parent)
    finally:
        shutil.rmtree(staging)
    return written


def find_artifact(name_or_path: str | Path, folders: Iterable[Path] = ()) -> Path:
    """Return the folder of an artifact given by name or by path.

    folders: searched by name before those shipped with the service.
    Raises ArtifactError, listing the known names, where nothing is found.
    """
    places = (*folders, SHIPPED)
    known = {
        entry.name: entry
        for folder in reversed(places)
        if folder.is_dir()
        for entry in folder.iterdir()
        if (entry / MANIFEST).is_file()
    }
    found = known.get(str(name_or_path))
    if found is not None:
        return found
    path = Path(name_or_path)
    if path.is_dir():
        return path
    raise ArtifactError(
        path,
        "is neither the name of an artifact nor a folder",
        f"known names: {', '.join(sorted(known)) or 'none'}",
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ArtifactError(path, "is missing", _AGAIN) from None
    except OSError as error:
        raise ArtifactError(path, f"cannot be read ({error.strerror})") from error


def _read_calibration(path: Path) -> tuple[Calibration, LabelCalibration]:
    try:
        data = json.loads(_read(path))
    except ValueError as error:
        raise ArtifactError(path, f"is not JSON ({error})", _AGAIN) from error
    if not isinstance(data, dict):
        raise ArtifactError(path, "must hold a JSON object", _AGAIN)
    try:
        labels = LabelCalibration.from_json(data[LABELS]) if LABELS in data else FALLBACK
        return Calibration.from_json(data), labels
    except CalibrationError as error:
        raise ArtifactError(path, str(error), _AGAIN) from error


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _swap(path: Path, fresh: Path, aside: Path) -> None:
    """Put `fresh` where `path` is, what was there `aside`; undo that where it fails."""
    if not path.exists():
        fresh.rename(path)
        return
    path.rename(aside)
    try:
        fresh.rename(path)
    except OSError:
        aside.rename(path)
        raise


def _checked(fresh: Path, path: Path) -> Artifact:
    """Return the artifact in `fresh` as it will be at `path`. Raises ArtifactError, naming that."""
    try:
        return replace(load_artifact(fresh), path=path)
    except ArtifactError as error:
        raise ArtifactError(path / Path(error.path).name, error.problem) from error


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
