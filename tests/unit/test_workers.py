from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import pytest

from app.domain.errors import NotReady, Overloaded
from app.workers import INTERACTIVE_TEXTS, TOGETHER, WorkerPool

MANY = INTERACTIVE_TEXTS + 1


class Held:
    """A pool whose interactive threads are held up, that notes what it runs, call by call."""

    def __init__(self, capacity: int = 100, threads: int = 1) -> None:
        self.pool = WorkerPool(threads, capacity)
        self.calls: list[list[Any]] = []
        self._go = threading.Event()

    def block(self, items: Sequence[Any]) -> list[Any]:
        """Wait to be released."""
        assert self._go.wait(10)
        return list(items)

    def note(self, items: Sequence[Any]) -> list[Any | Exception]:
        """Note the items; those that are negative numbers befalls an error."""
        self.calls.append(list(items))
        return [ValueError(item) if isinstance(item, int) and item < 0 else item for item in items]

    def note_one(self, item: Any) -> Any:
        """Note one item."""
        self.calls.append([item])
        return item

    def block_one(self, item: Any) -> Any:
        """Wait to be released, then note one item."""
        self.block([item])
        return self.note_one(item)

    def release(self) -> None:
        """Let the pool go on."""
        self._go.set()


def held(
    scenario: Callable[[Held], Awaitable[None]], *, capacity: int = 100, threads: int = 1
) -> Held:
    """Run a scenario while the pool's threads are held up; return what happened after release."""
    made = Held(capacity, threads)

    async def run() -> None:
        blocked = [asyncio.create_task(made.pool.ask(made.block, 0, 0)) for _ in range(threads)]
        await asyncio.sleep(0.05)
        try:
            await scenario(made)
        finally:
            made.release()
            await asyncio.gather(*blocked)

    try:
        asyncio.run(run())
    finally:
        made.release()
        made.pool.close()
    assert made.pool.load == 0
    return made


async def started(*coroutines: Awaitable[Any]) -> list[asyncio.Future[Any]]:
    tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(one) for one in coroutines]
    await asyncio.sleep(0)
    return tasks


def test_interactive_work_does_not_wait_for_bulk_work() -> None:
    """It is answered while bulk work runs on every thread there is for it, and more waits."""

    async def scenario(pool: WorkerPool, begun: threading.Barrier, go: threading.Event) -> None:
        def hold(item: int) -> int:
            if item < 2:
                begun.wait(10)
            assert go.wait(10)
            return item

        bulk = asyncio.create_task(pool.map_bulk(hold, range(20), 20))
        await asyncio.to_thread(begun.wait, 10)
        assert await asyncio.wait_for(pool.ask(list, "asked"), 10) == "asked"
        go.set()
        assert await bulk == list(range(20))

    pool = WorkerPool(2, 100)
    go = threading.Event()
    try:
        asyncio.run(scenario(pool, threading.Barrier(3), go))
    finally:
        go.set()
        pool.close()


@pytest.mark.skipif(sys.platform != "linux", reason="niceness is a thread's own on Linux alone")
def test_bulk_work_steps_back() -> None:
    """The system gives the processor to interactive work first, and to as few texts as that."""

    def niceness(_item: object) -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    async def scenario(pool: WorkerPool) -> tuple[int, int]:
        (bulk,) = await pool.map_bulk(niceness, ["bulk"], MANY)
        assert await pool.map_bulk(niceness, ["little"], INTERACTIVE_TEXTS) == [base]
        return await pool.ask(lambda items: [niceness(item) for item in items], "asked"), bulk

    base = os.getpriority(os.PRIO_PROCESS, 0)
    pool = WorkerPool(1, 10)
    try:
        interactive, bulk = asyncio.run(scenario(pool))
    finally:
        pool.close()
    assert interactive == base
    assert bulk == min(base + 10, 19)


def test_items_that_wait_for_the_same_job_run_together() -> None:
    """As many as pay, each with its own outcome; an error befalls only its own."""

    async def scenario(world: Held) -> None:
        items = [*range(TOGETHER), -1, "last"]
        waiting = await started(*(world.pool.ask(world.note, item) for item in items))
        world.release()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert outcomes[:TOGETHER] == list(range(TOGETHER))
        assert isinstance(outcomes[TOGETHER], ValueError)
        assert outcomes[-1] == "last"

    assert held(scenario).calls == [list(range(TOGETHER)), [-1, "last"]]


def test_threads_share_what_waits() -> None:
    """One of them does not take everything while another has nothing."""

    async def scenario(world: Held) -> None:
        waiting = await started(*(world.pool.ask(world.note, item) for item in range(6)))
        world.release()
        await asyncio.gather(*waiting)

    assert max(map(len, held(scenario, threads=2).calls)) == 3


def test_bulk_work_does_not_wait_for_interactive_work() -> None:
    """It goes on while interactive work runs on every thread there is for it, and more waits."""

    async def scenario(pool: WorkerPool, go: threading.Event) -> None:
        def hold(items: Sequence[int]) -> list[int]:
            assert go.wait(10)
            return list(items)

        asked = [asyncio.create_task(pool.ask(partial(hold), number)) for number in range(20)]
        await asyncio.sleep(0.05)
        assert await asyncio.wait_for(pool.map_bulk(str, [1, 2, 3], MANY), 10) == ["1", "2", "3"]
        go.set()
        assert await asyncio.gather(*asked) == list(range(20))

    pool = WorkerPool(2, 100)
    go = threading.Event()
    try:
        asyncio.run(scenario(pool, go))
    finally:
        go.set()
        pool.close()


def test_bulk_items_never_run_together() -> None:
    """Each is a call of its own, in order where one thread makes them."""

    async def scenario(world: Held) -> None:
        (waiting,) = await started(world.pool.map_bulk(world.block_one, ["a", "b", "c"], MANY))
        world.release()
        assert await asyncio.wait_for(waiting, 10) == ["a", "b", "c"]

    assert held(scenario).calls == [["a"], ["b"], ["c"]]


def test_work_whose_client_has_gone_is_dropped_unstarted() -> None:
    """A cancelled item never runs, and its place is free again."""

    async def scenario(world: Held) -> None:
        begun, gone, several, stays = await started(
            world.pool.map_bulk(world.block_one, ["begun"], MANY),
            world.pool.ask(world.note, "gone"),
            world.pool.map_bulk(world.note_one, ["a", "b", "c"], MANY),
            world.pool.ask(world.note, "stays"),
        )
        assert world.pool.load == 2 * MANY + 2
        gone.cancel()
        several.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert world.pool.load == MANY + 1
        world.release()
        assert [await begun, await stays] == [["begun"], "stays"]

    assert sorted(held(scenario).calls) == [["begun"], ["stays"]]


def test_a_job_that_fails_altogether_fails_for_everyone_in_it() -> None:
    """The thread goes on."""

    def fail(_items: Sequence[Any]) -> list[Any]:
        raise ValueError("no")

    async def scenario(world: Held) -> None:
        first, second, after = await started(
            world.pool.ask(fail, 1), world.pool.ask(fail, 2), world.pool.ask(world.note, "after")
        )
        world.release()
        for failing in (first, second):
            with pytest.raises(ValueError, match="no"):
                await failing
        assert await after == "after"

    held(scenario)


def test_no_more_than_the_capacity_waits() -> None:
    """Alone, a larger request is let in, or it could never be answered."""

    async def scenario(world: Held) -> None:
        (large,) = await started(world.pool.map_bulk(world.block_one, ["large"], 25))
        with pytest.raises(Overloaded):
            await world.pool.ask(world.note, "refused")
        world.release()
        assert await large == ["large"]
        assert await world.pool.ask(world.note, "let in") == "let in"

    assert held(scenario, capacity=10).calls == [["large"], ["let in"]]


def test_a_closed_pool_takes_nothing() -> None:
    """It says that the service is stopping."""
    pool = WorkerPool(2, 10)
    pool.close()
    with pytest.raises(NotReady):
        asyncio.run(pool.ask(list, "late"))
    with pytest.raises(NotReady):
        asyncio.run(pool.map_bulk(str, ["late"], 1))


def test_a_hundred_threads_of_clients_get_their_own_answers() -> None:
    """Many loops' worth of items, woken and answered without a loss."""
    pool = WorkerPool(3, 10_000)

    async def run() -> list[int]:
        return await asyncio.gather(
            *(pool.ask(lambda items: [item * 2 for item in items], n) for n in range(3_000))
        )

    assert asyncio.run(run()) == [2 * n for n in range(3_000)]
    pool.close()
