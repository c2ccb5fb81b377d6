"""What `deja dedupe` leaves behind: the rows that are kept, and the groups."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import IO, Any, cast

from app.deduping.reading import Row
from app.usecases.grouping import Group


def kept_lines(path: Path, dropped: AbstractSet[int]) -> Iterator[bytes]:
    """Yield the lines of a file, as they are, without those of these numbers (from 1)."""
    with path.open("rb") as stored:
        content: IO[bytes] = stored
        if path.name.lower().endswith(".gz"):
            content = cast("IO[bytes]", gzip.GzipFile(fileobj=stored))
        for number, line in enumerate(content, 1):
            if number not in dropped:
                yield line


def dropped_lines(groups: Sequence[Group], rows: Sequence[Row]) -> set[int]:
    """Return the numbers of all lines of rows that are not kept."""
    return {
        line
        for group in groups
        for member in group.members
        for line in range(rows[member.place].line, rows[member.place].last_line + 1)
    }


def group_lines(groups: Sequence[Group], rows: Sequence[Row]) -> Iterator[bytes]:
    """Yield each group as JSON, the largest first."""

    def shown(place: int) -> dict[str, Any]:
        row = rows[place]
        named = {} if row.id is None else {"id": row.id}
        return {"line": row.line, **named, "text": row.text}

    for group in groups:
        yield json.dumps(group.to_json(shown), ensure_ascii=False).encode() + b"\n"
