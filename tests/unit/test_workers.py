from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from app.domain.errors import NotReady, Overloaded
from app.workers import INTERACTIVE_RUN, WorkerPool


class Busy:
    """A pool of one thread, held up until released, that notes the order of what it runs."""

    def __init__(self, capacity: int = 100) -> None:
        self.pool = WorkerPool(1, capacity)
        self.order: list[str] = []
        self._go = threading.Event()
        entered = threading.Event()

        def block() -> None:
            entered.set()
            assert self._go.wait(10)

        self.pool.submit(block)
        assert entered.wait(10)

    def note(self, name: str) -> str:
        """Note that `name` ran."""
        self.order.append(name)
        return name

    def release(self) -> None:
        """Let the pool run what waits, and wait until it has."""
        self._go.set()
        self.pool.close()


@pytest.fixture
def busy() -> Iterator[Busy]:
    made = Busy()
    yield made
    made.release()


def test_interactive_work_goes_before_bulk_work(busy: Busy) -> None:
    """Whatever the order in which it came."""
    busy.pool.submit(busy.note, "bulk", bulk=True)
    busy.pool.submit(busy.note, "asked")
    busy.release()
    assert busy.order == ["asked", "bulk"]


def test_bulk_work_is_never_starved(busy: Busy) -> None:
    """It gets a turn in so many."""
    busy.pool.submit(busy.note, "bulk", bulk=True)
    for _ in range(3 * INTERACTIVE_RUN):
        busy.pool.submit(busy.note, "asked")
    busy.release()
    assert busy.order.index("bulk") <= INTERACTIVE_RUN
    assert len(busy.order) == 3 * INTERACTIVE_RUN + 1


def test_work_whose_client_has_gone_is_dropped_unstarted(busy: Busy) -> None:
    """A cancelled job never runs."""
    gone = busy.pool.submit(busy.note, "gone")
    busy.pool.submit(busy.note, "stays")
    assert gone.cancel()
    busy.release()
    assert busy.order == ["stays"]


def test_an_error_belongs_to_whoever_asked(busy: Busy) -> None:
    """The thread goes on."""

    def fail() -> None:
        raise ValueError("no")

    failing = busy.pool.submit(fail)
    after = busy.pool.submit(busy.note, "after")
    busy.release()
    with pytest.raises(ValueError, match="no"):
        failing.result(1)
    assert after.result(1) == "after"


def test_no_more_than_the_capacity_waits() -> None:
    """Alone, a larger request is let in, or it could never be answered."""
    pool = WorkerPool(1, capacity=10)
    pool.reserve(25)
    with pytest.raises(Overloaded):
        pool.reserve(1)
    pool.release(25)
    pool.reserve(10)
    with pytest.raises(Overloaded):
        pool.reserve(1)
    pool.release(10)
    assert pool.load == 0
    pool.close()


def test_cancelling_a_waiting_request_frees_its_place(busy: Busy) -> None:
    """Its parts that have not begun are dropped."""

    async def ask_and_leave() -> None:
        task = asyncio.create_task(busy.pool.map_bulk(busy.note, ["a", "b", "c"], 3))
        await asyncio.sleep(0)
        assert busy.pool.load == 3
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(ask_and_leave())
    assert busy.pool.load == 0
    busy.release()
    assert busy.order == []


def test_a_closed_pool_takes_nothing(busy: Busy) -> None:
    """It says that the service is stopping."""
    busy.release()
    with pytest.raises(NotReady):
        busy.pool.submit(busy.note, "late")
    with pytest.raises(NotReady):
        busy.pool.reserve(1)
