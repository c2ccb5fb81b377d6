"""The import itself: batches in flight, acknowledged in the order of the file."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from app.importing.batches import Batch, batched
from app.importing.records import BadLine
from app.importing.rows import Row
from app.importing.sending import Outcome, Target, send
from app.importing.state import ImportState, StateFile, Tally

_GRACE = 10.0
"""Seconds that requests in flight get to finish once the import is to stop."""


class Stopped(Exception):
    """The import is to stop: nothing is waited for any more."""


class StrictStop(Exception):
    """A strict import met a bad line."""

    def __init__(self, line: BadLine) -> None:
        super().__init__(f"line {line.line}: {line.reason}")
        self.line = line


class Watch(Protocol):
    """Is told how an import goes."""

    def bad(self, line: BadLine) -> None:
        """Take note of a bad line; they come in the order of the file."""
        ...

    def advanced(self, tally: Tally, position: int) -> None:
        """Take note of acknowledged rows. position: bytes of the file, as stored."""
        ...


class ErrorList:
    """The list of bad lines, `line<TAB>reason`; without a path there is none."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def write(self, lines: Iterable[BadLine], after: int) -> int:
        """Put lines after the first `after` bytes of the list; return its new size in bytes."""
        if self._path is None:
            return after
        with self._path.open("ab") as file:
            # What a killed run listed beyond its last acknowledged row is listed again.
            file.truncate(min(after, file.tell()))
            for line in lines:
                reason = " ".join(line.reason.split())
                file.write(f"{line.line}\t{reason}\n".encode(errors="backslashreplace"))
            return file.seek(0, 2)


@dataclass(frozen=True, slots=True)
class Sent:
    """A batch under way. position: bytes of the file up to its end, as stored."""

    batch: Batch
    position: int
    ids: set[str]


@dataclass(slots=True)
class ImportRun:
    """One start of an import, from `state.line` to the end of the file or to what stops it.

    limit: lines a batch.
    parallel: how many batches are under way at once.
    truncated_lines: where the rows are whose text the encoder cut, of this run.
    """

    target: Target
    state: ImportState
    state_file: StateFile
    errors: ErrorList
    watch: Watch
    stop: threading.Event
    limit: int
    parallel: int
    strict: bool = False
    truncated_lines: list[int] = field(default_factory=list)
    _in_flight: dict[int, Sent] = field(default_factory=dict)
    _done: dict[int, tuple[Sent, Outcome]] = field(default_factory=dict)
    _next: int = 0
    _answers: queue.SimpleQueue[tuple[int, Outcome | BaseException]] = field(
        default_factory=queue.SimpleQueue
    )

    def run(self, rows: Iterable[Row | BadLine], position: Callable[[], int]) -> None:
        """Send the rows that follow `state.line` and forget the state.

        Raises StrictStop, SourceError, DejaClientError or KeyboardInterrupt; the state then says
        how far every row is acknowledged.
        """
        self.errors.write([], self.state.errors_size)
        self.state_file.save(self.state)
        try:
            for number, batch in enumerate(batched(rows, self.limit)):
                self._stop_if_strict(batch.bad)
                self._launch(number, Sent(batch, position(), batch.ids))
            while self._in_flight:
                self._collect(None)
        except BaseException:
            self.stop.set()
            self._finish()
            raise
        self.state_file.delete()

    def _launch(self, number: int, sent: Sent) -> None:
        # Rows of one id keep their order: the later one must be the one that stays.
        while len(self._in_flight) >= self.parallel or any(
            not sent.ids.isdisjoint(other.ids) for other in self._in_flight.values()
        ):
            self._collect(None)
        self._in_flight[number] = sent
        # Not a thread pool: its threads would be waited for when a second Ctrl-C ends the program.
        threading.Thread(target=self._work, args=(number, sent.batch), daemon=True).start()

    def _work(self, number: int, batch: Batch) -> None:
        try:
            self._answers.put((number, send(self.target, batch, self.state.import_id)))
        except BaseException as error:  # noqa: BLE001 - it is raised where the import runs
            self._answers.put((number, error))

    def _collect(self, timeout: float | None) -> None:
        """Wait for one answer and acknowledge what it completes."""
        number, outcome = self._answers.get(timeout=timeout)
        sent = self._in_flight.pop(number)
        if isinstance(outcome, BaseException):
            raise outcome
        self._done[number] = (sent, outcome)
        while self._next in self._done:
            self._acknowledge(*self._done[self._next])

    def _acknowledge(self, sent: Sent, outcome: Outcome) -> None:
        tally = replace(self.state.tally)
        tally.add(outcome.tally)
        state = replace(
            self.state,
            line=sent.batch.last_line,
            tally=tally,
            errors_size=self.errors.write(outcome.bad, self.state.errors_size),
        )
        self.state_file.save(state)
        # Until here an interrupt leaves this batch to be acknowledged again, with the same result;
        # between these assignments, which call nothing, none can come.
        self.state = state
        self._next += 1
        del self._done[self._next - 1]
        self.truncated_lines += outcome.truncated_lines
        for line in outcome.bad:
            self.watch.bad(line)
        self.watch.advanced(tally, sent.position)
        self._stop_if_strict(outcome.bad)

    def _stop_if_strict(self, bad: Sequence[BadLine]) -> None:
        if self.strict and bad:
            raise StrictStop(bad[0])

    def _finish(self) -> None:
        """Let what is under way finish, so that less is sent again."""
        deadline = time.monotonic() + _GRACE
        while self._in_flight and (left := deadline - time.monotonic()) > 0:
            try:
                self._collect(left)
            except Exception:  # noqa: BLE001, S112 - the first error is the one to report
                continue
