"""What a training run left in its folder, read with care: a part may be missing or cut off."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from app.domain.calibration import Calibration, CalibrationError
from app.encoders.artifact import CALIBRATION, MANIFEST, MODEL
from training.errors import TrainingError

Json: TypeAlias = Mapping[str, Any]

# Settings that may hold a path.
_PATHS = ("output", "base", "pairs", "dev", "unlabelled", "teacher", "beside", "corpus", "install")


@dataclass(frozen=True, slots=True)
class Run:
    """The parts of a run; each is empty, or None, where the run did not come to it.

    steps: lines of the log with a loss; dev: its lines with the dev sets' figures, both by step;
    encoders: of the evaluation; artifact: its manifest; notes: what was there and could not be
    read, one sentence each. Of absolute paths only the last part is kept: what lies above it is
    of one machine, and a page or card travels.
    """

    path: Path
    config: Json = field(default_factory=dict)
    data: Json = field(default_factory=dict)
    steps: tuple[Json, ...] = ()
    dev: tuple[Json, ...] = ()
    mining: tuple[Json, ...] = ()
    encoders: tuple[Json, ...] = ()
    errors: Json = field(default_factory=dict)
    reliability: Json = field(default_factory=dict)
    artifact: Json = field(default_factory=dict)
    calibration: Calibration | None = None
    notes: tuple[str, ...] = ()


def read_run(path: Path) -> Run:
    """Return what the run in the folder `path` left behind.

    Raises TrainingError where there is no such folder, or nothing of a run in it.
    """
    if not path.is_dir():
        raise TrainingError(f"{path}: there is no such folder of a run")
    notes: list[str] = []
    log = _log(path / "log.jsonl", notes)
    evaluation = _object(path / "evaluation.json", notes)
    folder = _artifact_folder(path)
    run = Run(
        path=path,
        config=_named(_object(path / "config.json", notes), _PATHS),
        data=_with_named_files(_object(path / "data.json", notes)),
        steps=tuple(line for line in log if number(line.get("loss")) is not None),
        dev=tuple(_with_score(line) for line in log if isinstance(line.get("dev"), Mapping)),
        mining=objects(_load(path / "mining.json", notes)),
        encoders=objects(evaluation.get("encoders")),
        errors=_object(path / "errors.json", notes),
        reliability=_object(path / "reliability.json", notes),
        artifact={} if folder is None else _object(folder / MANIFEST, notes),
        calibration=None if folder is None else _calibration(folder / CALIBRATION, notes),
        notes=tuple(notes),
    )
    if not (run.config or run.data or log or run.encoders or notes):
        raise TrainingError(
            f"{path}: holds nothing of a run (no config.json, data.json, log.jsonl or "
            "evaluation.json); give the folder that training wrote"
        )
    return run


def without_texts(run: Run) -> Run:
    """Return the run with no text that it read, and a note that says so."""
    note = (
        "The texts of the run belong to their sources: this copy of the page quotes none, neither "
        "what the encoder gets wrong nor what was dropped."
    )
    return replace(
        run,
        data={name: value for name, value in run.data.items() if name != "dropped_examples"},
        mining=tuple({**entry, "examples": []} for entry in run.mining),
        errors={},
        notes=(*run.notes, note),
    )


def read_comparison(path: Path, *, of_shares: bool = False) -> Json:
    """Return a comparison of losses, or of shares of the way, as its command wrote it.

    Raises TrainingError where the file is missing, is no JSON object or compares the other thing.
    """
    notes: list[str] = []
    found = _object(path, notes)
    if not path.is_file():
        raise TrainingError(f"{path}: there is no such comparison")
    if notes:
        raise TrainingError(f"{path}: {notes[0]}")
    if rows := objects(found.get("rows")):
        are_shares = "share" in rows[0]
        if are_shares and not of_shares:
            raise TrainingError(f"{path}: holds shares of the way; give it as --blends")
        if of_shares and not are_shares:
            raise TrainingError(f"{path}: holds losses compared; give it as --comparison")
    return found


def number(value: object) -> float | None:
    """Return a finite number as it is, None for anything else: NaN is how a loss says it broke."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def objects(value: object) -> tuple[Json, ...]:
    """Return the JSON objects of a list; none where it is no list."""
    return tuple(item for item in array(value) if isinstance(item, Mapping))


def array(value: object) -> list[Any]:
    """Return a JSON array as it is; an empty one for anything else."""
    return value if isinstance(value, list) else []


def mapping(value: object) -> Json:
    """Return a JSON object as it is; an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def _load(path: Path, notes: list[str]) -> object:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        notes.append(f"{path.name} cannot be read ({reason}), so what it holds is missing here.")
        return None


def _object(path: Path, notes: list[str]) -> Json:
    found = _load(path, notes)
    if found is not None and not isinstance(found, Mapping):
        notes.append(f"{path.name} is no JSON object, so what it holds is missing here.")
    return mapping(found)


def _named(content: Json, keys: Sequence[str]) -> Json:
    """Return content in which absolute paths at the keys are cut to their last part."""

    def cut(value: object) -> object:
        if isinstance(value, list):
            return [cut(item) for item in value]
        if isinstance(value, str) and Path(value).is_absolute():
            return Path(value).name
        return value

    return {key: cut(value) if key in keys else value for key, value in content.items()}


def _with_score(line: Json) -> Json:
    """Return a line of dev figures with their mean beside them, where it was logged among them."""
    figures = dict(line["dev"])
    return {**line, "score": figures.pop("score", line.get("score")), "dev": figures}


def _with_named_files(data: Json) -> Json:
    files = [_named(item, ("path",)) for item in objects(data.get("files"))]
    return {**data, "files": files} if files else data


def _log(path: Path, notes: list[str]) -> tuple[Json, ...]:
    """Return the log's lines by step.

    A run that went on after a kill has logged some steps twice; the later line is what counts. A
    kill may also leave a line half-written.
    """
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return ()
    except OSError as error:
        notes.append(f"{path.name} cannot be read ({error.strerror}), so the curves are missing.")
        return ()
    found: dict[tuple[float, bool], Json] = {}
    broken = 0
    for line in filter(str.strip, lines):
        try:
            item = mapping(json.loads(line))
        except ValueError:
            item = {}
        step = number(item.get("step"))
        if step is None:
            broken += 1
        else:
            found[step, "dev" in item] = item
    if broken:
        notes.append(f"{path.name} has {broken:,} unreadable lines, which are left out.")
    return tuple(found[key] for key in sorted(found))


def _artifact_folder(path: Path) -> Path | None:
    complete = (file.parent for file in sorted(path.glob(f"*/{MANIFEST}")))
    return next((folder for folder in complete if (folder / MODEL).is_file()), None)


def _calibration(path: Path, notes: list[str]) -> Calibration | None:
    found = _object(path, notes)
    try:
        return Calibration.from_json(found) if found else None
    except CalibrationError as error:
        notes.append(f"{path.name} cannot be used ({error}), so the cut-offs are missing here.")
        return None
