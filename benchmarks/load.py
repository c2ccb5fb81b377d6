"""A lean HTTP load: every request once, over connections that stay open, in a closed loop.

The generator shares the processor with what it measures. So a request is one write and, most
often, one read, without an HTTP library, and what the generator itself took is part of the result.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import uvloop
from numpy.typing import NDArray

DUPLICATES = "/v1/collections/default/duplicates"

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


class LoadFailed(Exception):
    """A request was not answered as it should be; nothing measured with it counts."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a run measured.

    answers: the bodies of the answers, in the order of the requests.
    latencies: (n,) float64, seconds from the write of a request to the last byte of its answer, in
    the order of the requests; of an operation's first request to its last answer.
    seconds: from the first request to the last answer, wall clock.
    cpu_seconds: what the generator itself took of one core.
    """

    answers: list[bytes]
    latencies: NDArray[np.float64]
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Return requests a second."""
        return len(self.answers) / self.seconds

    def percentile(self, percent: float) -> float:
        """Return the latency, in milliseconds, that this percentage of requests did not exceed."""
        return float(np.percentile(self.latencies, percent, method="inverted_cdf")) * 1e3


def post(
    port: int,
    path: str,
    bodies: Sequence[bytes],
    *,
    clients: int,
    statuses: Sequence[int] = (200,),
    timeout: float = 900.0,
) -> Load:
    """Return the answers to `bodies`, each sent once as JSON to a server on the loopback.

    clients: how many connections; each sends its next request once the last one is answered.
    statuses: those that are no failure. timeout: seconds for all of it.
    Raises LoadFailed at the first request that is not answered with one of `statuses`.
    """
    operations = [(post_request(port, path, body),) for body in bodies]
    return send(port, operations, clients=clients, statuses=statuses, timeout=timeout)


def send(
    port: int,
    operations: Sequence[Sequence[bytes]],
    *,
    clients: int,
    statuses: Sequence[int] = (200,),
    timeout: float = 900.0,
) -> Load:
    """Return the last answers of `operations`, each some requests that one client sends in turn.

    clients: how many connections; each starts its next operation once the last one is over.
    statuses: those that are no failure. timeout: seconds for all of it.
    Raises LoadFailed at the first request that is not answered with one of `statuses`.
    """
    run = _Closed(operations, good_statuses(statuses))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run.perform(port, min(clients, len(operations)), timeout))


def post_request(port: int, path: str, body: bytes) -> bytes:
    """Return the bytes of a POST of JSON."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}"
    )
    return head.encode() + _HEAD_END + body


def get_request(port: int, path: str) -> bytes:
    """Return the bytes of a GET."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}".encode() + _HEAD_END


def good_statuses(statuses: Sequence[int]) -> tuple[bytes, ...]:
    """Return how answers with these statuses begin."""
    return tuple(b"HTTP/1.1 %d " % status for status in statuses)


def ask(port: int, questions: Sequence[str], *, clients: int, path: str = DUPLICATES) -> Load:
    """Return what looking up `questions` measured. Raises LoadFailed if one has no match."""
    bodies = [json.dumps({"question": text, "limit": 10}).encode() for text in questions]
    load = post(port, path, bodies, clients=clients)
    for answer in load.answers:
        matches_of(answer)
    return load


def matches_of(answer: bytes) -> list[dict[str, Any]]:
    """Return the matches of an answer, the best first. Raises LoadFailed where it has none."""
    try:
        matches: list[dict[str, Any]] = json.loads(answer)["matches"]
    except (ValueError, KeyError, TypeError) as error:
        raise LoadFailed(f"not an answer with matches: {answer[:200]!r}") from error
    if not matches:
        raise LoadFailed(f"an answer without a match: {answer[:200]!r}")
    return matches


class Run(Protocol):
    """What a connection reports to. good: how an answer begins that is no failure."""

    good: tuple[bytes, ...]

    def fail(self, reason: str) -> None:
        """Take a failure, which ends the run."""

    def over(self, connection: Connection, place: int, answer: bytes) -> None:
        """Take the last answer to an operation; the connection is free again."""

    def lost(self, connection: Connection) -> None:
        """Take that a free connection was closed."""


class _Closed:
    """A closed loop: what is left to send, and what has come back."""

    def __init__(self, operations: Sequence[Sequence[bytes]], good: tuple[bytes, ...]) -> None:
        self.operations = operations
        self.good = good
        self.answers: list[bytes] = [b""] * len(operations)
        self.latencies = [0.0] * len(operations)
        self.started = 0
        self.answered = 0
        self.done: asyncio.Future[None]

    async def perform(self, port: int, clients: int, limit: float) -> Load:
        loop = asyncio.get_running_loop()
        self.done = loop.create_future()
        connections: list[Connection] = []
        try:
            async with asyncio.timeout(limit):
                for _ in range(clients):
                    _, connection = await loop.create_connection(
                        lambda: Connection(self), "127.0.0.1", port
                    )
                    connections.append(connection)
                cpu, started = time.process_time(), time.perf_counter()
                for connection in connections:
                    self._next(connection)
                await self.done
                seconds = time.perf_counter() - started
                cpu = time.process_time() - cpu
        except TimeoutError:
            count = f"{self.answered} of {len(self.operations)} requests"
            raise LoadFailed(f"only {count} answered within {limit:.0f} s") from None
        except OSError as error:
            raise LoadFailed(f"no connection to port {port}: {error}") from error
        finally:
            for connection in connections:
                connection.close()
        return Load(self.answers, np.array(self.latencies), seconds, cpu)

    def fail(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(LoadFailed(reason))

    def over(self, connection: Connection, place: int, answer: bytes) -> None:
        self.answers[place] = answer
        self.latencies[place] = time.perf_counter() - connection.started
        self.answered += 1
        if self.answered < len(self.operations):
            self._next(connection)
        elif not self.done.done():
            self.done.set_result(None)

    def lost(self, connection: Connection) -> None:
        """Let it go: a client without work may be hung up on."""

    def _next(self, connection: Connection) -> None:
        if self.started < len(self.operations):
            self.started += 1
            connection.send(self.started - 1, self.operations[self.started - 1])


class Connection(asyncio.Protocol):
    """One client of a run: one operation at a time. started: when it began, perf_counter."""

    def __init__(self, run: Run) -> None:
        self.started = 0.0
        self._run = run
        self._transport: asyncio.Transport
        self._place = -1
        self._left: list[bytes] = []  # of the operation, the last first
        self._received = b""
        self._end = -1  # where the answer that is being received ends, -1 before that is known

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what to write to."""
        self._transport = transport  # type: ignore[assignment]  # create_connection makes this kind

    def send(self, place: int, operation: Sequence[bytes]) -> None:
        """Begin an operation. place: what `Run.over` will be told with its answer."""
        self._place = place
        self._left = list(operation[:0:-1])
        self.started = time.perf_counter()
        self._transport.write(operation[0])

    def data_received(self, data: bytes) -> None:
        """Take a piece of an answer; go on once it is whole."""
        self._received = received = self._received + data if self._received else data
        if self._end < 0 and not self._read_head():
            return
        if len(received) < self._end:
            return
        body = received[received.index(_HEAD_END) + len(_HEAD_END) : self._end]
        self._received = received[self._end :]
        self._end = -1
        if not received.startswith(self._run.good):
            status = received[:12].decode("latin-1")
            text = body[:300].decode("utf-8", "replace")
            self._run.fail(f"request {self._place} was answered {status}: {text}")
        elif self._received:
            self._run.fail(f"more than an answer came to request {self._place}")
        elif self._left:
            self._transport.write(self._left.pop())
        else:
            place, self._place = self._place, -1
            self._run.over(self, place, body)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the run where an answer is missing."""
        if self._place >= 0:
            reason = f" ({exc})" if exc else ""
            self._run.fail(f"request {self._place}: the connection was closed{reason}")
        else:
            self._run.lost(self)

    def close(self) -> None:
        """Hang up; nothing more is reported."""
        self._place = -1
        self._transport.close()

    def _read_head(self) -> bool:
        """Return whether the end of the answer is known now."""
        head, found, _ = self._received.partition(_HEAD_END)
        if not found:
            return False
        _, said, rest = head.lower().partition(_LENGTH)
        if not said:
            self._run.fail(f"request {self._place}: an answer without Content-Length")
            return False
        self._end = len(head) + len(_HEAD_END) + int(rest.partition(b"\r")[0])
        return True
