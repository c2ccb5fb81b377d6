"""What a run trains on and is measured on, read and checked whole before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.text import canonical_form
from training.config import TrainConfig
from training.data import (
    LabelledTexts,
    file_kind,
    read_groups,
    read_natural_pairs,
    read_pairs,
)
from training.devsets import set_name
from training.errors import TrainingError
from training.graph import components, drop_contradictions, groups, split
from training.pairs import Pairs, count_dropped

_EXAMPLES = 50


@dataclass(frozen=True, slots=True)
class Prepared:
    """The pairs of a run and the sets it is measured on.

    groups: (len(pairs.texts),) the group of each text; dev: pairs or intents by name, the first
    of pairs being what the calibration is fitted on, `held_out`; population: what those are, in
    words; summary: what data.json says.
    """

    pairs: Pairs
    groups: NDArray[np.int64]
    dev: dict[str, Pairs | LabelledTexts]
    held_out: str
    population: str
    summary: dict[str, Any]

    @property
    def calibration_pairs(self) -> Pairs:
        """The held-out pairs."""
        pairs = self.dev[self.held_out]
        assert isinstance(pairs, Pairs)
        return pairs


def prepare(config: TrainConfig) -> Prepared:
    """Return what a run trains on and is measured on, and what data.json says of it.

    No text, and no pair linked to it, is both trained and measured on: where a dev set holds a
    text of the training pairs, all pairs linked to it are left out, and counted.
    Raises PairsError, with file and line, for a malformed file, and TrainingError where nothing
    is left to train or to calibrate on.
    """
    dev = {set_name(path): _read_dev(path) for path in config.dev}
    if len(dev) < len(config.dev):
        raise TrainingError("dev: two of the files have the same name")
    pairs = drop_contradictions(read_pairs(*config.pairs))
    dropped = pairs.dropped
    before = len(pairs)
    pairs = _apart(pairs, dev)
    left_out = before - len(pairs)
    held_out = next((name for name, found in dev.items() if isinstance(found, Pairs)), None)
    population = held_out or ""
    if held_out is None:
        shares = {"train": 1 - config.dev_share, "dev": config.dev_share}
        parts = split(pairs, shares, seed=config.seed)
        held_out = "held-out"
        population = f"{config.dev_share:.0%} of {', '.join(path.name for path in config.pairs)}"
        pairs, dev = parts["train"], {held_out: parts["dev"], **dev}
    if config.max_pairs:
        pairs = _some(pairs, config.max_pairs, config.seed)
    _check(config, pairs, dev[held_out], held_out)
    found_groups = groups(pairs)
    sizes = np.bincount(found_groups[pairs.left[pairs.labels]])
    summary = {
        "files": [{"path": source.path.name, "sha256": source.sha256} for source in pairs.sources],
        "pairs": len(pairs),
        "positives": int(pairs.labels.sum()),
        "negatives": int((~pairs.labels).sum()),
        "texts": len(pairs.texts),
        "groups": int((sizes > 0).sum()),
        "largest_group": int(np.bincount(found_groups).max()),
        "linked_to_dev": left_out,
        "dropped": count_dropped(dropped),
        "dropped_examples": [
            {"reason": one.reason, "line": one.line, "texts": list(one.texts)}
            for one in dropped[:_EXAMPLES]
        ],
        "dev": {name: len(found) for name, found in dev.items()},
    }
    return Prepared(pairs, found_groups, dev, held_out, population, summary)


def _read_dev(path: Path) -> Pairs | LabelledTexts:
    return read_natural_pairs(path) if file_kind(path) == "pairs" else read_groups(path)


def _apart(pairs: Pairs, dev: dict[str, Pairs | LabelledTexts]) -> Pairs:
    """Return the pairs no text of which is linked, by any pair, to a text of a dev set."""
    measured = {canonical_form(text) for found in dev.values() for text in found.texts}
    inside = np.array([canonical_form(text) in measured for text in pairs.texts])
    if not inside.any():
        return pairs
    piece = components(pairs)
    tainted = np.zeros(piece.max() + 1, dtype=np.bool_)
    tainted[piece[inside]] = True
    return pairs.take(~tainted[piece[pairs.left]])


def _some(pairs: Pairs, count: int, seed: int) -> Pairs:
    """Return at most `count` duplicates, drawn at random, and the non-duplicates of their texts."""
    positive = np.flatnonzero(pairs.labels)
    if len(positive) <= count:
        return pairs
    drawn = np.random.default_rng(seed).choice(positive, count, replace=False)
    texts = np.zeros(len(pairs.texts), dtype=np.bool_)
    texts[pairs.left[drawn]] = texts[pairs.right[drawn]] = True
    keep = ~pairs.labels & (texts[pairs.left] | texts[pairs.right])
    keep[drawn] = True
    return pairs.take(keep)


def _check(config: TrainConfig, pairs: Pairs, held_out: Pairs | LabelledTexts, name: str) -> None:
    """Raise TrainingError where the pairs are too few to train, or to calibrate on."""
    duplicates = int(pairs.labels.sum())
    if duplicates < 2:
        raise TrainingError(
            f"{', '.join(map(str, config.pairs))}: {duplicates} duplicate pairs are left to train "
            "on, at least 2 are needed"
        )
    if len(set(held_out.labels)) < 2:
        raise TrainingError(
            f"{name}: needs both duplicates and non-duplicates to calibrate on; give a --dev file "
            "that has both"
        )
    if config.loss == "original" and not config.mine and pairs.labels.all():
        raise TrainingError(
            "loss: original needs explicit negatives and the pairs hold none; give --mine 10"
        )
