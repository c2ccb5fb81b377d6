"""Rows in groups whose limits depend on the file and the options alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from app.importing.records import BadLine
from app.importing.rows import Row

LARGEST_BODY = 8 * 1024 * 1024
"""Bytes; half of what the service takes, as the estimate leaves out the body's frame."""


@dataclass(slots=True)
class Batch:
    """Consecutive rows of a file, and the bad lines among them.

    last_line: the line its last row or bad line ends on.
    """

    rows: list[Row] = field(default_factory=list)
    bad: list[BadLine] = field(default_factory=list)
    last_line: int = 0
    size: int = 0

    @property
    def ids(self) -> set[str]:
        """Return the ids that its rows bring."""
        return {row.anchor["id"] for row in self.rows if "id" in row.anchor}


def batched(rows: Iterable[Row | BadLine], limit: int) -> Iterator[Batch]:
    """Yield batches of up to `limit` lines, good and bad together.

    Started again after the end of any batch, it yields the same batches that followed. No id is
    twice in one, so that of two rows with the same id the later one wins.
    """
    batch, ids = Batch(), set[str]()
    for row in rows:
        new = None if isinstance(row, BadLine) else row.anchor.get("id")
        size = 0 if isinstance(row, BadLine) else row.size
        full = len(batch.rows) + len(batch.bad) >= limit
        if full or new in ids or (batch.rows and batch.size + size > LARGEST_BODY):
            yield batch
            batch, ids = Batch(), set()
        if isinstance(row, BadLine):
            batch.bad.append(row)
        else:
            batch.rows.append(row)
            batch.size += size
            if new is not None:
                ids.add(new)
        batch.last_line = row.last_line
    if batch.last_line:
        yield batch
