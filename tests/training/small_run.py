"""A small run of the real recipe: invented questions, and the settings that take seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from training.config import TrainConfig

ROOT = Path(__file__).parents[2]
VERBS = ("reset", "change", "cancel", "order", "close", "open", "send", "return")
NOUNS = ("password", "parcel", "account", "card", "phone", "book", "ticket", "address")


def questions() -> list[tuple[str, str, int]]:
    """Return 128 labelled pairs: 64 duplicates, each with a non-duplicate of its first text.

    Two by two they are linked, so they are 32 pieces that can be held out whole.
    """
    rows = []
    for noun in NOUNS:
        for v, verb in enumerate(VERBS):
            other = f"when will the {VERBS[v ^ 1]} of the {noun} arrive ?"
            rows.append((f"how do i {verb} my {noun} ?", f"best way to {verb} a {noun}", 1))
            rows.append((f"how do i {verb} my {noun} ?", other, 0))
            if v % 2:
                rows[-1] = (rows[-2][0], f"how do i {VERBS[v - 1]} my {noun} ?", 0)
    return rows


def write_pairs(file: Path, rows: list[tuple[str, str, int]] | None = None) -> Path:
    """Write labelled pairs as a TSV file and return it."""
    lines = ["\t".join(map(str, row)) for row in (questions() if rows is None else rows)]
    file.write_text("\n".join(["text1\ttext2\tlabel", *lines]) + "\n", encoding="utf-8")
    return file


def settings(folder: Path, base: Path, **changed: Any) -> dict[str, Any]:
    """Return the settings of a run of 24 steps, a bit over three epochs, into `folder`/run."""
    pairs = folder / "pairs.tsv"
    if not pairs.exists():
        write_pairs(pairs)
    return {
        "output": folder / "run",
        "name": "small",
        "base": str(base),
        "pairs": (pairs,),
        "dev_share": 0.25,
        "batch": 8,
        "steps": 24,
        "learning_rate": 1e-3,
        "dropout": 0.1,
        "log_every": 2,
        "evaluate_every": 4,
        "threads": 1,
        "device": "cpu",
        **changed,
    }


def config(folder: Path, base: Path, **changed: Any) -> TrainConfig:
    """Return the config of such a run."""
    return TrainConfig(**settings(folder, base, **changed))


def command(chosen: TrainConfig, *flags: str, launcher: tuple[str, ...] = ()) -> list[str]:
    """Return the command line of a run, its settings in a file beside its folder."""
    file = chosen.output.with_name(f"{chosen.output.name}.json")
    given = chosen.model_dump(mode="json")
    file.write_text(json.dumps(given), encoding="utf-8")
    return [sys.executable, *launcher, "-m", "training.cli", "--config", str(file), *flags]


def environment() -> dict[str, str]:
    """Return the environment of a run in a process of its own."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def start(line: list[str], **options: Any) -> subprocess.Popen[str]:
    """Start a command line, its output kept."""
    return subprocess.Popen(
        line,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Return the weights that a run has chosen."""
    found: dict[str, torch.Tensor] = load_file(run / "model" / "model.safetensors")
    return found


def log(run: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log."""
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
