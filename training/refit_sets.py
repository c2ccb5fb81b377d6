"""The pairs of a refit, set apart from each other: to fit and test on, to train on, elsewhere.

As in a run of training, pairs that are not natural measure nothing, but link what they stand
between: what is fitted or trained on is split and set apart by the graph of all pairs, and only
then thinned out. Nothing is fitted on what is measured elsewhere, so a link does it no harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from app.domain.text import canonical_form
from training.data import read_pairs
from training.devsets import check_names, set_name
from training.errors import PairsError, TrainingError
from training.graph import components, drop_contradictions, split
from training.prepare import apart

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.pairs import Pairs

_HALVES = {"one half": 0.5, "the other half": 0.5}


@dataclass(frozen=True, slots=True)
class RefitSets:
    """The natural pairs of a refit; no text is in two of them.

    Nor is a pair that is linked to one of another set in either half or in `taught`.

    halves: of the set `name`; pieces: by half, the linked piece that each pair is of, (n,), from 0,
    by the links of pairs that are not natural as well; taught: None where there is no file to train
    on; elsewhere: by name; left_out: how many natural pairs of each set elsewhere hold a text of
    the set `name`.
    """

    name: str
    halves: tuple[Pairs, Pairs]
    pieces: tuple[NDArray[np.int64], NDArray[np.int64]]
    taught: Pairs | None
    elsewhere: dict[str, Pairs]
    left_out: dict[str, int]

    @property
    def measured(self) -> dict[str, str]:
        """The SHA-256 (hex) of the file of each set that is measured on, by its name."""
        others = {name: pairs.fingerprint for name, pairs in self.elsewhere.items()}
        return {self.name: self.halves[0].fingerprint, **others}


def read_sets(
    pairs: Path, train: Path | None = None, elsewhere: Sequence[Path] = (), *, seed: int = 0
) -> RefitSets:
    """Return the sets of a refit's files.

    Elsewhere, pairs that hold a text of `pairs` are left out. What is measured on is not trained
    on, nor is anything linked to it.
    Raises TrainingError where two sets have one name or one has not both kinds of pairs left,
    PairsError where a file cannot be used.
    """
    check_names([set_name(path) for path in (pairs, *elsewhere)])
    held = _read(pairs)
    read = {set_name(path): _read(path) for path in elsewhere}
    others = {name: _without(found, held.texts) for name, found in read.items()}
    taught = None
    if train is not None:
        measured = [text for found in (held, *others.values()) for text in found.texts]
        taught = apart(_read(train), measured)
        taught = taught.take(taught.natural)
    one, other = split(held, _HALVES, seed=seed).values()
    pieces = (_pieces(one), _pieces(other))
    return RefitSets(
        set_name(pairs),
        (_natural(one, f"a half of {pairs}"), _natural(other, f"a half of {pairs}")),
        pieces,
        taught,
        {name: _natural(found, name) for name, found in others.items()},
        {
            name: int(found.natural.sum() - others[name].natural.sum())
            for name, found in read.items()
        },
    )


def _read(path: Path) -> Pairs:
    """Return all pairs of a file. Raises PairsError unless natural ones are of both kinds."""
    pairs = drop_contradictions(read_pairs(path))
    if len(set(pairs.labels[pairs.natural].tolist())) < 2:
        raise PairsError(path, "needs both duplicates and non-duplicates to measure on")
    return pairs


def _without(pairs: Pairs, texts: Iterable[str]) -> Pairs:
    """Return the pairs that hold none of `texts`."""
    held = {canonical_form(text) for text in texts}
    inside = np.array([canonical_form(text) in held for text in pairs.texts])
    return pairs.take(~(inside[pairs.left] | inside[pairs.right]))


def _pieces(pairs: Pairs) -> NDArray[np.int64]:
    """Return the linked piece of each natural pair, by all pairs, numbered from 0."""
    found: NDArray[np.int64] = components(pairs)[pairs.left][pairs.natural]
    return found


def _natural(pairs: Pairs, name: str) -> Pairs:
    found = pairs.take(pairs.natural)
    if len(set(found.labels.tolist())) < 2:
        raise TrainingError(f"{name}: has not both duplicates and non-duplicates left to measure")
    return found
