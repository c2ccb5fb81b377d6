"""The options of `deja dedupe`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from app import DEFAULT_ENCODER
from app.deduping.reading import FileFormat


def dedupe(
    file: Annotated[
        Path,
        typer.Argument(
            help="A .csv, .tsv, .jsonl or .txt file (a text a line), or one of these with .gz.",
            metavar="FILE",
        ),
    ],
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write the rows that are kept here.  [default: FILE.deduped.ext, beside FILE]",
            metavar="FILE",
        ),
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option(
            help="Write every group here, as a line of JSON.  "
            "[default: FILE.groups.jsonl, beside the output]",
            metavar="FILE",
        ),
    ] = None,
    file_format: Annotated[
        FileFormat | None, typer.Option("--format", help="Read FILE as this, whatever its name.")
    ] = None,
    text_column: Annotated[
        str, typer.Option(help="Column (or JSON key) that holds the text.", metavar="NAME")
    ] = "text",
    encoder: Annotated[
        str, typer.Option(help="Encoder artifact: a shipped one's name, or a path.")
    ] = DEFAULT_ENCODER,
    precision: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of pairs left out that are to be duplicates."),
    ] = 0.80,
    duplicate_at: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="P(duplicate) that is enough, in place of --precision."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=256, help="Threads.  [default: one a core]")
    ] = None,
    keep_bad: Annotated[
        bool,
        typer.Option("--keep-bad", help="Keep rows that cannot be read; else the first ends it."),
    ] = False,
) -> None:
    """Find the duplicates in a file, and write it without them, and the groups.

    No service is needed. Of each group one row is kept: the one most of the others are duplicates
    of, and of equals the first. Rows that are kept stay as they are, byte for byte.
    """
    from app.cli import one_line_errors
    from app.deduping.command import DedupeOptions, run_dedupe

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    options = DedupeOptions(
        file=file,
        output=output,
        groups=groups,
        file_format=file_format,
        column=text_column,
        encoder=encoder,
        duplicate_at=duplicate_at,
        precision=precision,
        threads=threads or cores or 1,
        keep_bad=keep_bad,
    )
    with one_line_errors():
        summary = run_dedupe(options, Console(stderr=True))
    typer.echo(summary)
