"""Labelled pairs, read from gzipped TSV files with a header line and no quoting."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.errors import PairsError


@dataclass(frozen=True, slots=True)
class Pairs:
    """Labelled pairs over their distinct texts.

    texts: distinct, in order of appearance; left, right: (n,) places in `texts`;
    labels: (n,) bool, True for duplicates; fingerprint: SHA-256 (hex) of the file's bytes.
    """

    texts: tuple[str, ...]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    labels: NDArray[np.bool_]
    fingerprint: str

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.labels)


def read_pairs(path: Path, *, natural_only: bool = True) -> Pairs:
    """Return the pairs of a file with columns text1, text2 and label (0 or 1).

    natural_only: where the file has a column `natural`, keep only the pairs in which it is 1:
    those drawn at the source's own base rate, the ones to measure precision and calibration on.
    Raises PairsError, with the line, where the file is missing or malformed.
    """
    places: dict[str, int] = {}
    left: list[int] = []
    right: list[int] = []
    labels: list[bool] = []
    lines = _lines(path)
    _, header = next(lines)
    needed = ["text1", "text2", "label"]
    if natural_only and "natural" in header:
        needed.append("natural")
    columns = [_column(path, header, name) for name in needed]
    for number, fields in lines:
        if len(fields) != len(header):
            problem = f"has {len(fields)} columns, the header {len(header)}"
            raise PairsError(path, problem, number)
        text1, text2, label, *natural = (fields[column] for column in columns)
        if label not in {"0", "1"}:
            raise PairsError(path, f"label is {label!r}, not 0 or 1", number)
        if natural == ["0"]:
            continue
        left.append(places.setdefault(text1, len(places)))
        right.append(places.setdefault(text2, len(places)))
        labels.append(label == "1")
    if len(set(labels)) < 2:
        raise PairsError(path, "needs both duplicates and non-duplicates")
    return Pairs(
        texts=tuple(places),
        left=np.array(left),
        right=np.array(right),
        labels=np.array(labels),
        fingerprint=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Give every line with its 1-based number, split at tabs."""
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
            number = 0
            for number, line in enumerate(file, start=1):
                yield number, line.rstrip("\n").split("\t")
            if number == 0:
                raise PairsError(path, "is empty")
    except FileNotFoundError:
        raise PairsError(path, "there is no such file") from None
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise PairsError(path, f"cannot be read as gzipped UTF-8 text ({error})") from error


def _column(path: Path, header: Sequence[str], name: str) -> int:
    if name not in header:
        raise PairsError(path, f"has no column {name!r}", 1)
    return header.index(name)
