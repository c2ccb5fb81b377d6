"""The rows of a file, each with its text and its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from app.importing.records import (
    BadLine,
    Format,
    Record,
    UnusableFile,
    format_of,
    read_records,
    shown,
)
from app.importing.source import Line, Source


class FileFormat(StrEnum):
    """How a file holds its rows; `txt` is a text a line, of which blank ones are no rows."""

    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"
    TXT = "txt"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the file.

    line, last_line: where it stands, from 1.
    id: what its column `id` holds, if it has one.
    """

    line: int
    last_line: int
    text: str
    id: str | None


def format_of_file(name: str) -> FileFormat | None:
    """Return the format that a file's name ends in, None for another ending."""
    if name.lower().removesuffix(".gz").endswith(".txt"):
        return FileFormat.TXT
    known = format_of(name)
    return None if known is None else FileFormat(known.value)


def read_rows(path: Path, file_format: FileFormat, column: str) -> Iterator[Row | BadLine]:
    """Yield every row of a file, or what is wrong with it.

    column: which column, or key of a JSON object, holds the text.
    Raises SourceError, and UnusableFile where a header is missing or lacks the column.
    """
    with Source.open(path) as source:
        if file_format is FileFormat.TXT:
            for line in source.lines():
                if line.data is None or line.data.strip():
                    yield _line(line)
            return
        records = read_records(source, Format(file_format.value))
        if records.names is not None and column not in records.names:
            raise UnusableFile(
                f"{source.name}: no column {column!r}; it has {shown(records.names)}"
            )
        for record in records:
            yield record if isinstance(record, BadLine) else _row(record, column)


def _line(line: Line) -> Row | BadLine:
    if line.data is None:
        return BadLine(line.number, line.number, "longer than 1 MiB")
    try:
        return Row(line.number, line.number, line.data.decode().strip(), None)
    except UnicodeDecodeError:
        return BadLine(line.number, line.number, "not UTF-8")


def _row(record: Record, column: str) -> Row | BadLine:
    text, anchor_id = record.fields.get(column), record.fields.get("id")
    problem = None
    if text is None:
        problem = f"no {column}"
    elif not isinstance(text, str):
        problem = f"{column} is not a string"
    elif not text.strip():
        problem = f"{column} is blank"
    elif not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        problem = f"{column} holds half of a surrogate pair"
    if problem is not None:
        return BadLine(record.line, record.last_line, problem)
    assert isinstance(text, str)
    named = None if anchor_id in (None, "") else str(anchor_id)
    return Row(record.line, record.last_line, text.strip(), named)
