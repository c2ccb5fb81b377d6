"""Every setting of a training run: from a TOML or JSON file, from flags, saved with the model."""

from __future__ import annotations

import argparse
import json
import os
import tomllib
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.encoders.artifact import NAME_PATTERN
from training.errors import TrainingError

# Folders of a run that an artifact must not replace.
_RESERVED = ("checkpoints", "mined", "model", "trained")
# Settings of what comes after training: a run may be resumed with others.
_AFTERWARDS = frozenset(
    {"beside", "blend", "corpus", "corpus_limit", "install", "largest_loss", "population"}
    | {"precision", "release", "terms", "threads", "whiten"}
)


class TrainConfig(BaseModel):
    """What a training run reads, does and writes.

    Paths in a file are relative to the file, in flags to the working directory.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    output: Path = Field(description="Folder of the run; the artifact is written inside it.")
    name: str = Field(
        "deja-tuned", pattern=NAME_PATTERN, description="Name of the artifact, and of its folder."
    )
    release: str = Field("1", min_length=1, description="Version of the artifact.")
    base: str = Field(
        "all-MiniLM-L6-v2",
        description="Model to start from: a pinned name, a folder or a sentence-transformers name.",
    )

    pairs: tuple[Path, ...] = Field(
        min_length=1, description="Files of labelled pairs or labelled groups to train on."
    )
    max_pairs: int = Field(0, ge=0, description="Duplicate pairs to train on at most; 0 takes all.")
    dev: tuple[Path, ...] = Field(
        (),
        description="Sets to measure on, pairs (text1, text2, label) or intents (text, label); "
        "the first set of pairs calibrates. Without one of pairs, a part of `pairs` is held out.",
    )
    dev_share: float = Field(
        0.1, gt=0, lt=1, description="Share of `pairs` held out where `dev` has no set of pairs."
    )
    dev_limit: int = Field(
        4000, ge=10, description="Texts or pairs of each dev set used while training."
    )
    none_label: str = Field(
        "NO_NODES_DETECTED", description="Label of intents that means none of the others."
    )
    population: str = Field(
        "", description="What the calibration's pairs are, in words; their file's name if empty."
    )
    terms: str = Field("", description="Terms of the training data, for the model card.")

    loss: Literal["full", "mean_negative", "closest_negative", "original", "softmax"] = Field(
        "full", description="L_full = L1 + L2; L1; L2; L_original; or in-batch softmax."
    )
    alpha: float = Field(0.25, ge=0, le=2, description="Margin of the triplet losses.")
    closest: Literal["hardest", "semi-hard"] = Field(
        "hardest", description="Which in-batch negative is the closest: DESIGN's two readings."
    )
    mean_weight: float = Field(1.0, ge=0, description="Weight of L1 in L_full.")
    closest_weight: float = Field(1.0, ge=0, description="Weight of L2 in L_full.")
    scale: float = Field(
        20.0, gt=0, description="Inverse temperature of in-batch softmax and of the ranking."
    )
    ranking: float = Field(
        0.0,
        ge=0,
        description="Weight of ranking every duplicate of a batch above every explicit "
        "non-duplicate, labelled or mined, beside the loss.",
    )
    labelled_negatives: bool = Field(
        True, description="Labelled non-duplicates join the batch as negatives."
    )
    lone_negatives: bool = Field(
        True,
        description="Labelled non-duplicates of texts without any duplicate take part too, as "
        "triplets of a text, itself and its non-duplicate.",
    )
    mine: int = Field(
        0, ge=0, description="Near neighbours looked at for a mined negative; 0 mines none."
    )
    mine_margin: float = Field(
        0.05,
        ge=-1,
        le=1,
        description="A neighbour must be this much less similar than the positive, or it is "
        "dropped as a likely unlabelled duplicate.",
    )
    mine_every: int = Field(0, ge=0, description="Steps between two minings; 0 mines once.")
    hard: float = Field(
        0.0, ge=0, le=1, description="Share of a batch filled with neighbouring groups."
    )

    unlabelled: Path | None = Field(
        None,
        description="Unlabelled texts, to stay close to the teacher's vectors on and to whiten by.",
    )
    unlabelled_a_step: int = Field(64, ge=2, description="Unlabelled texts in a batch.")
    unlabelled_limit: int = Field(
        0,
        ge=0,
        description="Unlabelled texts used, in turn; 0 takes as many as the steps ask for. "
        "Whitening takes the first 24,000 of them.",
    )
    stay_close: float = Field(1.0, ge=0, description="Weight of staying close.")
    teacher: str = Field(
        "", description="Model or artifact whose vectors to keep; the base itself if empty."
    )
    teacher_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the teacher in the vectors to stay close to, the rest the base's.",
    )
    blend: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the tuned weights in the result, the rest the base. A run may be "
        "finished again with another: its end is kept.",
    )
    whiten: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Strength of the whitening behind the pooling, fitted on the unlabelled texts "
        "or else on those of the pairs: 0 for none, 0.5 for all of it. As with `blend`, a run may "
        "be finished again with another.",
    )

    batch: int = Field(64, ge=2, description="Duplicate pairs in a batch, over all processes.")
    accumulate: int = Field(1, ge=1, description="Batches whose gradients make one step.")
    epochs: float = Field(1.0, gt=0, description="Passes over the pairs, unless `steps` is given.")
    steps: int = Field(0, ge=0, description="Steps of the optimiser; 0 goes by `epochs`.")
    learning_rate: float = Field(5e-5, gt=0, description="Highest learning rate of AdamW.")
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of steps with a rising rate.")
    weight_decay: float = Field(0.01, ge=0, description="Weight decay of AdamW.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout inside the encoder.")
    freeze_embeddings: bool = Field(False, description="Leave the word embeddings as they are.")
    mixed_precision: Literal["no", "bf16", "fp16"] = Field(
        "no", description="bf16 halves the time on CPUs that have it; fp16 is for GPUs."
    )
    device: Literal["auto", "cpu"] = Field("auto", description="cpu leaves a GPU alone.")
    threads: int = Field(0, ge=0, description="Threads of the CPU; 0 takes all cores.")
    seed: int = Field(0, ge=0, description="Of the order, the choices and the dropout.")

    log_every: int = Field(10, ge=1, description="Steps between two lines of the log.")
    evaluate_every: int = Field(
        0, ge=0, description="Steps between two measurements and checkpoints; 0: ten in a run."
    )
    patience: int = Field(
        0, ge=0, description="Measurements without a better score before stopping; 0 never stops."
    )
    precision: Literal["int8", "fp32"] = Field("int8", description="Numbers of the artifact.")
    largest_loss: float = Field(
        0.5,
        ge=0,
        description="Points of average precision that int8 may lose against fp32 on 1,000 "
        "calibration pairs or more; if it loses more, the artifact is written in fp32, and that "
        "is said.",
    )
    corpus: tuple[Path, ...] = Field(
        (),
        description="Pairs or texts among which held-out natural duplicates are to be found; none: "
        "not measured.",
    )
    corpus_limit: int = Field(100_000, ge=0, description="Texts taken of each file of `corpus`.")
    beside: tuple[str, ...] = Field(
        (), description="Further models or artifacts to measure beside, all-mpnet-base-v2 say."
    )
    install: Path | None = Field(
        None, description="Folder to put a copy of the artifact in, whole or not at all."
    )

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.name in _RESERVED:
            raise ValueError(f"name: {self.name!r} is another folder of the run")
        if self.unlabelled is None and self.teacher:
            raise ValueError("teacher: needs unlabelled texts to learn on (unlabelled)")
        if self.loss == "original" and not (self.labelled_negatives or self.mine):
            raise ValueError("loss: original needs explicit negatives (labelled_negatives or mine)")
        if self.ranking and not (self.labelled_negatives or self.mine):
            raise ValueError("ranking: needs explicit negatives (labelled_negatives or mine)")
        if self.ranking and self.loss == "original":
            raise ValueError("ranking: joins a loss over the batch, which original is not")
        return self

    def changed(self, **settings: Any) -> Self:
        """Return the config with other settings, checked as those of a file are.

        Raises TrainingError, naming the setting, where they cannot be together.
        """
        try:
            return type(self).model_validate({**self.model_dump(), **settings})
        except ValidationError as error:
            raise TrainingError(_message(error)) from error

    def saved(self) -> dict[str, Any]:
        """Return the settings for a file in the run's folder, paths relative to it."""
        here = self.output
        return {
            name: _relative(value, here) for name, value in self.model_dump(mode="python").items()
        }

    def ends_alike(self, other: TrainConfig) -> bool:
        """Return whether the same is made of the end of training: `blend` and `whiten`."""
        return (self.blend, self.whiten) == (other.blend, other.whiten)

    @property
    def ends_as_trained(self) -> bool:
        """Whether the run's model is the end of its training, nothing done to it."""
        return self.blend == 1 and not self.whiten

    def differences(self, other: TrainConfig) -> list[str]:
        """Return the names of the settings in which two runs would be trained differently."""
        return [
            name
            for name in type(self).model_fields
            if name not in _AFTERWARDS
            and _resolved(getattr(self, name)) != _resolved(getattr(other, name))
        ]


def read_config(file: Path | None, flags: Mapping[str, Any]) -> TrainConfig:
    """Return the config of a TOML or JSON file, in which flags given by name take precedence.

    Raises TrainingError, naming the file and the setting, where it is missing or malformed.
    """
    given = {} if file is None else _from_file(file)
    try:
        return TrainConfig.model_validate({**given, **flags})
    except ValidationError as error:
        raise TrainingError(_message(error, file)) from error


def _message(error: ValidationError, file: Path | None = None) -> str:
    first = error.errors(include_url=False)[0]
    setting = ".".join(str(part) for part in first["loc"])
    place = f"{file}: " if file is not None else ""
    if first["type"] == "missing":
        remedy = f"give --{setting.replace('_', '-')} or set it in a config file"
        return f"{place}{setting}: is needed; {remedy}"
    if first["type"] == "extra_forbidden":
        return f"{place}{setting}: there is no such setting"
    message = first["msg"].removeprefix("Value error, ")
    return f"{place}{setting + ': ' if setting else ''}{message}"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every setting; what is not given is absent from the parsed arguments."""
    for name, field in TrainConfig.model_fields.items():
        flag = "--" + name.replace("_", "-")
        kind, several = _kind(field.annotation)
        default = "" if field.is_required() or field.default in ((), "", None) else field.default
        text = f"{field.description}" + (f" ({default})" if default != "" else "")
        options: dict[str, Any] = {
            "dest": name,
            "default": argparse.SUPPRESS,
            "help": text.replace("%", "%%"),
        }
        if kind is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, **options)
            continue
        if get_origin(kind) is Literal:
            options["choices"] = get_args(kind)
        else:
            options["metavar"] = {Path: "FILE", int: "N", float: "X"}.get(kind, "TEXT")
        parser.add_argument(flag, nargs="+" if several else None, **options)


def _kind(annotation: Any) -> tuple[Any, bool]:
    """Return the plain type of a setting and whether it takes several values."""
    if get_origin(annotation) is tuple:
        return get_args(annotation)[0], True
    if get_origin(annotation) in (Union, types.UnionType):
        return next(kind for kind in get_args(annotation) if kind is not type(None)), False
    return annotation, False


def _from_file(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
        given: dict[str, Any] = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except FileNotFoundError:
        raise TrainingError(f"{file}: there is no such config file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"{file}: cannot be read ({error})") from error
    except (tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        raise TrainingError(f"{file}: is malformed ({error})") from error
    if not isinstance(given, dict):
        raise TrainingError(f"{file}: must hold settings by name")
    for name, field in TrainConfig.model_fields.items():
        kind, several = _kind(field.annotation)
        if kind is Path and given.get(name) is not None:
            given[name] = _beside(file, given[name], several=several)
    return given


def _resolved(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_resolved(one) for one in value)
    return value.resolve() if isinstance(value, Path) else value


def _relative(value: Any, folder: Path) -> Any:
    """Return a value for JSON; a path, or several, as seen from a folder."""
    if isinstance(value, tuple):
        return [_relative(one, folder) for one in value]
    if isinstance(value, Path):
        return os.path.relpath(value, folder)
    return value


def _beside(file: Path, value: Any, *, several: bool) -> Any:
    """Return a path, or several, as seen from the file's folder; other values as they are."""
    if several and isinstance(value, Sequence) and not isinstance(value, str):
        return [_beside(file, one, several=False) for one in value]
    if isinstance(value, str):
        return [file.parent / value] if several else file.parent / value
    return value
