"""What the command line writes: answers for a person, lines for a file."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from rich.table import Table
from rich.text import Text

from app.importing.progress import plain

if TYPE_CHECKING:
    from rich.console import Console

    from app.client_types import Answer, Match

_VERDICT_STYLES = {"duplicate": "bold green", "review": "bold yellow", "distinct": "dim"}


def show_answer(answer: Answer, console: Console) -> None:
    """Print the verdict of an answer and a table of its matches."""
    heading = Text.assemble((answer["verdict"], _VERDICT_STYLES.get(answer["verdict"], "")))
    if answer["label"] is not None:
        heading.append(f"  label {plain(answer['label'])}")
    console.print(heading)
    if answer["truncated"]:
        console.print("Only the beginning was compared: it is longer than the encoder reads.")
    if not answer["matches"]:
        console.print("No anchor matches.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("probability", "similarity"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("text", overflow="fold")
    for match in answer["matches"]:
        table.add_row(
            f"{match['probability']:.3f}",
            f"{match['similarity']:.3f}",
            Text(match["verdict"], _VERDICT_STYLES.get(match["verdict"], "")),
            Text.assemble(plain(match["text"]), "\n", (_origin(match), "dim")),
        )
    console.print(table)


def _origin(match: Match) -> str:
    label = "" if match["label"] is None else f", label {plain(match['label'])}"
    return f"id {plain(match['id'])}{label}"


def write_lines(lines: Iterator[bytes], file: IO[bytes]) -> int:
    """Write lines, each with its line end; return how many."""
    count = 0
    for line in lines:
        file.write(line + b"\n")
        count += 1
    file.flush()
    return count


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Give a file that takes the place of `path` once all is written, and only then."""
    path = path.resolve()  # a link stays a link: what it points to is replaced
    if path.exists() and not path.is_file():
        # A device or a pipe cannot be replaced, and must not be.
        with path.open("wb") as device:
            yield device
        return
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as stored:
            if path.name.lower().endswith(".gz"):
                with gzip.GzipFile(path.name.removesuffix(".gz"), "wb", fileobj=stored) as packed:
                    yield cast("IO[bytes]", packed)
            else:
                yield stored
            stored.flush()
            os.fsync(stored.fileno())
        if path.exists():
            beside.chmod(path.stat().st_mode & 0o777)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
