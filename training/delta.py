"""What tuning changed, small enough to keep: a base and this file give the tuned model again.

`python -m training.delta write RUN --share 0.6 --output FILE` and
`python -m training.delta apply FILE --output MODEL`. With `--whiten 0.2 --texts FILE`, the matrix
that whitens the model on those texts is kept as well.

Of several runs from one base (`write RUN RUN …`) it is the mean of their weights that is kept; a
file of differences stands for the runs it was made of, which need not be there any more.
Every changed matrix is kept as 8-bit differences from the base with one scale a row, a few
thousandths of a difference that is itself small; every changed vector as it is. A model made
from the file is the one to export: then whoever has the base builds the same artifact.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from app.domain.errors import DejaError
from training import run
from training.config import read_config
from training.data import read_texts
from training.errors import TrainingError
from training.weights import Base, find_base
from training.whitening import TEXTS, put_matrix, whiten

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_LARGEST = 127
# What sentence-transformers leaves in every folder of a model.
_MODEL_FILE = "modules.json"
_STEPS, _SCALE, _WHOLE = ".steps", ".scale", ".whole"
_WHITENING = "whitening"


@dataclass(frozen=True, slots=True)
class Whitening:
    """How to whiten what is kept: at what strength, on the first texts of a file."""

    strength: float
    texts: Path
    count: int = TEXTS


def difference(
    base: Mapping[str, Tensor], tuned: Mapping[str, Tensor], share: float = 1.0
) -> dict[str, Tensor]:
    """Return what to keep of `share` of the way from base to tuned weights, by name.

    Weights between the two keep more of what the base knew elsewhere (WiSE-FT, Wortsman et al.
    2022, arXiv:2109.01903). Raises TrainingError where the two are of different shapes.
    """
    kept: dict[str, Tensor] = {}
    for name, weight in tuned.items():
        if name not in base or base[name].shape != weight.shape:
            raise TrainingError(f"{name}: the base has no such weights; it is another model's base")
        if not weight.is_floating_point() or torch.equal(base[name], weight):
            continue
        change = share * (weight.float() - base[name].float())
        if change.dim() < 2:
            kept[name + _WHOLE] = change.contiguous()
            continue
        scale = (change.abs().amax(dim=1) / _LARGEST).clamp(min=torch.finfo(torch.float32).tiny)
        kept[name + _STEPS] = torch.round(change / scale[:, None]).to(torch.int8)
        kept[name + _SCALE] = scale
    return kept


def mean_of(weights: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of several models' weights, by name, in float32 where they are numbers.

    Of runs from one base the mean is often better than each (model soups, Wortsman et al. 2022,
    arXiv:2203.05482). Raises TrainingError where they are of different shapes.
    """
    first, *others = weights
    shapes = {name: weight.shape for name, weight in first.items()}
    for other in others:
        if {name: weight.shape for name, weight in other.items()} != shapes:
            raise TrainingError("the models are of different shapes; they have no mean")
    return {
        name: torch.stack([one[name].float() for one in weights]).mean(dim=0)
        if weight.is_floating_point() and others
        else weight
        for name, weight in first.items()
    }


def applied(base: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights that a base and a kept difference make, by name."""
    made = {name: weight.clone() for name, weight in base.items()}
    for key, value in kept.items():
        name, _, part = key.rpartition(".")
        if part == _SCALE[1:]:
            continue
        change = value.float()
        if part == _STEPS[1:]:
            change = change * kept[name + _SCALE][:, None]
        made[name] = (base[name].float() + change).to(base[name].dtype)
    return made


def write_delta(
    models: Sequence[str],
    base: str,
    share: float,
    output: Path,
    *,
    whitening: Whitening | None = None,
) -> Path:
    """Write what tuned models have learnt over their base, whole or not at all; return the file.

    models: runs, whose ends are taken, models' folders, or files of differences, whose ends count
    as often as they were made of runs; of several, the mean is taken.
    Raises TrainingError where either cannot be loaded, the base is another model's or cannot be
    told again by a hash of its weights, and where the model is a run's and but a share of the way:
    a share of that would be another share than was asked for. Of a run it is also checked that it
    started from this base. PairsError where the texts to whiten on cannot be read.
    """
    from safetensors.torch import save_file

    if not 0 < share <= 1:
        raise TrainingError(f"--share: must be above 0 and at most 1, not {share:g}")
    start = find_base(base)
    if start.sha256 is None:
        raise TrainingError(f"{base}: is no folder with one file of weights, to be known again by")
    model = _loaded(start)
    ends = [end for one in models for end in _ends(Path(one), start, model.state_dict())]
    kept = difference(model.state_dict(), mean_of([weights for weights, _ in ends]), share)
    metadata = {"base": base, "base_sha256": start.sha256, "share": f"{share:g}"}
    metadata["runs"] = json.dumps([settings for _, settings in ends])
    if whitening is not None:
        texts = read_texts(whitening.texts, whitening.count)
        # Of what will be made of the file, its eight bits included.
        model.load_state_dict(applied(model.state_dict(), kept))
        kept[_WHITENING] = whiten(model, texts, whitening.strength)
        told = {"strength": whitening.strength, "texts": whitening.texts.name, "count": len(texts)}
        metadata[_WHITENING] = json.dumps(told)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.partial")
    with run.writing(output.parent):
        save_file(kept, str(partial), metadata=metadata)
    partial.replace(output)
    return output


def apply_delta(file: Path, output: Path) -> Path:
    """Write the model folder that a file of differences makes of its base; return it.

    A model that is there is replaced. Raises TrainingError where the file cannot be read, the base
    is not the one that it was made from, or the folder holds something else.
    """
    kept, metadata = _read(file)
    start = find_base(metadata["base"])
    if start.sha256 is None or start.sha256 != metadata.get("base_sha256"):
        raise TrainingError(
            f"{file}: belongs to weights of {metadata['base']} with SHA-256 "
            f"{metadata.get('base_sha256')}, not {start.sha256}"
        )
    if output.exists() and not (output / _MODEL_FILE).is_file():
        raise TrainingError(f"{output}: holds something else than a model; give another folder")
    model = _loaded(start)
    matrix = kept.pop(_WHITENING, None)
    model.load_state_dict(applied(model.state_dict(), kept))
    if matrix is not None:
        put_matrix(model, matrix)
    made = output.with_name(f".{output.name}.made")
    shutil.rmtree(made, ignore_errors=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    run.save_model(model, made)
    told = {"share": float(metadata["share"]), "runs": json.loads(metadata.get("runs", "[]"))}
    if matrix is not None:
        told[_WHITENING] = json.loads(metadata.get(_WHITENING, "{}"))
    run.write_json(made / run.MADE_OF, told)
    shutil.rmtree(output, ignore_errors=True)
    return made.rename(output)


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return what a file keeps, and what it says of itself. Raises TrainingError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="pt") as opened:
            metadata = opened.metadata() or {}
            kept = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{file}: cannot be read as differences ({error})") from error
    if not {"base", "share"} <= set(metadata):
        raise TrainingError(f"{file}: does not say what base it belongs to, and what share it is")
    return kept, metadata


def _ends(
    model: Path, start: Base, base: Mapping[str, Tensor]
) -> list[tuple[Mapping[str, Tensor], dict[str, Any]]]:
    """Return the weights that one of the models ends with, and the settings of its run.

    Of a file of differences they are those of the mean it was made of, once a run of it: the share
    is taken back, and its whitening left out. base: the weights of `start`.
    Raises TrainingError as `write_delta` says.
    """
    if not model.is_file():
        return [(_loaded(find_base(str(_end(model, start)))).state_dict(), _settings(model))]
    kept, metadata = _read(model)
    if metadata.get("base_sha256") != start.sha256:
        raise TrainingError(f"{model}: was tuned from {metadata['base']}, not from {start.name}")
    kept.pop(_WHITENING, None)
    share = float(metadata["share"])
    made = {
        name: torch.lerp(base[name].float(), weight.float(), 1 / share)
        if weight.is_floating_point()
        else weight
        for name, weight in applied(base, kept).items()
    }
    return [(made, settings) for settings in json.loads(metadata.get("runs", "[]")) or [{}]]


def _settings(folder: Path) -> dict[str, Any]:
    """Return the settings of a run, given it or a model of it; none of a model from elsewhere.

    Of its files it is the names that are told: where they lay says nothing to others.
    """
    for place in (folder, folder.parent):
        if (place / run.LOG).is_file() and (place / run.CONFIG).is_file():
            config = read_config(place / run.CONFIG, {})
            files = {"pairs": config.pairs, "dev": config.dev, "corpus": config.corpus}
            told = config.model_dump(mode="json", exclude={"output", "install", "beside"})
            told |= {name: [file.name for file in paths] for name, paths in files.items()}
            return told | {"unlabelled": config.unlabelled and config.unlabelled.name}
    return {}


def _end(folder: Path, base: Base) -> Path:
    """Return the end of a run's training, given the run or a model of it; others as they are.

    Raises TrainingError where the run is from another base, or the model a share of the way.
    """
    if (folder / run.CONFIG).is_file() and not (folder / _MODEL_FILE).is_file():
        config = read_config(folder / run.CONFIG, {})
        end = run.end(folder, config)
    elif folder.name in (run.MODEL, run.TRAINED) and (folder.parent / run.LOG).is_file():
        config = read_config(folder.parent / run.CONFIG, {})
        end = folder
        if folder.name == run.MODEL and not config.ends_as_trained:
            raise TrainingError(
                f"{folder}: is {run.made_of_the_end(config)} already; give the run, "
                f"{folder.parent}, for the end of its training"
            )
    else:
        return folder
    if find_base(config.base).sha256 != base.sha256:
        raise TrainingError(f"{folder}: was tuned from {config.base}, not from {base.name}")
    return end


def _loaded(base: Base) -> SentenceTransformer:
    from training.export import load_model

    return load_model(base)


def _whitening(chosen: argparse.Namespace) -> Whitening | None:
    """Return how to whiten, as the command line says.

    Raises TrainingError where it says only half of it, or more than whole.
    """
    if not chosen.whiten and chosen.texts is None:
        return None
    if not 0 < chosen.whiten <= 0.5 or chosen.texts is None:
        raise TrainingError("--whiten: needs a strength above 0 and at most 0.5, and --texts FILE")
    return Whitening(chosen.whiten, chosen.texts, chosen.texts_limit)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or apply differences as the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.delta", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    write = commands.add_parser("write", help="keep what a tuned model has learnt")
    write.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="a run, whose end is taken, a tuned model's folder or a file of differences; of "
        "several, the mean is taken",
    )
    write.add_argument("--base", default="all-MiniLM-L6-v2", help="what it was tuned from")
    write.add_argument("--share", type=float, default=1.0, help="of the way, 0..1 (%(default)s)")
    write.add_argument(
        "--whiten", type=float, default=0.0, metavar="X", help="0 to 0.5 (%(default)s)"
    )
    write.add_argument("--texts", type=Path, metavar="FILE", help="unlabelled texts to whiten on")
    write.add_argument("--texts-limit", type=int, default=TEXTS, metavar="N", help="(%(default)s)")
    write.add_argument("--output", type=Path, required=True, metavar="FILE")
    apply = commands.add_parser("apply", help="make the model of a base and what was kept")
    apply.add_argument("file", type=Path)
    apply.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "write":
            made = write_delta(
                chosen.models,
                chosen.base,
                chosen.share,
                chosen.output,
                whitening=_whitening(chosen),
            )
        else:
            made = apply_delta(chosen.file, chosen.output)
    except (DejaError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{made}: written\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
