"""Rows of named columns out of TSV, CSV, JSONL and Parquet files, each with its place.

A file's ending says its kind. The first three may be gzipped (`.gz` after the ending) and are read
as UTF-8, line by line; a byte order mark and Windows line ends are no matter, blank lines are
passed over.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any, cast

from training.errors import PairsError, TrainingError

Rows = Iterator[tuple[int, list[Any]]]

KINDS = ".tsv, .csv, .jsonl or .ndjson (each also .gz), or .parquet"
_GZIP_MAGIC = b"\x1f\x8b"
_UTF8_SIGNATURE = "\ufeff"
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Table:
    """A file whose columns are known and whose rows are yet to be read, once.

    names: of the columns; for JSONL, the keys of the first object.
    read: from names of columns to (line, values) of each row, values as the file holds them:
    strings in TSV and CSV. Reading raises PairsError where a row is malformed.
    unit: what a row's number counts, from 1: `line`, or `row` where there are no lines.
    """

    path: Path
    names: tuple[str, ...]
    read: Callable[[Sequence[str]], Rows]
    unit: str = "line"

    def wrong(self, number: int, problem: str) -> PairsError:
        """Return the error that names a row."""
        return PairsError(self.path, problem, number, unit=self.unit)


def open_table(path: Path) -> Table:
    """Return the table of a file, its header or first object read.

    Raises PairsError where there is no such file, its kind is unknown, it is empty or its
    beginning is malformed; TrainingError where Parquet is asked for and pyarrow is missing.
    """
    check_file(path)
    openers = {
        ".tsv": _open_tsv,
        ".csv": _open_csv,
        ".jsonl": _open_jsonl,
        ".ndjson": _open_jsonl,
        ".parquet": _open_parquet,
    }
    kind = ending(path)
    if kind not in openers:
        raise PairsError(path, f"its ending says no kind of file known here; it must be {KINDS}")
    return openers[kind](path)


def ending(path: Path) -> str:
    """Return the ending that says a file's kind, in lower case; `.gz` counts for nothing."""
    name = path.name.lower()
    suffix = Path(name.removesuffix(".gz")).suffix
    return suffix if suffix != ".parquet" else Path(name).suffix


def check_file(path: Path) -> None:
    """Raise PairsError unless there is a file at `path`, with something in it."""
    if path.is_dir():
        raise PairsError(path, "is a folder; give a file in it")
    if not path.exists():
        raise PairsError(path, "there is no such file; check the path")
    if path.is_file() and path.stat().st_size == 0:
        raise PairsError(path, "is empty; it needs a header, or JSON objects, and rows")


def sha256(*paths: Path) -> str:
    """Return the SHA-256 (hex) of the bytes of files, one after another."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Give every line of a text file, gzipped or not, without its end, with its 1-based number.

    Raises PairsError, with the line, where the file is not UTF-8 or its gzip is damaged.
    """
    zipped = path.name.lower().endswith(".gz")
    number = 0
    try:
        with cast("IO[bytes]", gzip.open(path) if zipped else path.open("rb")) as file:
            for number, line in enumerate(file, start=1):
                text = line.decode().rstrip("\r\n")
                yield number, text.removeprefix(_UTF8_SIGNATURE) if number == 1 else text
    except UnicodeDecodeError as error:
        if number == 1 and not zipped and error.object.startswith(_GZIP_MAGIC):
            raise PairsError(path, "is gzipped; add .gz to its name") from None
        raise PairsError(path, f"is not UTF-8 text ({error.reason})", number) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        problem = f"is not sound gzip ({error}); fetch or compress it again"
        raise PairsError(path, problem, number + 1) from error
    except OSError as error:
        raise PairsError(path, f"cannot be read ({error.strerror or error})") from error


def _open_tsv(path: Path) -> Table:
    lines = read_lines(path)
    _, header = _first(path, lines)
    names = _names(header.split("\t"))

    def read(columns: Sequence[str]) -> Rows:
        places = [names.index(column) for column in columns]
        width = len(names)
        for number, line in lines:
            fields = line.split("\t")
            if len(fields) == width:
                yield number, [fields[place] for place in places]
            elif line:
                raise PairsError(
                    path,
                    f"has {len(fields)} columns, the header {width} "
                    "(quotes mean nothing in a .tsv; if they should, name it .csv)",
                    number,
                )

    return Table(path, names, read)


def _open_csv(path: Path) -> Table:
    """RFC 4180, with whichever of comma, semicolon and tab the header holds most of."""
    lines = read_lines(path)
    first, header = _first(path, lines)
    delimiter = max(",;\t", key=header.count)

    def again() -> Iterator[str]:
        yield header + "\n"
        for _, line in lines:
            yield line + "\n"

    # csv counts the lines it was given, so those before the header are added.
    reader = csv.reader(again(), delimiter=delimiter, strict=True)
    rows = _csv_rows(path, reader, first - 1)
    names = _names(next(rows)[1])

    def read(columns: Sequence[str]) -> Rows:
        places = [names.index(column) for column in columns]
        for number, fields in rows:
            if len(fields) != len(names):
                problem = f"has {len(fields)} columns, the header {len(names)}"
                raise PairsError(path, problem, number)
            yield number, [fields[place] for place in places]

    return Table(path, names, read)


def _csv_rows(path: Path, reader: Any, before: int) -> Iterator[tuple[int, list[str]]]:
    """Give the records that are not blank, each with the number of its first line."""
    number = before + 1
    try:
        for fields in reader:
            if fields:
                yield number, fields
            number = before + int(reader.line_num) + 1
    except csv.Error as error:
        problem = f"is not CSV ({error}); look for a quote that is not closed"
        raise PairsError(path, problem, number) from error


def _open_jsonl(path: Path) -> Table:
    lines = read_lines(path)
    first = _first(path, lines)

    def read(columns: Sequence[str]) -> Rows:
        for number, line in chain([first], lines):
            if line.strip():
                yield number, _values(path, number, _object(path, number, line), columns)

    return Table(path, tuple(_object(path, *first)), read)


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise PairsError(path, f"is not JSON ({error})", number) from error
    if not isinstance(found, dict):
        raise PairsError(path, "is not a JSON object", number)
    return found


def _values(path: Path, number: int, found: dict[str, Any], columns: Sequence[str]) -> list[Any]:
    for column in columns:
        if column not in found:
            raise PairsError(path, f"has no {column!r}", number)
        value = found[column]
        # JSON can carry half of a surrogate pair, which no tokenizer takes.
        if isinstance(value, str) and _SURROGATE.search(value):
            raise PairsError(path, f"{column!r} holds half of a surrogate pair", number)
    return [found[column] for column in columns]


def _open_parquet(path: Path) -> Table:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise TrainingError(
            f"{path}: reading Parquet needs pyarrow; install it (pip install pyarrow) "
            "or save the file as .tsv, .csv or .jsonl"
        ) from None

    def damaged(error: Exception, number: int | None = None) -> PairsError:
        reason = str(error).strip().splitlines()[0]
        return PairsError(path, f"is not sound Parquet ({reason})", number, unit="row")

    try:
        file = parquet.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise damaged(error) from error

    def read(columns: Sequence[str]) -> Rows:
        number = 0
        try:
            with file:
                for batch in file.iter_batches(columns=list(columns)):
                    # Where a name stands twice, the column found is the first, as elsewhere.
                    held = [batch.column(batch.schema.names.index(name)) for name in columns]
                    for row in zip(*(column.to_pylist() for column in held), strict=True):
                        number += 1
                        yield number, list(row)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise damaged(error, number + 1) from error

    return Table(path, tuple(file.schema_arrow.names), read, unit="row")


def _first(path: Path, lines: Iterator[tuple[int, str]]) -> tuple[int, str]:
    """Return the first line that is not blank, with its number."""
    for number, line in lines:
        if line.strip():
            return number, line
    raise PairsError(path, "is empty; it needs a header, or JSON objects, and rows")


def _names(fields: Sequence[str]) -> tuple[str, ...]:
    return tuple(field.strip() for field in fields)
