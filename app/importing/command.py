"""`deja import` from its options to its summary."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

from rich.console import Console

from app.client import DejaClient, DejaClientError, Forbidden, NotFound
from app.importing.progress import ImportProgress
from app.importing.records import BadLine, Format, UnusableFile, format_of, read_records
from app.importing.rows import Columns, RowReader
from app.importing.run import ErrorList, ImportRun, StrictStop
from app.importing.sending import Target
from app.importing.source import Source, SourceError
from app.importing.state import (
    ImportState,
    StateFile,
    file_identity,
    state_folder,
    state_name,
)

STANDARD_INPUT = "-"
_DEFAULT_PARALLEL = {"register": 2, "skip": 1}
_SHOWN_TRUNCATED = 5
_FIRST_TRIES = 3
_PATIENT_TRIES = 10

Connect = Callable[[int, threading.Event], DejaClient]
"""Gives a client of so many tries a request, whose waits end once the event is set."""


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What `deja import` was asked to do; None means the default.

    file: a path, or `-` for standard input.
    batch: lines a request, 1 to 1,000.
    parallel: requests in flight.
    """

    file: str
    collection: str
    file_format: Format | None
    columns: Columns
    if_duplicate: Literal["register", "skip"]
    batch: int
    parallel: int | None
    create: bool
    strict: bool
    restart: bool
    errors: Path | None
    state: Path | None


def run_import(
    options: ImportOptions, *, connect: Connect, console: Console, environment: Mapping[str, str]
) -> str:
    """Import a file; return the summary.

    console: for progress and bad lines.

    Raises UnusableFile before anything is sent, and what `ImportRun.run` raises, with a note that
    says how far every row is stored.
    """
    file_format = options.file_format or format_of(options.file)
    if file_format is None:
        raise UnusableFile(
            f"{options.file}: in which format? "
            "Its name ends in none of .csv .tsv .jsonl (or these with .gz); say it with --format"
        )
    for name, path in (("--errors", options.errors), ("--state", options.state)):
        if path is not None and path.resolve() == Path(options.file).resolve():
            raise UnusableFile(f"{name}: {path} is the file to import")
    if options.strict and options.file != STANDARD_INPUT:
        _check(options, file_format)
    stop = threading.Event()
    with _open(options.file) as source:
        rows = RowReader(source.name, read_records(source, file_format), options.columns)
        with connect(_FIRST_TRIES, stop) as client:
            state_file, state = _state(options, client.address, file_format, environment, console)
            _ensure_collection(client, options.collection, create=options.create)
        remaining = rows.after(state.line)
        first = next(remaining, None)  # past all that is done already, which rates leave out
        with (
            connect(_PATIENT_TRIES, stop) as client,
            ImportProgress(
                console, size=source.size, position=source.position, tally=state.tally
            ) as progress,
        ):
            run = ImportRun(
                target=Target(client, options.collection, options.if_duplicate),
                state=state,
                state_file=state_file,
                errors=ErrorList(options.errors),
                watch=progress,
                stop=stop,
                limit=options.batch,
                parallel=options.parallel or _DEFAULT_PARALLEL[options.if_duplicate],
                strict=options.strict,
            )
            try:
                run.run([] if first is None else chain([first], remaining), lambda: source.position)
            except (DejaClientError, SourceError, StrictStop, OSError, KeyboardInterrupt) as error:
                error.add_note(_place(run.state, state_file))
                raise
        return _summary(run, progress)


def _open(file: str) -> Source:
    if file == STANDARD_INPUT:
        return Source(sys.stdin.buffer, "standard input", gzipped=False, size=None)
    return Source.open(Path(file))


def _check(options: ImportOptions, file_format: Format) -> None:
    """Read the whole file. Raises StrictStop at its first bad line."""
    with _open(options.file) as source:
        for row in RowReader(source.name, read_records(source, file_format), options.columns):
            if isinstance(row, BadLine):
                stop = StrictStop(row)
                stop.add_note("nothing was sent")
                raise stop


def _ensure_collection(client: DejaClient, name: str, *, create: bool) -> None:
    try:
        client.get_collection(name)
    except Forbidden:
        return  # a key that may only write can still import
    except NotFound:
        if not create:
            raise
        client.put_collection(name)


def _state(
    options: ImportOptions,
    address: str,
    file_format: Format,
    environment: Mapping[str, str],
    console: Console,
) -> tuple[StateFile, ImportState]:
    """Return where the import's state is kept, and the one to go on from."""
    path = Path(options.file)
    if options.file == STANDARD_INPUT or not path.is_file():
        if options.state is not None:
            raise UnusableFile(f"--state: {options.file} is no file, so it cannot be resumed")
        return StateFile(None), ImportState(file={})
    columns = options.columns
    shape = {
        "server": address,
        "collection": options.collection,
        "format": file_format.value,
        "columns": [columns.text, columns.id, columns.label, [*columns.metadata]],
        "other_as_metadata": columns.other_as_metadata,
        "if_duplicate": options.if_duplicate,
        "batch": options.batch,
    }
    name = state_name(path, shape)
    state_file = StateFile(options.state or state_folder(environment) / name)
    identity = {**file_identity(path), "import": name}
    saved = None if options.restart else state_file.load()
    if saved is not None and saved.file != identity:
        console.print(
            f"{options.file} or the options have changed since an import stopped after line "
            f"{saved.line:,}; starting at the first line",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        saved = None
    if saved is not None and saved.line:
        console.print(f"resuming after line {saved.line:,}", highlight=False)
    return state_file, saved or ImportState(file=identity)


def _place(state: ImportState, state_file: StateFile) -> str:
    stored = f"every row up to line {state.line:,} is stored" if state.line else "no row is stored"
    if state_file.path is None:
        return stored
    return f"{stored}; run the same command again to go on from there"


def _summary(run: ImportRun, progress: ImportProgress) -> str:
    tally = run.state.tally
    last = "" if progress.rows == tally.read else f", the last {progress.rows:,}"
    said = (
        f"{tally.read:,} rows read{last} in {progress.seconds:.1f} s "
        f"({progress.rate:,.0f} rows/s): "
        f"{tally.created:,} created, {tally.updated:,} updated, {tally.unchanged:,} unchanged, "
        f"{tally.skipped:,} skipped as duplicates, {tally.bad:,} bad, {tally.truncated:,} truncated"
    )
    lines = run.truncated_lines
    if lines:
        shown = ", ".join(f"{line:,}" for line in lines[:_SHOWN_TRUNCATED])
        more = ", …" if len(lines) > _SHOWN_TRUNCATED else ""
        said += f"\ntexts longer than the encoder reads, at lines {shown}{more}"
    return said
