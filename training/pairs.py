"""Labelled pairs over their distinct texts, and what was left out on the way to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Reason = Literal[
    "blank",  # nothing but white space
    "over-long",  # longer than the service takes
    "self-pair",  # the same text twice
    "repeated",  # the pair, or the labelled text, stands earlier already
    "contradiction",  # other rows say otherwise
    "unlabelled",  # in labelled groups: of no label, or of `data.NONE_LABEL`
    "other split",  # in labelled groups with a column `split`: not of `train`
    "alone",  # in labelled groups: the only text of its label
]


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row, or a pair, that was left out.

    line: where it stands in the file, from 1 (in Parquet, its row); texts: one or two, stripped.
    """

    reason: Reason
    path: Path | None
    line: int | None
    texts: tuple[str, ...]


def count_dropped(dropped: Iterable[Dropped]) -> dict[str, int]:
    """Return how many were dropped for each reason, the most frequent first."""
    return dict(Counter(one.reason for one in dropped).most_common())


def nothing_left(what: str, dropped: Iterable[Dropped]) -> str:
    """Return the problem of a file of whose rows none is of use."""
    counts = ", ".join(f"{count} {reason}" for reason, count in count_dropped(dropped).items())
    return f"no {what} is left to use ({counts or 'it has no rows'}); add rows or mend these"


def as_places(chosen: ArrayLike) -> NDArray[np.int64]:
    """Return the places, (k,), that a mask or a sequence of places chooses."""
    index = np.asarray(chosen)
    return np.flatnonzero(index) if index.dtype == np.bool_ else index.astype(np.int64)


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was read, with the SHA-256 (hex) of its bytes."""

    path: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class Pairs:
    """Labelled pairs over their distinct texts.

    texts: distinct, in order of appearance, each in some pair; left, right: (n,) places in
    `texts`; labels: (n,) True for duplicates; natural: (n,) True for pairs drawn at their source's
    own base rate, the ones to measure precision and calibration on; fingerprint: SHA-256 (hex) of
    the files' bytes, one file after another; sources: the files; origins: (n, 2) place in
    `sources` and line of each pair, (0, 2) where unknown.
    """

    texts: tuple[str, ...]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    labels: NDArray[np.bool_]
    natural: NDArray[np.bool_]
    fingerprint: str
    dropped: tuple[Dropped, ...] = ()
    sources: tuple[Source, ...] = ()
    origins: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), np.int64))

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.labels)

    def take(self, chosen: ArrayLike) -> Pairs:
        """Return some of the pairs, by (n,) mask or by places, over the texts that they hold."""
        index = as_places(chosen)
        ends = np.stack([self.left[index], self.right[index]])
        used, renumbered = np.unique(ends, return_inverse=True)
        left, right = renumbered.reshape(ends.shape)
        return replace(
            self,
            texts=tuple(self.texts[place] for place in used),
            left=left.astype(np.int64),
            right=right.astype(np.int64),
            labels=self.labels[index],
            natural=self.natural[index],
            origins=self.origins[index] if len(self.origins) else self.origins,
        )

    def origin(self, pair: int) -> tuple[Path | None, int | None]:
        """Return the file and line of a pair, as far as they are known."""
        if not len(self.origins):
            return None, None
        source, line = self.origins[pair].tolist()
        return self.sources[source].path, line
