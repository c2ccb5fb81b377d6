"""Threads for the work that must not hold up the event loop.

Encoding and searching release the interpreter lock, so as many threads as cores run them truly side
by side. What waits is bounded, interactive work goes before bulk work, and work whose client has
gone is dropped unstarted.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from app.domain.errors import NotReady, Overloaded

# Bulk work gets at least one turn in so many, or a busy hour of lookups would starve an import.
INTERACTIVE_RUN = 8

_T = TypeVar("_T")
_Job = tuple[Callable[..., Any], tuple[Any, ...], Future[Any]]


class WorkerPool:
    """A fixed number of threads behind a bounded queue with two lanes.

    threads: how many run at once.
    capacity: how much cost may wait or run at once; a job's cost is the texts it encodes.
    """

    def __init__(self, threads: int, capacity: int) -> None:
        self._capacity = capacity
        self._load = 0
        self._interactive: deque[_Job] = deque()
        self._bulk: deque[_Job] = deque()
        self._streak = 0
        self._closed = False
        self._wake = threading.Condition(threading.Lock())
        self._threads = [
            threading.Thread(target=self._work, name=f"deja-worker-{number}")
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def threads(self) -> int:
        """Return how many jobs run at once."""
        return len(self._threads)

    @property
    def load(self) -> int:
        """Return the cost of what waits or runs."""
        return self._load

    def reserve(self, cost: int) -> None:
        """Count `cost` against the capacity; `release` gives it back.

        A request larger than the whole capacity is let in when nothing else is.
        Raises Overloaded or NotReady.
        """
        with self._wake:
            if self._closed:
                raise NotReady("the service is stopping")
            if self._load and self._load + cost > self._capacity:
                raise Overloaded(
                    f"{self._load} texts are waiting to be encoded, the limit is "
                    f"{self._capacity}; try again"
                )
            self._load += cost

    def release(self, cost: int) -> None:
        """Give back what `reserve` took."""
        with self._wake:
            self._load -= cost

    def submit(self, job: Callable[..., _T], *arguments: Any, bulk: bool = False) -> Future[_T]:
        """Return the future result of `job(*arguments)`. Raises NotReady when closed."""
        future: Future[_T] = Future()
        with self._wake:
            if self._closed:
                raise NotReady("the service is stopping")
            (self._bulk if bulk else self._interactive).append((job, arguments, future))
            self._wake.notify()
        return future

    async def run(self, job: Callable[..., _T], *arguments: Any) -> _T:
        """Return `job(*arguments)`, run in a worker. Raises Overloaded or NotReady."""
        self.reserve(1)
        try:
            return await asyncio.wrap_future(self.submit(job, *arguments))
        finally:
            self.release(1)

    async def map_bulk(self, job: Callable[[Any], _T], parts: list[Any], cost: int) -> list[_T]:
        """Return `job(part)` for each part, in order, behind interactive work.

        cost: what all parts together count against the capacity.
        Raises Overloaded or NotReady.
        """
        self.reserve(cost)
        futures: list[Future[_T]] = []
        try:
            futures = [self.submit(job, part, bulk=True) for part in parts]
            return [await asyncio.wrap_future(future) for future in futures]
        finally:
            for future in futures:
                future.cancel()
            self.release(cost)

    def close(self) -> None:
        """Finish what waits, then stop."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join()

    def _next(self) -> _Job | None:
        with self._wake:
            while not self._interactive and not self._bulk:
                if self._closed:
                    return None
                self._wake.wait()
            if self._bulk and (not self._interactive or self._streak >= INTERACTIVE_RUN):
                self._streak = 0
                return self._bulk.popleft()
            self._streak += 1
            return self._interactive.popleft()

    def _work(self) -> None:
        while (taken := self._next()) is not None:
            job, arguments, future = taken
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(job(*arguments))
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
                future.set_exception(error)
            # Kept alive by these names, a request's texts would outlive it until the next job.
            del taken, job, arguments, future
