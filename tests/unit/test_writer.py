from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from app.domain.anchors import Change
from app.domain.errors import NotReady, Overloaded, StorageFailed
from app.domain.ports import WriteTransaction
from app.index.memory import MemoryIndex
from app.storage.memory import MemoryAnchorStore
from app.usecases.writer import Writer, Writing
from tests.unit.fakes import DIMENSION, WordEncoder

ENCODER = WordEncoder()


class CountingStore(MemoryAnchorStore):
    """Counts commits, and refuses those that write a forbidden text."""

    def __init__(self) -> None:
        self.commits = 0
        super().__init__(ENCODER.fingerprint)

    @contextmanager
    def write(self) -> Iterator[Any]:
        """Open a write transaction."""
        with super().write() as rows:
            yield rows
            found = rows.by_id(1, ["forbidden"])
            if found:
                raise StorageFailed("the disk is full")
        self.commits += 1


def put(anchor_id: str, text: str = "some text") -> Callable[[Writing], int]:
    """Return a command that stores an anchor and returns its seq."""

    def command(writing: Writing) -> int:
        (change,) = writing.rows.put(1, [(anchor_id, ENCODER.draft(text))])
        writing.record(1, [change])
        return change.seq

    return command


class Held:
    """A writer that is busy with a first command until released, so that others gather."""

    def __init__(self, capacity: int = 100, index: MemoryIndex | None = None) -> None:
        self.failures: list[BaseException] = []
        self.store = CountingStore()
        self.index = index or MemoryIndex(DIMENSION)
        self.writer = Writer(
            self.store, self.index, capacity=capacity, on_failure=self.failures.append
        )
        self._go = threading.Event()
        self._entered = threading.Event()
        self.writer.start()

        def block(_writing: Writing) -> None:
            self._entered.set()
            assert self._go.wait(10)

        self.writer.submit(block)
        assert self._entered.wait(10)

    def release(self) -> None:
        """Let the first command end."""
        self._go.set()


@pytest.fixture
def held() -> Iterator[Held]:
    made = Held()
    yield made
    made.release()
    made.writer.close()
    assert made.failures == []


def result(future: Future[Any]) -> Any:
    return future.result(10)


def test_writes_that_gather_share_one_commit(held: Held) -> None:
    """One fsync pays for all of them."""
    before = held.store.commits
    answers = [held.writer.submit(put(f"a{i}")) for i in range(20)]
    held.release()
    assert [result(answer) for answer in answers] == list(range(1, 21))
    assert held.store.commits == before + 1


def test_an_answer_comes_after_commit_and_index(held: Held) -> None:
    """Whoever is told sees it."""
    answer = held.writer.submit(put("a"))
    seen: list[tuple[int, int]] = []
    answer.add_done_callback(
        lambda _: seen.append((len(held.index.view(1)), len(held.store.by_id(1, ["a"]))))
    )
    held.release()
    result(answer)
    assert seen == [(1, 1)]


def test_a_failing_command_takes_nothing_with_it(held: Held) -> None:
    """What it had written is undone, in the rows and in the staged view; others are stored."""

    def fail(writing: Writing) -> None:
        put("broken")(writing)
        assert len(writing.view(1)) == 2
        raise ValueError("no")

    def look(writing: Writing) -> int:
        return len(writing.view(1))

    first = held.writer.submit(put("a"))
    broken = held.writer.submit(fail)
    size = held.writer.submit(look)
    last = held.writer.submit(put("b"))
    held.release()
    with pytest.raises(ValueError, match="no"):
        result(broken)
    assert (result(first), result(size), result(last)) == (1, 1, 2)
    assert set(held.store.by_id(1, ["a", "b", "broken"])) == {"a", "b"}
    assert len(held.index.view(1)) == 2


def test_a_write_the_database_refuses_does_not_fail_its_neighbours(held: Held) -> None:
    """Each is tried again alone; only the one at fault is told so."""
    good = held.writer.submit(put("a"))
    bad = held.writer.submit(put("forbidden"))
    also_good = held.writer.submit(put("b"))
    held.release()
    with pytest.raises(StorageFailed, match="disk is full"):
        result(bad)
    assert (result(good), result(also_good)) == (1, 2)
    assert len(held.index.view(1)) == 2


def test_a_cancelled_write_that_has_not_begun_is_dropped(held: Held) -> None:
    """Nobody waits for it any more."""
    gone = held.writer.submit(put("gone"))
    assert gone.cancel()
    kept = held.writer.submit(put("kept"))
    held.release()
    assert result(kept) == 1
    assert held.store.by_id(1, ["gone"]) == {}


def test_more_writes_than_may_wait_are_refused() -> None:
    """The refused one is not stored; those that waited are."""
    held = Held(capacity=2)
    answers = [held.writer.submit(put(f"a{i}")) for i in range(2)]
    with pytest.raises(Overloaded):
        held.writer.submit(put("too many"))
    held.release()
    assert [result(answer) for answer in answers] == [1, 2]
    held.writer.close()


def test_closing_answers_what_was_accepted_and_refuses_the_rest() -> None:
    """Nothing accepted is lost."""
    held = Held()
    answers = [held.writer.submit(put(f"a{i}")) for i in range(5)]
    closing = threading.Thread(target=held.writer.close)
    closing.start()
    held.release()
    closing.join(10)
    assert [result(answer) for answer in answers] == [1, 2, 3, 4, 5]
    with pytest.raises(NotReady):
        held.writer.submit(put("late"))


class FailingIndex(MemoryIndex):
    """An index whose first `apply` fails."""

    failed = False

    def apply(self, collection: int, changes: Sequence[Change]) -> None:
        """Publish changes, but not the first time."""
        if not self.failed:
            self.failed = True
            raise MemoryError
        super().apply(collection, changes)


def test_an_index_that_cannot_follow_is_rebuilt_from_the_truth() -> None:
    """What is committed is visible all the same."""
    held = Held(index=FailingIndex(DIMENSION))
    answer = held.writer.submit(put("a"))
    held.release()
    assert result(answer) == 1
    hits = held.index.view(1).search(ENCODER.encode(["some text"]).vectors[0], 5)
    assert hits.seqs.tolist() == [1]
    assert np.isclose(hits.similarities[0], 1, atol=1e-3)
    held.writer.close()
    assert held.failures == []


def test_an_error_outside_any_command_is_told_not_swallowed() -> None:
    """A writer that died in silence would leave every client waiting."""

    class BrokenStore(MemoryAnchorStore):
        broken = False

        @contextmanager
        def write(self) -> Iterator[WriteTransaction]:  # type: ignore[override]
            """Open a write transaction, until it is broken."""
            if self.broken:
                raise RuntimeError("broken")
            with super().write() as rows:
                yield rows

    failures: list[BaseException] = []
    told = threading.Event()

    def on_failure(error: BaseException) -> None:
        failures.append(error)
        told.set()

    store = BrokenStore(ENCODER.fingerprint)
    store.broken = True
    writer = Writer(store, MemoryIndex(DIMENSION), on_failure=on_failure)
    writer.start()
    answer = writer.submit(put("a"))
    assert told.wait(10)
    assert [str(error) for error in failures] == ["broken"]
    with pytest.raises(RuntimeError, match="perhaps it is stored"):
        answer.result(10)
    with pytest.raises(NotReady):
        writer.submit(put("b"))
    writer.close()
