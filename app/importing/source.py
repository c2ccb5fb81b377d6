"""Lines of a file with their numbers, plain or gzip."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self, cast

LONGEST_LINE = 1024 * 1024
"""Bytes; far above any row within the contract's limits, however it is escaped."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class SourceError(Exception):
    """The file cannot be read, or not to its end."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the file.

    number: from 1.
    data: without its line end; None where it was over the longest line.
    """

    number: int
    data: bytes | None


class Source:
    """A file that is read once, from its beginning.

    size: bytes as stored, compressed ones for gzip; None where it is not known.
    """

    def __init__(self, stream: IO[bytes], name: str, *, gzipped: bool, size: int | None) -> None:
        self.name = name
        self.size = size
        self._stored = stream
        self._gzipped = gzipped
        self._content: IO[bytes] = (
            cast("IO[bytes]", gzip.GzipFile(fileobj=stream)) if gzipped else stream
        )
        self._number = 0
        self._bytes = 0

    @classmethod
    def open(cls, path: Path) -> Self:
        """Return the file at `path`, gzip where its name ends so. Raises SourceError."""
        try:
            stream = path.open("rb")
            size = path.stat().st_size if path.is_file() else None
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror}") from error
        return cls(stream, str(path), gzipped=path.name.lower().endswith(".gz"), size=size)

    def __enter__(self) -> Self:
        """Return the source itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._stored.close()

    @property
    def position(self) -> int:
        """Return how many bytes have been read, of `size`."""
        return self._stored.tell() if self._gzipped else self._bytes

    def lines(self) -> Iterator[Line]:
        """Yield the lines that remain. Raises SourceError where the file ends in the middle."""
        while True:
            try:
                data = self._content.readline(LONGEST_LINE)
                whole = data.endswith(b"\n") or len(data) < LONGEST_LINE
                self._bytes += len(data)
                rest = data
                while not (rest.endswith(b"\n") or len(rest) < LONGEST_LINE):
                    rest = self._content.readline(LONGEST_LINE)
                    self._bytes += len(rest)
            except (OSError, EOFError, zlib.error) as error:
                problem = getattr(error, "strerror", None) or error
                raise SourceError(
                    f"{self.name}: unreadable after line {self._number} ({problem})"
                ) from error
            if not data:
                return
            self._number += 1
            if self._number == 1:
                data = data.removeprefix(_BYTE_ORDER_MARK)
            yield Line(
                self._number, data.removesuffix(b"\n").removesuffix(b"\r") if whole else None
            )


def source_of(data: bytes, name: str = "data") -> Source:
    """Return bytes in memory as a source, gzip where the name ends so."""
    return Source(io.BytesIO(data), name, gzipped=name.endswith(".gz"), size=len(data))
