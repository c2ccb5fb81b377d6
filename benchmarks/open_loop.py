"""An open loop: requests are sent when they are due, however long earlier ones take.

A closed loop asks less of a server that stalls, and so hides the stall. Here each request is due at
a moment drawn before the run, and its latency counts from then: those that a stall held up count
with all of their waiting, whether they waited in the server or in the generator.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import uvloop
from numpy.typing import NDArray

from benchmarks.load import Connection, LoadFailed, good_statuses

GRACE_SECONDS = 10.0
MOST_WAITING = 2_000
# A server closes connections that nobody uses for a while (uvicorn: 5 s). One that may just be
# closing is not used again.
_IDLE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Opened:
    """What an open loop measured.

    answers: in the order of the requests, empty where none came in time.
    latencies: (n,) float64, seconds from when a request was due to the last byte of its answer; to
    the end of the run where there was none, which is less than it would have been; NaN for one that
    was not due yet when the run was given up.
    late: (n,) float64, seconds from when a request was due to when it was written.
    kept_up: whether every request was answered, within the grace after the last one was due.
    seconds: from the start of the schedule to the end. cpu_seconds: the generator's, of one core.
    """

    answers: list[bytes]
    latencies: NDArray[np.float64]
    late: NDArray[np.float64]
    kept_up: bool
    seconds: float
    cpu_seconds: float

    def percentile(self, percent: float) -> float:
        """Return the latency, in milliseconds, that this percentage of requests did not exceed."""
        return float(np.nanpercentile(self.latencies, percent, method="inverted_cdf")) * 1e3


def schedule(count: int, rate: float, seed: int) -> NDArray[np.float64]:
    """Return when each of `count` requests is due, (count,) float64, in seconds from the start.

    A Poisson process of `rate` a second: independent users. The same seed gives the same moments.
    """
    gaps = np.random.default_rng(seed).exponential(1 / rate, count)
    return np.cumsum(gaps)


def send_when_due(
    port: int,
    operations: Sequence[Sequence[bytes]],
    due: NDArray[np.float64],
    *,
    statuses: Sequence[int] = (200,),
    grace: float = GRACE_SECONDS,
    most_waiting: int = MOST_WAITING,
) -> Opened:
    """Return the answers to `operations`, each begun when it is due, over as many connections.

    due: (n,) seconds from the start, rising. grace: seconds after the last one is due, in which
    all have to be answered. most_waiting: with more requests begun and not answered the run ends,
    as one that did not keep up.
    Raises LoadFailed at the first request that is answered with none of `statuses`.
    """
    run = _Open(port, operations, due, statuses, most_waiting)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run.perform(grace))


class _Open:
    """One run. Free connections are used again, the latest first."""

    def __init__(
        self,
        port: int,
        operations: Sequence[Sequence[bytes]],
        due: NDArray[np.float64],
        statuses: Sequence[int],
        most_waiting: int,
    ) -> None:
        self.good = good_statuses(statuses)
        self._port = port
        self._operations = operations
        self._due = due.tolist()
        self._most_waiting = most_waiting
        self._answers: list[bytes] = [b""] * len(operations)
        self._ended = np.full(len(operations), np.nan)
        self._sent = np.full(len(operations), np.nan)
        self._free: deque[tuple[float, Connection]] = deque()
        self._all: set[Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._begun = self._answered = 0
        self._start = 0.0
        self._stop = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._done: asyncio.Future[bool]

    async def perform(self, grace: float) -> Opened:
        self._loop = asyncio.get_running_loop()
        self._done = self._loop.create_future()
        # A thread sleeps to some 60 µs; the loop's own timers to a millisecond, which would count.
        pacer = threading.Thread(target=self._pace, daemon=True)
        cpu = time.process_time()
        self._start = time.perf_counter()
        pacer.start()
        try:
            async with asyncio.timeout(self._due[-1] + grace):
                kept_up = await self._done
        except TimeoutError:
            kept_up = False
        finally:
            self._stop.set()
            for task in self._connecting:
                task.cancel()
            for connection in list(self._all):
                connection.close()
        seconds = time.perf_counter() - self._start
        pacer.join()
        due = np.array(self._due)
        ended = np.where(np.isnan(self._ended), seconds, self._ended)
        sent = np.where(np.isnan(self._sent), seconds, self._sent)
        return Opened(
            self._answers,
            np.where(due <= seconds, np.maximum(ended - due, 0.0), np.nan),
            np.where(due <= seconds, np.maximum(sent - due, 0.0), np.nan),
            kept_up,
            seconds,
            time.process_time() - cpu,
        )

    def fail(self, reason: str) -> None:
        if not self._done.done():
            self._done.set_exception(LoadFailed(reason))

    def over(self, connection: Connection, place: int, answer: bytes) -> None:
        now = time.perf_counter()
        self._answers[place] = answer
        self._ended[place] = now - self._start
        self._answered += 1
        self._free.append((now, connection))
        if self._answered == len(self._operations) and not self._done.done():
            self._done.set_result(True)

    def lost(self, connection: Connection) -> None:
        self._all.discard(connection)
        self._free = deque(entry for entry in self._free if entry[1] is not connection)

    def _pace(self) -> None:
        """Say of each request that it is due, in a thread of its own."""
        for place, due in enumerate(self._due):
            wait = self._start + due - time.perf_counter()
            if self._stop.wait(0) or (wait > 0 and self._stop.wait(wait)):
                return
            try:
                self._loop.call_soon_threadsafe(self._begin, place)
            except RuntimeError:  # the loop is closed: the run is over
                return

    def _begin(self, place: int) -> None:
        if self._done.done():
            return
        self._begun += 1
        if self._begun - self._answered > self._most_waiting:
            self._done.set_result(False)
            return
        while self._free:
            since, connection = self._free.pop()
            if time.perf_counter() - since < _IDLE_SECONDS:
                self._send(connection, place)
                return
            self._all.discard(connection)
            connection.close()
        task = self._loop.create_task(self._connect(place))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, place: int) -> None:
        try:
            _, connection = await self._loop.create_connection(
                lambda: Connection(self), "127.0.0.1", self._port
            )
        except OSError as error:
            self.fail(f"no connection to port {self._port}: {error}")
            return
        self._all.add(connection)
        self._send(connection, place)

    def _send(self, connection: Connection, place: int) -> None:
        self._sent[place] = time.perf_counter() - self._start
        connection.send(place, self._operations[place])
