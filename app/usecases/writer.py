"""The one writer.

Requests hand over a command and wait. One thread takes what has gathered, runs each command under
a savepoint of one transaction, commits once, applies the changes to the index, and only then
answers: what is acknowledged is durable and visible, and a burst of writes shares one fsync.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from app.domain.anchors import Change
from app.domain.errors import NotReady, Overloaded, StorageFailed
from app.domain.ports import AnchorStore, VectorIndex, VectorView, WriteTransaction

log = logging.getLogger("deja.writer")

# A batch closes when it has run this long: those who wait are owed an answer.
BATCH_SECONDS = 0.05
BATCH_COMMANDS = 256
# The change log is pruned once this many changes were written since the last time.
PRUNE_AFTER = 5_000
PURGE_ROWS = 2_000
# Remembered answers expire whether or not anything is deleted.
PURGE_SECONDS = 600.0
IDLE_SECONDS = 0.5

_T = TypeVar("_T")


class Writing:
    """What a command works on: a transaction, and the view that goes with it."""

    def __init__(self, rows: WriteTransaction, index: VectorIndex) -> None:
        self.rows = rows
        self._index = index
        self._views: dict[int, VectorView] = {}
        self.changes: dict[int, list[Change]] = {}
        self.forgotten: set[int] = set()

    def view(self, collection: int) -> VectorView:
        """Return the collection's vectors, all earlier writes of this transaction included."""
        if collection not in self._views:
            view = self._index.view(collection)
            self._views[collection] = view.apply(self.changes.get(collection, []))
        return self._views[collection]

    def record(self, collection: int, changes: Sequence[Change]) -> None:
        """Note changes that the index applies after the commit."""
        if not changes:
            return
        self.changes.setdefault(collection, []).extend(changes)
        if collection in self._views:
            self._views[collection] = self._views[collection].apply(changes)

    def forget(self, collection: int) -> None:
        """Note that the index must drop a collection after the commit."""
        self.forgotten.add(collection)

    def mark(self) -> dict[int, int]:
        """Return what `rewind` needs to undo what is recorded from here on."""
        return {collection: len(changes) for collection, changes in self.changes.items()}

    def rewind(self, mark: dict[int, int]) -> None:
        """Undo what was recorded since `mark`: its savepoint was rolled back."""
        for collection, changes in self.changes.items():
            if len(changes) != mark.get(collection, 0):
                del changes[mark.get(collection, 0) :]
                self._views.pop(collection, None)


@dataclass(frozen=True, slots=True)
class _Command(Generic[_T]):
    run: Callable[[Writing], _T]
    answer: Future[_T]


class Writer:
    """Runs write commands one after another in a thread of its own.

    capacity: how many commands may wait.
    on_failure: told of an error after which the process must not go on.
    """

    def __init__(
        self,
        store: AnchorStore,
        index: VectorIndex,
        *,
        capacity: int = 1024,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._store = store
        self._index = index
        self._waiting: queue.Queue[_Command[Any] | None] = queue.Queue(capacity)
        self._on_failure = on_failure
        self._closing = threading.Lock()
        self._closed = False
        self._written: dict[int, int] = {}
        # Whatever an earlier process left unfinished is looked for once.
        self._purging = True
        self._tidied = time.monotonic()
        self._thread = threading.Thread(target=self._loop, name="deja-writer", daemon=True)

    def start(self) -> None:
        """Start taking commands."""
        self._thread.start()

    def submit(self, run: Callable[[Writing], _T]) -> Future[_T]:
        """Return the future answer of a command. Raises Overloaded, or NotReady when closed."""
        command = _Command(run, Future())
        # Without the lock a command could slip in behind the closing mark and never be answered.
        with self._closing:
            if self._closed:
                raise NotReady("the service is stopping")
            try:
                self._waiting.put_nowait(command)
            except queue.Full:
                raise Overloaded("too many writes are waiting; try again") from None
        return command.answer

    def close(self) -> None:
        """Answer everything accepted, then stop."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()

    def _loop(self) -> None:
        try:
            while True:
                try:
                    first = self._waiting.get(timeout=IDLE_SECONDS)
                except queue.Empty:
                    self._tidy()
                    continue
                if first is None or not self._run_batch(first):
                    return
                if max(self._written.values(), default=0) >= PRUNE_AFTER or self._overdue():
                    self._tidy()
        except BaseException as error:  # noqa: BLE001 - a dead writer must not go unnoticed
            log.critical("the writer stopped: %s", error)
            self._refuse_all()
            self._on_failure(error)

    def _refuse_all(self) -> None:
        """Tell everyone who waits that nothing will be written any more."""
        with self._closing:
            self._closed = True
        while not self._waiting.empty():
            command = self._waiting.get_nowait()
            if command is not None:
                _fail(command.answer, NotReady("the service is stopping"))

    def _run_batch(self, first: _Command[Any]) -> bool:
        """Run `first` and what waits behind it; return whether to go on."""
        batch, goes_on = [first], True

        def more() -> _Command[Any] | None:
            nonlocal goes_on
            if len(batch) >= BATCH_COMMANDS or time.monotonic() > deadline:
                return None
            try:
                command = self._waiting.get_nowait()
            except queue.Empty:
                return None
            if command is None:
                goes_on = False
            else:
                batch.append(command)
            return command

        deadline = time.monotonic() + BATCH_SECONDS
        try:
            try:
                self._commit(first, more)
            except StorageFailed as error:
                log.warning("a batch of %d writes failed: %s", len(batch), error)
                # Perhaps only one of them cannot be stored; each gets a transaction of its own.
                for command in batch:
                    self._commit_alone(command)
        except BaseException:
            # Not "try again": it may have been committed.
            for command in batch:
                _fail(command.answer, RuntimeError("the writer stopped; perhaps it is stored"))
            raise
        return goes_on

    def _commit_alone(self, command: _Command[Any]) -> None:
        try:
            self._commit(command, lambda: None)
        except StorageFailed as error:
            _fail(command.answer, error)

    def _commit(self, first: _Command[Any], more: Callable[[], _Command[Any] | None]) -> None:
        """Run commands in one transaction, commit, apply to the index, answer."""
        outcomes: list[tuple[_Command[Any], Any, BaseException | None]] = []
        with self._store.write() as rows:
            writing = Writing(rows, self._index)
            command: _Command[Any] | None = first
            while command is not None:
                if command.answer.cancelled():
                    command = more()
                    continue
                mark = writing.mark()
                try:
                    with rows.savepoint():
                        outcomes.append((command, command.run(writing), None))
                except StorageFailed:
                    raise
                except Exception as error:  # noqa: BLE001 - it belongs to whoever sent the command
                    writing.rewind(mark)
                    outcomes.append((command, None, error))
                command = more()
        self._publish(writing)
        for command, result, failure in outcomes:
            if failure is not None:
                _fail(command.answer, failure)
            elif command.answer.set_running_or_notify_cancel():
                command.answer.set_result(result)

    def _publish(self, writing: Writing) -> None:
        for collection in writing.forgotten:
            writing.changes.pop(collection, None)
            self._written.pop(collection, None)
            self._index.drop(collection)
            self._purging = True
        for collection, changes in writing.changes.items():
            if not changes:
                continue
            self._written[collection] = self._written.get(collection, 0) + len(changes)
            try:
                self._index.apply(collection, changes)
            except Exception:
                # The truth is committed; the index must not stay behind it.
                log.exception("collection %d: the index is rebuilt from the database", collection)
                self._index.rebuild(
                    collection, self._store.vectors(collection), self._store.last_seq()
                )

    def _overdue(self) -> bool:
        """Return whether it is time to look for what has expired, busy or not."""
        return time.monotonic() - self._tidied >= (1.0 if self._purging else PURGE_SECONDS)

    def _tidy(self) -> None:
        """Prune the change log and purge deleted and expired rows, a little at a time."""
        if time.monotonic() - self._tidied >= PURGE_SECONDS:
            self._purging = True
        due = [c for c, written in self._written.items() if written >= PRUNE_AFTER]
        if not due and not self._purging:
            return
        self._tidied = time.monotonic()
        try:
            with self._store.write() as rows:
                for collection in due:
                    saved = self._index.saved_seq(collection)
                    if saved is not None:
                        rows.prune(collection, saved)
                more = self._purging and rows.purge(PURGE_ROWS)
            self._purging = more
            self._written.update(dict.fromkeys(due, 0))
        except StorageFailed as error:
            log.warning("tidying failed and will be tried again: %s", error)


def _fail(answer: Future[Any], error: BaseException) -> None:
    if not answer.done() and answer.set_running_or_notify_cancel():
        answer.set_exception(error)
