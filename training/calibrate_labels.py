"""Fit one-shot labels: `python -m training.calibrate_labels ARTIFACT --sets FILE … [--write]`.

Each set is measured with weights fitted on the others, so that the figures say what to expect of
labels that were never seen; then the weights are fitted on all of them and, with --write, stored in
the artifact's calibration.json, under `labels`, and the figures on its card. The artifact is
another one then, by its manifest: a service re-embeds what it has.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from app.domain.errors import DejaError
from app.domain.labels import LabelCalibration
from app.encoders.artifact import (
    CALIBRATION,
    CARD,
    LABELS,
    Artifact,
    find_artifact,
    load_artifact,
    write_artifact,
)
from training.card import model_card
from training.data import read_groups
from training.devsets import check_names, set_name
from training.encoders import ArtifactEncoder
from training.errors import TrainingError
from training.fields import NONE_LABEL
from training.label_episodes import Shots, read_shots
from training.label_fit import NONE_SHARE, draw_episodes, fit_weights
from training.label_tasks import ANCHORS, DRAWS, Figures, evaluate_labels

if TYPE_CHECKING:
    from rich.table import Table

_COLUMNS = {
    "accuracy": "accuracy",
    "nearest": "of nearest",
    "auroc": "none AUROC",
    "best_auroc": "of best cosine",
    "label_error": "label ECE",
    "none_error": "none ECE",
}


def read_sets(
    artifact: Artifact, files: Sequence[Path], *, none_label: str, threads: int, cache: Path | None
) -> list[Shots]:
    """Return labelled sets as vectors of an artifact's encoder.

    cache: a folder that keeps the vectors, by encoder and file, for the next time.
    Raises PairsError where a file is malformed, TrainingError where one cannot be used.
    """
    encoder = ArtifactEncoder(artifact, threads=threads)
    found = []
    for file in files:
        texts = read_groups(file)
        model = artifact.manifest.files["model.onnx"]
        key = hashlib.sha256(f"{model} {texts.fingerprint}".encode()).hexdigest()
        vectors = _kept(cache, key)
        if vectors is None:
            vectors = encoder.encode(texts.texts)
            if cache is not None:
                _keep(cache, key, vectors)
        found.append(read_shots(set_name(file), texts, vectors, none_label))
    return found


def _kept(cache: Path | None, key: str) -> NDArray[np.float32] | None:
    """Return the vectors that were kept, None where there are none that can be read."""
    if cache is None:
        return None
    try:
        vectors: NDArray[np.float32] = np.load(cache / f"{key}.npy")
    except (OSError, EOFError, ValueError):
        return None
    return vectors


def _keep(cache: Path, key: str, vectors: NDArray[np.float32]) -> None:
    """Keep vectors whole, or not at all."""
    cache.mkdir(parents=True, exist_ok=True)
    beside = cache / f".{key}.{os.getpid()}.npy"
    try:
        np.save(beside, vectors)
        beside.replace(cache / f"{key}.npy")
    finally:
        beside.unlink(missing_ok=True)


def measure(sets: Sequence[Shots], *, draws: int, seed: int) -> list[Figures]:
    """Return the figures of each set, measured with weights fitted on the others.

    Raises TrainingError where there is one set alone, or one twice.
    """
    if len(sets) < 2:
        raise TrainingError("a set is measured with weights fitted on others; give two at least")
    check_names([shots.name for shots in sets])
    found = []
    for shots in sets:
        others = [other for other in sets if other is not shots]
        weights = fit_weights(draw_episodes(others, seed=seed))
        found += [
            evaluate_labels(shots, weights, anchors=anchors, draws=draws, seed=seed)
            for anchors in ANCHORS
        ]
    return found


def fit(sets: Sequence[Shots], *, seed: int) -> LabelCalibration:
    """Return the calibration fitted on all sets. Raises TrainingError where that cannot be."""
    return LabelCalibration(
        weights=fit_weights(draw_episodes(sets, seed=seed)),
        none_share=NONE_SHARE,
        population=", ".join(shots.name for shots in sets),
        texts=sum(len(shots.labels) for shots in sets),
    )


def with_labels(
    artifact: Artifact, labels: LabelCalibration, measured: Sequence[Figures]
) -> Artifact:
    """Return the artifact, written again in its place with its labels' calibration.

    measured: goes into the manifest's metrics and onto the card.
    """
    files = {name: (artifact.path / name).read_bytes() for name in artifact.manifest.files}
    calibration: dict[str, Any] = json.loads(files[CALIBRATION])
    calibration[LABELS] = labels.to_json()
    files[CALIBRATION] = (json.dumps(calibration, indent=2, ensure_ascii=False) + "\n").encode()
    metrics = {**artifact.manifest.metrics, LABELS: list(measured)}
    manifest = artifact.manifest.model_copy(update={"metrics": metrics})
    files[CARD] = model_card(manifest, artifact.calibration).encode()
    return write_artifact(artifact.path, manifest, files)


def table(figures: Sequence[Figures]) -> Table:
    """Return figures as a table, in percent."""
    from rich.table import Table

    shown = Table(title="One-shot labels, in percent", box=None, header_style="bold")
    shown.add_column("set")
    for name in ("anchors a label", *_COLUMNS.values()):
        shown.add_column(name, justify="right")
    for row in figures:
        cells = [f"{100 * row[name]:.1f}" for name in _COLUMNS]
        for place, name in ((0, "accuracy"), (2, "auroc")):
            cells[place] += f" ± {100 * row[f'{name}_spread']:.1f}"
        shown.add_row(row["set"], str(row["anchors"]), *cells)
    return shown


def _at_least_one(text: str) -> int:
    """Return the number of a flag. Raises argparse's error where it is none, or below 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 1 on")
    return number


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.calibrate_labels", description=__doc__
    )
    parser.add_argument(
        "artifact", metavar="ARTIFACT", help="its folder, or the name of a shipped one"
    )
    parser.add_argument(
        "--sets",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="labelled texts (text, label, perhaps split), two files at least",
    )
    parser.add_argument(
        "--none-label",
        default=NONE_LABEL,
        help="the label of texts that are of none of the classes (%(default)s)",
    )
    parser.add_argument("--write", action="store_true", help="store the weights in the artifact")
    parser.add_argument(
        "--draws", type=_at_least_one, default=DRAWS, help="of anchors (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="of the encoder (%(default)s)")
    parser.add_argument("--cache", type=Path, help="folder that keeps vectors for the next time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures and weights here")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    from rich.console import Console

    given = _arguments(arguments)
    try:
        artifact = load_artifact(find_artifact(given.artifact))
        sets = read_sets(
            artifact,
            given.sets,
            none_label=given.none_label,
            threads=given.threads,
            cache=given.cache,
        )
        figures = measure(sets, draws=given.draws, seed=given.seed)
        Console().print(table(figures))
        labels = fit(sets, seed=given.seed)
        found = {"labels": labels.to_json(), "measured": figures}
        sys.stdout.write(json.dumps(labels.to_json()) + "\n")
        if given.json:
            given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        if given.write:
            written = with_labels(artifact, labels, figures)
            sys.stdout.write(f"{written.path}: written, {written.fingerprint[:12]}\n")
    except (DejaError, TrainingError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
