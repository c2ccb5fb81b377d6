"""The errors of this package that a person is meant to read."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from app.domain.errors import DejaError

if TYPE_CHECKING:
    from pathlib import Path


class TrainingError(DejaError):
    """An input of training cannot be used; the message is one line that names it."""


class PairsError(TrainingError):
    """A file of labelled pairs is missing or malformed.

    line: 1-based, the header is line 1; None where the whole file is at fault.
    unit: what `line` counts, `row` where the file has no lines.
    """

    def __init__(
        self, path: Path, problem: str, line: int | None = None, *, unit: str = "line"
    ) -> None:
        place = f"{path}" if line is None else f"{path}, {unit} {line}"
        super().__init__(f"{place}: {problem}")
        self.path = path
        self.line = line


class PrecisionLost(TrainingError):
    """A graph with smaller numbers tells duplicates from others too much worse than fp32 does."""


def file_problem(error: OSError) -> str:
    """Return one line that says which file could not be read or written, why, and what to do."""
    place = f"{error.filename}: " if error.filename else ""
    remedy = "make room" if error.errno == errno.ENOSPC else "mend that"
    return f"{place}{error.strerror or error}; {remedy} and give the same command again"
