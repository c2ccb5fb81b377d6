"""The command `deja`: serve, import, export, ask, dedupe."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console

from app import __version__
from app.cli_output import replacing, show_answer, write_lines
from app.client import DejaClient, DejaClientError, Unauthorized
from app.dedupe_cli import dedupe
from app.domain.errors import StartupError
from app.importing.command import ImportOptions, run_import
from app.importing.progress import plain
from app.importing.records import Format, UnusableFile
from app.importing.rows import Columns
from app.importing.run import Stopped, StrictStop
from app.importing.source import SourceError

cli = typer.Typer(
    name="deja",
    help="Deja: has this been asked before?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,  # boxes cut long option names, and make four lines of an error,
)

_COLLECTION = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class Seams:
    """What a test puts in place of the network and of waiting, as the Typer context's `obj`."""

    transport: httpx.BaseTransport | None = None
    sleep: Callable[[float], object] | None = None


class IfDuplicate(StrEnum):
    """What to do with a row that has a duplicate in the collection."""

    REGISTER = "register"
    SKIP = "skip"


def _collection_name(value: str) -> str:
    if not _COLLECTION.fullmatch(value):
        raise typer.BadParameter(
            f"{value!r} is not 1 to 63 of a-z 0-9 _ - that begin with a letter or digit"
        )
    return value


Url = Annotated[
    str, typer.Option("--url", envvar="DEJA_URL", help="Address of the service.", metavar="URL")
]
Key = Annotated[
    str | None,
    typer.Option("--key", envvar="DEJA_KEY", help="Key, where the service asks for one."),
]
CollectionName = Annotated[
    str, typer.Option("--collection", "-c", callback=_collection_name, metavar="NAME")
]
DEFAULT_URL = "http://127.0.0.1:8000"


@cli.callback(invoke_without_command=True)
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="Say the version and end.")
    ] = False,
) -> None:
    if version:
        typer.echo(f"deja {__version__}")
        raise typer.Exit


@cli.command()
def serve() -> None:
    """Run the service until it is stopped.

    Its settings come from environment variables that begin with DEJA_ (DEJA_HOST, DEJA_PORT,
    DEJA_DATA_DIR, DEJA_ADMIN_KEY, …); docs/operations.md lists them all.
    """
    from app.serve import serve as run_service

    raise typer.Exit(run_service())


@cli.command("import")
def import_(
    context: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            help="A .csv, .tsv or .jsonl file, or one of these with .gz; - for standard input.",
            metavar="FILE",
        ),
    ],
    *,
    collection: CollectionName,
    file_format: Annotated[
        Format | None, typer.Option("--format", help="Read FILE as this, whatever its name.")
    ] = None,
    text_column: Annotated[
        str, typer.Option(help="Column (or JSON key) that holds the text.", metavar="NAME")
    ] = "text",
    id_column: Annotated[
        str | None,
        typer.Option(help="Column of the id.  [default: id, if there]", metavar="NAME"),
    ] = None,
    label_column: Annotated[
        str | None,
        typer.Option(help="Column of the label.  [default: label, if there]", metavar="NAME"),
    ] = None,
    metadata_columns: Annotated[
        str, typer.Option(help="Columns that become metadata, by commas.", metavar="A,B")
    ] = "",
    metadata: Annotated[
        bool, typer.Option("--metadata", help="Make metadata of every further column.")
    ] = False,
    if_duplicate: Annotated[
        IfDuplicate,
        typer.Option(help="What to do with a row whose duplicate is in the collection."),
    ] = IfDuplicate.REGISTER,
    batch: Annotated[int, typer.Option(min=1, max=1000, help="Lines a request.")] = 256,
    parallel: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=8,
            help="Requests in flight.  [default: 2; 1 with --if-duplicate skip, so that of two "
            "duplicates the earlier line stays]",
        ),
    ] = None,
    create: Annotated[
        bool, typer.Option("--create/--no-create", help="Create the collection if it is missing.")
    ] = True,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Check the file first; end with 1 at the first bad line."),
    ] = False,
    errors: Annotated[
        Path | None,
        typer.Option(help="Write every bad line's number and reason here.", metavar="FILE"),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            help="Keep here how far the import is.  [default: a file in the user's state folder]",
            metavar="FILE",
        ),
    ] = None,
    restart: Annotated[
        bool,
        typer.Option(
            "--restart",
            help="Start at the first line even if an earlier import of FILE stopped midway; "
            "rows without an id that it stored are then stored again.",
        ),
    ] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Register every row of a file.

    A row that cannot be registered is listed with its line number and counted; the others go in.
    Stopped midway, by whatever, the same command goes on after the last row that is stored.
    """
    options = ImportOptions(
        file=file,
        collection=collection,
        file_format=file_format,
        columns=Columns(
            text_column,
            id_column,
            label_column,
            tuple(filter(None, (name.strip() for name in metadata_columns.split(",")))),
            metadata,
        ),
        if_duplicate=if_duplicate.value,
        batch=batch,
        parallel=parallel,
        create=create,
        strict=strict,
        restart=restart,
        errors=errors,
        state=state,
    )
    seams = _seams(context)

    def connect(tries: int, stop: threading.Event) -> DejaClient:
        def wait(seconds: float) -> None:
            (seams.sleep or stop.wait)(seconds)
            if stop.is_set():
                raise Stopped

        return _client(seams, url, key, timeout=300.0, tries=tries, sleep=wait)

    with one_line_errors():
        summary = run_import(
            options, connect=connect, console=Console(stderr=True), environment=os.environ
        )
    typer.echo(summary)


@cli.command(short_help="Write a collection as lines of JSON.")
def export(
    context: typer.Context,
    *,
    collection: CollectionName,
    feedback: Annotated[
        bool,
        typer.Option(
            "--feedback", help="Write its feedback instead, as labelled pairs for `deja-train`."
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A .jsonl or .jsonl.gz file, replaced when all is there.  [default: stdout]",
            metavar="FILE",
        ),
    ] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Write all anchors of a collection, of one moment, as lines of JSON.

    `deja import` takes them back as they are. With --feedback, all verdicts that people gave,
    which `deja-train --pairs FILE` takes as they are.
    """
    with one_line_errors(), _client(_seams(context), url, key) as client:
        export_lines = client.export_feedback_lines if feedback else client.export_lines
        lines = export_lines(collection)
        if output is None or str(output) == "-":
            count = write_lines(lines, sys.stdout.buffer)
        else:
            with replacing(output) as file:
                count = write_lines(lines, file)
    where = "" if output is None else f" to {output}"
    what = "verdict" if feedback else "anchor"
    typer.echo(f"{count:,} {what}{'s' * (count != 1)} exported{where}", err=True)


@cli.command(short_help="Say whether a question has been asked before.")
def ask(
    context: typer.Context,
    question: Annotated[str, typer.Argument(help="The question to look up.")],
    *,
    collection: CollectionName = "default",
    limit: Annotated[int, typer.Option(min=1, max=100, help="Matches at most.")] = 10,
    label: Annotated[str | None, typer.Option(help="Only anchors with this label.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as it came.")] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Say whether a question has been asked before, and which anchors are nearest."""
    with one_line_errors(), _client(_seams(context), url, key) as client:
        answer = client.duplicates(question, collection=collection, limit=limit, label=label)
    if as_json:
        typer.echo(json.dumps(answer, ensure_ascii=False, indent=2))
    else:
        show_answer(answer, Console())


cli.command(short_help="Find the duplicates in a file, and write it without them.")(dedupe)


@cli.command(short_help="Fit a collection's probabilities to its feedback.")
def calibrate(
    context: typer.Context,
    *,
    collection: CollectionName,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Apply it even where it is no better on unseen verdicts."),
    ] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Go back to the calibration of the encoder.")
    ] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Fit a collection's probabilities to what people said of its matches.

    Few verdicts move them a little, many as far as they ask; the order of matches stays. What was
    there before and what is there now is shown, measured on verdicts that the fit has not seen.
    """
    from app.calibrating import NoFeedback
    from app.calibrating import calibrate as run_calibrate

    with one_line_errors(), _client(_seams(context), url, key, timeout=300.0) as client:
        if undo:
            client.delete_calibration(collection)
            typer.echo(f"{collection} judges by the calibration of the encoder again.")
            return
        try:
            run_calibrate(client, collection, Console(), dry_run=dry_run, force=force)
        except NoFeedback as error:
            _fail(error, 1)


def _seams(context: typer.Context) -> Seams:
    return context.obj if isinstance(context.obj, Seams) else Seams()


def _client(
    seams: Seams,
    url: str,
    key: str | None,
    *,
    timeout: float = 60.0,
    tries: int = 3,
    sleep: Callable[[float], object] | None = None,
) -> DejaClient:
    # Certificates that the machine trusts count here, though not in the client by itself.
    transport = seams.transport or httpx.HTTPTransport(trust_env=True)
    wait = sleep or seams.sleep or time.sleep
    return DejaClient(url, key=key, timeout=timeout, transport=transport, tries=tries, sleep=wait)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what can go wrong into a line on stderr and an exit status."""
    try:
        yield
    except UnusableFile as error:
        _fail(error, 2)
    except KeyboardInterrupt as error:
        _fail(error, 130, "stopped")
    except BrokenPipeError:
        raise  # whoever read the output has left: Typer ends quietly
    except Unauthorized as error:
        error.add_note("give a key with --key or DEJA_KEY")
        _fail(error, 1)
    except (
        DejaClientError,
        SourceError,
        StartupError,
        StrictStop,
        OSError,
        UnicodeEncodeError,
    ) as error:
        _fail(error, 1)


def _fail(error: BaseException, status: int, message: str | None = None) -> None:
    said = "; ".join([message or str(error), *getattr(error, "__notes__", ())])
    typer.echo(f"deja: {plain(said)}", err=True)
    raise typer.Exit(status) from error


def main() -> None:
    """Run the command line."""
    # The encoder's callers are its threads; the tokenizer would start a pool of its own.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    cli()
