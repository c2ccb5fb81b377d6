"""What a run trains on and is measured on, read and checked whole before anything is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
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
    read_pairs,
    read_texts,
)
from training.devsets import read_corpus, set_name
from training.errors import TrainingError
from training.graph import components, drop_contradictions, groups, split
from training.pairs import Dropped, Pairs, count_dropped
from training.tables import sha256

_EXAMPLES_A_REASON = 10


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
    read = {set_name(path): _read_dev(path) for path in config.dev}
    if len(read) < len(config.dev):
        raise TrainingError("dev: two of the files have the same name")
    # Only natural pairs measure, but whatever stands in a dev set is not trained on.
    dev = {
        name: _natural(found, name) if isinstance(found, Pairs) else found
        for name, found in read.items()
    }
    # Read for their mistakes alone: they are wanted only when hours may have passed.
    read_corpus(config.corpus, config.corpus_limit)
    if config.unlabelled is not None:
        read_texts(config.unlabelled, limit=1)
    pairs = drop_contradictions(read_pairs(*config.pairs))
    dropped = [*pairs.dropped, *(one for found in read.values() for one in found.dropped)]
    before = len(pairs)
    pairs = apart(pairs, [text for found in read.values() for text in found.texts])
    left_out = before - len(pairs)
    held_out = next((name for name, found in dev.items() if isinstance(found, Pairs)), None)
    population = held_out or ""
    if held_out is None:
        shares = {"train": 1 - config.dev_share, "dev": config.dev_share}
        try:
            parts = split(pairs, shares, seed=config.seed)
        except TrainingError as error:
            raise TrainingError(f"{', '.join(map(str, config.pairs))}: {error}") from error
        held_out = "held-out"
        population = f"{config.dev_share:.0%} of {', '.join(path.name for path in config.pairs)}"
        pairs, dev = parts["train"], {held_out: _natural(parts["dev"], held_out), **dev}
    if config.max_pairs:
        pairs = _some(pairs, config.max_pairs, config.seed)
    _check(config, pairs)
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
            {
                "reason": one.reason,
                "file": None if one.path is None else one.path.name,
                "line": one.line,
                "texts": list(one.texts),
            }
            for one in _examples(dropped)
        ],
        "dev": {name: len(found) for name, found in dev.items()},
        "dev_files": _files(config.dev),
        "unlabelled": [] if config.unlabelled is None else _files([config.unlabelled]),
    }
    return Prepared(pairs, found_groups, dev, held_out, population, summary)


def _files(paths: Iterable[Path]) -> list[dict[str, str]]:
    """Return names and hashes of files, by which a resumed run knows that they are the same."""
    return [{"path": path.name, "sha256": sha256(path)} for path in paths]


def _read_dev(path: Path) -> Pairs | LabelledTexts:
    return (
        drop_contradictions(read_pairs(path)) if file_kind(path) == "pairs" else read_groups(path)
    )


def _natural(pairs: Pairs, name: str) -> Pairs:
    """Return the natural pairs, those to measure and to calibrate on.

    Raises TrainingError where they are not of both kinds.
    """
    found = pairs.take(pairs.natural)
    if len(set(found.labels.tolist())) < 2:
        raise TrainingError(
            f"{name}: needs both duplicates and non-duplicates to measure and calibrate on; give a "
            "--dev file that has both"
        )
    return found


def _examples(dropped: Iterable[Dropped]) -> Iterator[Dropped]:
    """Give the first few that were dropped for each reason."""
    seen: Counter[str] = Counter()
    for one in dropped:
        seen[one.reason] += 1
        if seen[one.reason] <= _EXAMPLES_A_REASON:
            yield one


def apart(pairs: Pairs, texts: Iterable[str]) -> Pairs:
    """Return the pairs no text of which is one of `texts`, or linked to one by any pair."""
    measured = {canonical_form(text) for text in texts}
    inside = np.array([canonical_form(text) in measured for text in pairs.texts])
    if not inside.any():
        return pairs
    piece = components(pairs)
    tainted = np.zeros(piece.max() + 1, dtype=np.bool_)
    tainted[piece[inside]] = True
    return pairs.take(~tainted[piece[pairs.left]])


def _some(pairs: Pairs, count: int, seed: int) -> Pairs:
    """Return pairs with at most `count` duplicates: whole pieces of the graph, drawn at random.

    Pieces, so that no group is cut in two and taken for two, and that non-duplicates come in the
    share they have in the whole, those of texts without a duplicate too.
    """
    piece = components(pairs)[pairs.left]
    duplicates = np.bincount(piece[pairs.labels], minlength=piece.max(initial=-1) + 1)
    order = np.random.default_rng(seed).permutation(len(duplicates))
    order = order[duplicates[order] <= count]
    chosen = order[np.cumsum(duplicates[order]) <= count]
    return pairs.take(np.isin(piece, chosen))


def _check(config: TrainConfig, pairs: Pairs) -> None:
    """Raise TrainingError where the pairs are too few to train on, or not what the loss needs."""
    duplicates = int(pairs.labels.sum())
    if duplicates < 2:
        raise TrainingError(
            f"{', '.join(map(str, config.pairs))}: {duplicates} duplicate pairs are left to train "
            "on, at least 2 are needed"
        )
    if config.loss == "original" and not config.mine and pairs.labels.all():
        raise TrainingError(
            "loss: original needs explicit negatives and the pairs hold none; give --mine 10"
        )
