"""One batch to the service, without the rows it refuses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from app.client import DejaClient, FieldError, Invalid, TooLarge, UnexpectedAnswer
from app.importing.batches import Batch
from app.importing.records import BadLine
from app.importing.rows import Row
from app.importing.state import Tally

_STATUSES = ("created", "updated", "unchanged", "skipped")


@dataclass(frozen=True, slots=True)
class Target:
    """Where the rows of an import go."""

    client: DejaClient
    collection: str
    if_duplicate: Literal["register", "skip"]


@dataclass(slots=True)
class Outcome:
    """What became of a batch; every row of it is stored, skipped or listed as bad."""

    tally: Tally = field(default_factory=Tally)
    bad: list[BadLine] = field(default_factory=list)
    truncated_lines: list[int] = field(default_factory=list)


def send(target: Target, batch: Batch, import_id: str) -> Outcome:
    """Return what became of a batch once the service has acknowledged all that is good in it.

    Sent twice, it is stored once.
    """
    outcome = Outcome(bad=list(batch.bad))
    _send_rows(target, batch.rows, import_id, outcome)
    outcome.bad.sort(key=lambda line: line.line)
    outcome.tally.bad = len(outcome.bad)
    outcome.tally.read = len(batch.rows) + len(batch.bad)
    return outcome


def _send_rows(target: Target, rows: Sequence[Row], import_id: str, outcome: Outcome) -> None:
    while rows:
        try:
            results = target.client.register(
                [row.anchor for row in rows],
                collection=target.collection,
                if_duplicate=target.if_duplicate,
                idempotency_key=idempotency_key(import_id, rows),
            )
        except Invalid as problem:
            refused = _refused(problem.errors, len(rows))
            if not refused:
                raise
            outcome.bad += [
                BadLine(rows[i].line, rows[i].last_line, f"refused by the service: {reason}")
                for i, reason in refused.items()
            ]
            rows = [row for i, row in enumerate(rows) if i not in refused]
        except TooLarge:
            # A proxy in between may take less than the service does.
            if len(rows) == 1:
                reason = "refused by the service: too large"
                outcome.bad.append(BadLine(rows[0].line, rows[0].last_line, reason))
                return
            half = len(rows) // 2
            _send_rows(target, rows[:half], import_id, outcome)
            rows = rows[half:]
        else:
            for row, result in zip(rows, results, strict=True):
                status = result["status"]
                if status not in _STATUSES:
                    raise UnexpectedAnswer(target.client.address, f"an anchor {status!r}")
                setattr(outcome.tally, status, getattr(outcome.tally, status) + 1)
                if result.get("truncated"):
                    outcome.tally.truncated += 1
                    outcome.truncated_lines.append(row.line)
            return


def _refused(errors: Sequence[FieldError], count: int) -> dict[int, str]:
    """Return what is wrong with which row of a request."""
    refused: dict[int, str] = {}
    for error in errors:
        match error.loc:
            case ("body", "anchors", int(i), *path) if 0 <= i < count:
                said = ".".join(map(str, path))
                reason = f"{said}: {error.msg}" if said else error.msg
                refused[i] = f"{refused[i]}; {reason}" if i in refused else reason
    return refused


def idempotency_key(import_id: str, rows: Sequence[Row]) -> str | None:
    """Return the key under which exactly these rows are stored once; None where ids do that.

    What is in them is part of the key, as a service refuses a key that comes with another body.
    """
    if all("id" in row.anchor for row in rows):
        return None
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row.anchor, sort_keys=True).encode())
    return f"{import_id}-{rows[0].line}-{rows[-1].last_line}-{digest.hexdigest()[:16]}"
