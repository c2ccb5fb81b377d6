"""csv, tsv and jsonl lines as records of named fields."""

from __future__ import annotations

import csv
import json
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NoReturn, Protocol

from app.importing.source import Line, Source

_LONGEST_SHOWN = 60
_UNDECODED = re.compile("[\udc80-\udcff]")


class Format(StrEnum):
    """How a file holds its rows."""

    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"


_ENDINGS = {
    "csv": Format.CSV,
    "tsv": Format.TSV,
    "jsonl": Format.JSONL,
    "ndjson": Format.JSONL,
}


class UnusableFile(Exception):
    """The file's format or its header does not fit what was asked; nothing was sent."""


@dataclass(frozen=True, slots=True)
class Record:
    """The fields of one row.

    line, last_line: where it stands, from 1.
    """

    line: int
    last_line: int
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BadLine:
    """A row that cannot be imported, and why.

    line, last_line: where it stands, from 1.
    """

    line: int
    last_line: int
    reason: str


class Records(Protocol):
    """The records of one file."""

    @property
    def names(self) -> Sequence[str] | None:
        """Return the header's column names, None for a format without a header."""
        ...

    def __iter__(self) -> Iterator[Record | BadLine]:
        """Yield what every line after the header holds."""
        ...


def format_of(name: str) -> Format | None:
    """Return the format that a file's name ends in, None for another ending."""
    ending = name.lower().removesuffix(".gz").rpartition(".")[2]
    return _ENDINGS.get(ending)


def read_records(source: Source, file_format: Format) -> Records:
    """Return the records of a file; its header has been read. Raises UnusableFile."""
    if file_format is Format.CSV:
        return _CsvRecords(source)
    if file_format is Format.TSV:
        return _TsvRecords(source)
    return _JsonRecords(source)


class _JsonRecords:
    names = None

    def __init__(self, source: Source) -> None:
        self._lines = source.lines()

    def __iter__(self) -> Iterator[Record | BadLine]:
        return _without_blank_end(map(_json_record, self._lines))


def _json_record(line: Line) -> Record | BadLine | None:  # noqa: PLR0911 - one return a fault
    number = line.number
    if line.data is None:
        return BadLine(number, number, "longer than 1 MiB")
    if not line.data.strip():
        return None
    try:
        value = json.loads(line.data.decode(), parse_constant=_not_json)
    except UnicodeDecodeError:
        return BadLine(number, number, "not UTF-8")
    except json.JSONDecodeError as error:
        return BadLine(number, number, f"not JSON: {error.msg} at character {error.pos + 1}")
    except (ValueError, RecursionError) as error:
        return BadLine(number, number, f"not JSON: {error}")
    if not isinstance(value, dict):
        return BadLine(number, number, "not a JSON object")
    return Record(number, number, value)


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


class _TsvRecords:
    """Fields between tabs; a double quote is an ordinary character."""

    def __init__(self, source: Source) -> None:
        self._lines = source.lines()
        header = next(self._lines, Line(1, b""))
        self.names = _checked_names(source, "" if header.data is None else _text(header), "\t")

    def __iter__(self) -> Iterator[Record | BadLine]:
        return _without_blank_end(map(self._record, self._lines))

    def _record(self, line: Line) -> Record | BadLine | None:
        if line.data is None:
            return BadLine(line.number, line.number, "longer than 1 MiB")
        text = _text(line)
        if not text.strip(" \r"):
            return None
        return _named(self.names, text.split("\t"), line.number, line.number)


class _CsvRecords:
    """Fields by RFC 4180: quoted ones may hold commas, doubled quotes and line ends."""

    def __init__(self, source: Source) -> None:
        self._feed = _LineFeed(source.lines())
        self._rows = csv.reader(self._feed, strict=True)
        try:
            header = next(self._rows, [])
        except csv.Error as error:
            raise UnusableFile(f"{source.name}: its header is not CSV ({error})") from error
        self.names = _checked_names(source, header)

    def __iter__(self) -> Iterator[Record | BadLine]:
        return _without_blank_end(self._records())

    def _records(self) -> Iterator[Record | BadLine | None]:
        while True:
            self._feed.begin()
            try:
                fields = next(self._rows)
            except StopIteration:
                return
            except csv.Error as error:
                # A stray quote swallows what follows it: only its own line is bad, so the lines
                # after it are read again.
                first, *rest = self._feed.taken
                self._feed.put_back(rest)
                reason = str(error) if first.data is not None else "longer than 1 MiB"
                if rest and first.data is not None:
                    reason = f"a quoted field that does not end as it should ({reason})"
                yield BadLine(first.number, first.number, reason)
                continue
            first, last = self._feed.taken[0], self._feed.taken[-1]
            if first is last and not (first.data or b"").strip():
                yield None
            else:
                yield _named(self.names, fields, first.number, last.number)


class _LineFeed:
    """Hands lines to the csv reader and remembers which ones the current record took."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self._again: deque[Line] = deque()
        self.taken: list[Line] = []

    def begin(self) -> None:
        self.taken = []

    def put_back(self, lines: Sequence[Line]) -> None:
        self._again.extendleft(reversed(lines))

    def __iter__(self) -> _LineFeed:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self.taken.append(line)
        if line.data is None:
            raise csv.Error("a line longer than 1 MiB")
        return _text(line) + "\n"


def _text(line: Line) -> str:
    """Return the line's text, with bytes that are no UTF-8 kept as lone surrogates."""
    return (line.data or b"").decode(errors="surrogateescape")


def _named(
    names: Sequence[str], fields: Sequence[str], line: int, last_line: int
) -> Record | BadLine:
    if len(fields) != len(names):
        count = f"{len(fields)} field{'s' * (len(fields) != 1)}"
        return BadLine(line, last_line, f"{count} where the header has {len(names)}")
    if any(not field.isascii() and _UNDECODED.search(field) for field in fields):
        return BadLine(line, last_line, "not UTF-8")
    return Record(line, last_line, dict(zip(names, fields, strict=True)))


def _checked_names(source: Source, header: str | list[str], separator: str = ",") -> list[str]:
    names = header.split(separator) if isinstance(header, str) else header
    names = [name.strip() for name in names]
    if not any(names):
        raise UnusableFile(f"{source.name}: no header; its first line has to name the columns")
    if _UNDECODED.search("".join(names)):
        raise UnusableFile(f"{source.name}: its header is not UTF-8")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UnusableFile(f"{source.name}: its header names {shown(twice)} more than once")
    return names


def shown(names: Sequence[str]) -> str:
    """Return column names for a message, long ones cut."""
    return ", ".join(
        repr(name if len(name) <= _LONGEST_SHOWN else name[:_LONGEST_SHOWN] + "…") for name in names
    )


def _without_blank_end(records: Iterator[Record | BadLine | None]) -> Iterator[Record | BadLine]:
    """Yield records, a blank line (None) as a bad one; those at the end of the file are nothing.

    A blank line is known only by what follows, so its number comes from its neighbours.
    """
    blank = 0
    for record in records:
        if record is None:
            blank += 1
            continue
        for offset in range(blank):
            number = record.line - blank + offset
            yield BadLine(number, number, "blank line")
        blank = 0
        yield record
