"""The pairs of a refit, set apart from each other: to fit and test on, to train on, elsewhere.

As in a run of training, pairs that are not natural measure nothing, but link what they stand
between: sets are split and set apart by the graph of all pairs, and only then thinned out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from training.data import read_pairs
from training.devsets import check_names, set_name
from training.errors import PairsError, TrainingError
from training.graph import drop_contradictions, split
from training.prepare import apart

if TYPE_CHECKING:
    from training.pairs import Pairs

_HALVES = {"one half": 0.5, "the other half": 0.5}


@dataclass(frozen=True, slots=True)
class RefitSets:
    """The natural pairs of a refit; no text, nor a pair linked to it, is in two of them.

    halves: of the set `name`; taught: None where there is no file to train on; elsewhere: by name.
    """

    name: str
    halves: tuple[Pairs, Pairs]
    taught: Pairs | None
    elsewhere: dict[str, Pairs]


def read_sets(
    pairs: Path, train: Path | None = None, elsewhere: Sequence[Path] = (), *, seed: int = 0
) -> RefitSets:
    """Return the sets of a refit's files.

    What stands in `pairs` is left out elsewhere, and what is measured on is not trained on.
    Raises TrainingError where two sets have one name or one has not both kinds of pairs left,
    PairsError where a file cannot be used.
    """
    check_names([set_name(path) for path in (pairs, *elsewhere)])
    held = _read(pairs)
    others = {set_name(path): apart(_read(path), held.texts) for path in elsewhere}
    taught = None
    if train is not None:
        measured = [text for found in (held, *others.values()) for text in found.texts]
        taught = apart(_read(train), measured)
        taught = taught.take(taught.natural)
    one, other = split(held, _HALVES, seed=seed).values()
    return RefitSets(
        set_name(pairs),
        (_natural(one, f"a half of {pairs}"), _natural(other, f"a half of {pairs}")),
        taught,
        {name: _natural(found, name) for name, found in others.items()},
    )


def _read(path: Path) -> Pairs:
    """Return all pairs of a file. Raises PairsError unless natural ones are of both kinds."""
    pairs = drop_contradictions(read_pairs(path))
    if len(set(pairs.labels[pairs.natural].tolist())) < 2:
        raise PairsError(path, "needs both duplicates and non-duplicates to measure on")
    return pairs


def _natural(pairs: Pairs, name: str) -> Pairs:
    found = pairs.take(pairs.natural)
    if len(set(found.labels.tolist())) < 2:
        raise TrainingError(f"{name}: has not both duplicates and non-duplicates left to measure")
    return found
