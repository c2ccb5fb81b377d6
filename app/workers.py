"""Threads for the work that must not hold up the event loop.

Encoding and searching release the interpreter lock, so as many threads as cores run them truly side
by side. Bulk work has threads of its own, which step back: on Linux the system runs them on what
interactive work leaves, and interrupts them for it in the middle of a text (decision 19). What
waits is bounded, and work whose client has gone is dropped unstarted. Interactive items that wait
for the same job are handed to it together: several texts in one call of the encoder take about
three quarters of the time of one after another.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from app.domain.errors import NotReady, Overloaded
from app.priority import step_back

# Weights come from memory once a call, however many rows it has: sixteen share them better than
# eight. The first of them waits for the last.
TOGETHER = 16
# Requests of at most so many texts count as a person's, who waits.
INTERACTIVE_TEXTS = 4
_STEPS_BACK = 10  # of niceness, for bulk work: beside busy interactive work, a tenth of a core

_T = TypeVar("_T")
_R = TypeVar("_R")

# Takes items, returns an outcome for each in their order: a result, or the error that befell it.
Job = Callable[[Sequence[_T]], Sequence[_R | Exception]]


@dataclass(frozen=True, slots=True, eq=False)
class _Item(Generic[_T, _R]):
    job: Job[_T, _R]
    argument: _T
    together: int
    answer: asyncio.Future[_R]


class Slots:
    """A few places for work that holds something open for long."""

    def __init__(self, places: int, what: str) -> None:
        self._free = places
        self._what = what

    @contextmanager
    def one(self) -> Iterator[None]:
        """Take a place for a while; only from the event loop's thread. Raises Overloaded."""
        if self._free <= 0:
            raise Overloaded(f"too many {self._what} are running; try again", retry_after=5)
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


class _Lane:
    """Threads for one kind of work, and the items that wait for them.

    A guard is a lane's own: a thread that has stepped back may be interrupted while it holds one.
    steps: of niceness that the threads step back.
    """

    def __init__(self, name: str, threads: int, steps: int = 0) -> None:
        self._steps = steps
        self._guard = threading.Lock()
        self._waiting: deque[_Item[Any, Any]] = deque()
        self._closed = False
        # Idle threads, each asleep on a lock of its own; the one that slept last is woken first,
        # for its core's caches still hold the encoder.
        self._idle: list[threading.Lock] = []
        self._threads = [
            threading.Thread(target=self._work, name=f"deja-{name}-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, item: _Item[Any, Any]) -> None:
        """Have an item run. Raises NotReady where the lane is closed."""
        with self._guard:
            if self._closed:
                raise NotReady("the service is stopping")
            self._waiting.append(item)
            if self._idle:
                self._idle.pop().release()

    def close(self) -> None:
        """Take nothing more; the threads end once nothing waits."""
        with self._guard:
            self._closed = True
            for sleeper in self._idle:
                sleeper.release()
            self._idle.clear()

    def join(self) -> None:
        """Wait for the threads of a closed lane to end."""
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        if self._steps:
            step_back(self._steps)
        sleeper = threading.Lock()
        sleeper.acquire()
        while True:
            with self._guard:
                items = self._take()
                if not items:
                    if self._closed:
                        return
                    self._idle.append(sleeper)
            if items:
                _run(items)
                # Kept alive by this name, a request's texts would outlive it until the next one.
                del items
            else:
                sleeper.acquire()

    def _take(self) -> list[_Item[Any, Any]]:
        """Return what to run next: nothing, one item, or some that wait for the same job."""
        waiting = self._waiting
        if not waiting:
            return []
        # The other threads get their share of what waits.
        share = min(waiting[0].together, -(-len(waiting) // len(self._threads)))
        items = [waiting.popleft()]
        while waiting and len(items) < share and waiting[0].job == items[0].job:
            items.append(waiting.popleft())
        return items


class WorkerPool:
    """A fixed number of threads for interactive work, and as many for bulk work, behind one bound.

    threads: how many of either kind run at once.
    capacity: how much cost may wait or run at once; an item's cost is the texts it encodes.
    """

    def __init__(self, threads: int, capacity: int) -> None:
        self._capacity = capacity
        self._load = 0
        self._closed = False
        self._guard = threading.Lock()
        self._interactive = _Lane("worker", threads)
        self._bulk = _Lane("bulk", threads, _STEPS_BACK)

    @property
    def load(self) -> int:
        """Return the cost of what waits or runs."""
        return self._load

    async def ask(self, job: Job[_T, _R], item: _T, cost: int = 1) -> _R:
        """Return the outcome of `job` for `item`, perhaps run together with others that wait.

        Raises Overloaded, NotReady, or the error that befell it.
        """
        self._reserve(cost)
        try:
            return await _submit(self._interactive, job, item, TOGETHER)
        finally:
            self._release(cost)

    async def map_bulk(
        self, function: Callable[[_T], _R], items: Sequence[_T], cost: int
    ) -> list[_R]:
        """Return `function(item)` for each item, in order, made behind interactive work.

        cost: what all items together count against the capacity; with no more than
        `INTERACTIVE_TEXTS` it is interactive work itself.
        Raises Overloaded, NotReady, or the first error.
        """
        self._reserve(cost)
        lane = self._interactive if cost <= INTERACTIVE_TEXTS else self._bulk
        answers: list[asyncio.Future[_R]] = []
        try:

            def one(alone: Sequence[_T]) -> list[_R | Exception]:
                return [function(alone[0])]

            answers = [_submit(lane, one, item, 1) for item in items]
            return await asyncio.gather(*answers)
        finally:
            for answer in answers:
                answer.cancel()
            self._release(cost)

    def close(self) -> None:
        """Finish what waits, then stop."""
        with self._guard:
            self._closed = True
        lanes = (self._interactive, self._bulk)
        for lane in lanes:
            lane.close()
        for lane in lanes:
            lane.join()

    def _reserve(self, cost: int) -> None:
        """Count `cost` against the capacity; a request above all of it is let in when alone."""
        with self._guard:
            if self._closed:
                raise NotReady("the service is stopping")
            if self._load and self._load + cost > self._capacity:
                raise Overloaded(
                    f"{self._load} texts are waiting to be encoded, the limit is "
                    f"{self._capacity}; try again"
                )
            self._load += cost

    def _release(self, cost: int) -> None:
        with self._guard:
            self._load -= cost


def _submit(lane: _Lane, job: Job[_T, _R], argument: _T, together: int) -> asyncio.Future[_R]:
    answer: asyncio.Future[_R] = asyncio.get_running_loop().create_future()
    lane.put(_Item(job, argument, together, answer))
    return answer


def _run(items: list[_Item[Any, Any]]) -> None:
    """Run the items that somebody still waits for, and answer each in its event loop."""
    items = [item for item in items if not item.answer.cancelled()]
    if not items:
        return
    try:
        outcomes = items[0].job([item.argument for item in items])
    except Exception as error:  # noqa: BLE001 - it belongs to whoever waits
        outcomes = [error] * len(items)
    answers = [item.answer for item in items]
    try:
        answers[0].get_loop().call_soon_threadsafe(_settle, answers, outcomes)
    except RuntimeError:
        return  # the event loop has ended, and with it everyone who waited


def _settle(answers: Sequence[asyncio.Future[Any]], outcomes: Sequence[Any]) -> None:
    for answer, outcome in zip(answers, outcomes, strict=True):
        if answer.done():
            continue
        if isinstance(outcome, Exception):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)
