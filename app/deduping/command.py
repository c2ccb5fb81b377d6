"""`deja dedupe` from its options to its summary."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from app.cli_output import replacing
from app.deduping.grouping import Grouped, group_rows
from app.deduping.progress import DedupeProgress
from app.deduping.reading import FileFormat, Row, format_of_file, read_rows
from app.deduping.writing import dropped_lines, group_lines, kept_lines
from app.domain.anchors import CollectionSettings
from app.domain.calibration import Calibration
from app.encoders.artifact import find_artifact, load_artifact
from app.encoders.head import head_of
from app.encoders.onnx import OnnxEncoder
from app.encoders.unknown import unknown_to
from app.importing.records import BadLine, UnusableFile
from app.importing.run import StrictStop
from app.importing.source import SourceError
from app.importing.state import file_identity
from app.usecases.grouping import Criteria
from app.usecases.matching import Judge

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class DedupeOptions:
    """What `deja dedupe` was asked to do; None means the default.

    output: where the kept rows go. groups: where the groups go, beside output by default.
    column: holds the text.
    duplicate_at: P(duplicate) from which on two texts are duplicates, 0 to 1.
    precision: the aim that gives this cut-off where it is not said, 0 to 1.
    keep_bad: keep rows that cannot be read as they are, in place of ending at the first.
    """

    file: Path
    output: Path | None
    groups: Path | None
    file_format: FileFormat | None
    column: str
    encoder: str
    duplicate_at: float | None
    precision: float
    threads: int
    keep_bad: bool


def run_dedupe(options: DedupeOptions, console: Console) -> str:
    """Write the kept rows of a file and its groups, both whole or neither; return the summary.

    Raises UnusableFile, StrictStop at a bad row, SourceError, StartupError of an artifact, OSError.
    """
    file_format = options.file_format or format_of_file(options.file.name)
    if file_format is None:
        raise UnusableFile(
            f"{options.file}: in which format? Its name ends in none of "
            ".csv .tsv .jsonl .txt (or these with .gz); say it with --format"
        )
    if not options.file.is_file():
        # It is read twice: once for the texts, once for the lines that are kept.
        reason = "not a regular file" if options.file.exists() else "No such file or directory"
        raise SourceError(f"{options.file}: {reason}")
    output = options.output or _beside(options.file)
    groups = options.groups or _groups_beside(options.file, output)
    _distinct_places(options, output, groups)
    identity = file_identity(options.file)
    artifact = load_artifact(find_artifact(options.encoder))
    judge = Judge(artifact.calibration, head_of(artifact), unknown_to(artifact))
    criteria = Criteria(judge, judge.standard(_settings(options, artifact.calibration)))
    with DedupeProgress(console) as progress:
        progress.step("reading", 0, 1)
        rows, bad = _read(options, file_format)
        encoder = OnnxEncoder(artifact)
        texts = [row.text for row in rows]
        found = group_rows(texts, encoder, criteria, progress, options.threads)
        dropped = dropped_lines(found.groups, rows)
        progress.step("writing", 0, 1)
        if file_identity(options.file) != identity:
            raise SourceError(f"{options.file}: it changed meanwhile; nothing was written")
        with ExitStack() as files:
            kept = files.enter_context(replacing(output))
            told = files.enter_context(replacing(groups))
            kept.writelines(kept_lines(options.file, dropped))
            told.writelines(group_lines(found.groups, rows))
            told.flush()
            kept.flush()  # a disk that is full says so before either file takes its place
        said = _summary(found=found, rows=rows, bad=bad, seconds=progress.seconds)
        places = f"kept rows in {output}, groups in {groups}"
        return "\n".join([said[0], places, *said[1:]]) + _unreached(options, criteria)


def _settings(options: DedupeOptions, calibration: Calibration) -> CollectionSettings:
    if options.duplicate_at is None:
        return CollectionSettings(duplicate_precision=options.precision)
    review_at = calibration.cut_offs().review_at
    return CollectionSettings(
        duplicate_at=options.duplicate_at, review_at=min(review_at, options.duplicate_at)
    )


def _beside(file: Path) -> Path:
    """Return `questions.deduped.csv` for `questions.csv`, also where `.gz` follows."""
    packed = file.suffix if file.suffix.lower() == ".gz" else ""
    plain = Path(file.name.removesuffix(packed)) if packed else Path(file.name)
    return file.with_name(f"{plain.stem}.deduped{plain.suffix}{packed}")


def _groups_beside(file: Path, output: Path) -> Path:
    """Return `questions.groups.jsonl` for `questions.csv`, in the folder of the output.

    Beside the file itself where the output is none of the disk: /dev/null, a pipe.
    """
    plain = file.name[:-3] if file.suffix.lower() == ".gz" else file.name
    elsewhere = output.exists() and not output.is_file()
    return (file if elsewhere else output).with_name(f"{Path(plain).stem}.groups.jsonl")


def _distinct_places(options: DedupeOptions, output: Path, groups: Path) -> None:
    places = {"FILE": options.file, "--output": output, "--groups": groups}
    seen: dict[Path, str] = {}
    for name, path in places.items():
        other = seen.setdefault(path.resolve(), name)
        if other != name:
            raise UnusableFile(f"{name} and {other} are the same file: {path}")


def _read(options: DedupeOptions, file_format: FileFormat) -> tuple[list[Row], list[BadLine]]:
    rows: list[Row] = []
    bad: list[BadLine] = []
    for row in read_rows(options.file, file_format, options.column):
        if isinstance(row, Row):
            rows.append(row)
        elif options.keep_bad:
            bad.append(row)
        else:
            stop = StrictStop(row)
            stop.add_note("nothing was written; --keep-bad keeps such rows as they are")
            raise stop
    return rows, bad


def _summary(
    *,
    found: Grouped,
    rows: list[Row],
    bad: list[BadLine],
    seconds: float,
) -> list[str]:
    gone = sum(len(group.members) for group in found.groups)
    equal = len(rows) - found.distinct
    total = len(rows) + len(bad)
    counts = (
        f"{total:,} rows in {seconds:.1f} s: {total - gone:,} kept, {gone:,} duplicates left out "
        f"({equal:,} of equal text) in {len(found.groups):,} groups"
    )
    said = [counts]
    if bad:
        said.append(_places("rows that cannot be read, kept as they are", [b.line for b in bad]))
    if found.truncated:
        lines = [rows[place].line for place in found.truncated]
        said.append(_places("texts longer than the encoder reads", lines))
    return said


def _unreached(options: DedupeOptions, criteria: Criteria) -> str:
    """Return the warning of an aim that the encoder's pairs do not reach, "" without."""
    cut_offs = criteria.standard.cut_offs
    if cut_offs.duplicate_reached:
        return ""
    return (
        f"\nwarning: a precision of {options.precision} was not measured at any cut-off; taken for "
        f"duplicates is what has a probability of {cut_offs.duplicate_at:.3f}"
    )


def _places(what: str, lines: list[int]) -> str:
    shown = ", ".join(f"{line:,}" for line in sorted(lines)[:_SHOWN])
    more = ", …" if len(lines) > _SHOWN else ""
    return f"{len(lines):,} {what}, at line{'s' * (len(lines) != 1)} {shown}{more}"
