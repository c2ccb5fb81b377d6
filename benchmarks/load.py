"""A lean HTTP load: every body once, over connections that stay open, in a closed loop.

The generator shares the processor with what it measures. So a request is one write and, most
often, one read, without an HTTP library, and what the generator itself took is part of the result.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
    the order of the requests.
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
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        "Content-Type: application/json\r\nContent-Length: "
    ).encode()
    requests = [b"%b%d%b%b" % (head, len(body), _HEAD_END, body) for body in bodies]
    run = _Run(requests, tuple(b"HTTP/1.1 %d " % status for status in statuses))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run.perform(port, min(clients, len(requests)), timeout))


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


class _Run:
    """One run: what is left to send, and what has come back."""

    def __init__(self, requests: Sequence[bytes], good: tuple[bytes, ...]) -> None:
        self.requests = requests
        self.good = good
        self.answers: list[bytes] = [b""] * len(requests)
        self.latencies = [0.0] * len(requests)
        self.sent = 0
        self.answered = 0
        self.done: asyncio.Future[None]

    async def perform(self, port: int, clients: int, limit: float) -> Load:
        loop = asyncio.get_running_loop()
        self.done = loop.create_future()
        connections: list[_Connection] = []
        try:
            async with asyncio.timeout(limit):
                for _ in range(clients):
                    _, connection = await loop.create_connection(
                        lambda: _Connection(self), "127.0.0.1", port
                    )
                    connections.append(connection)
                cpu, started = time.process_time(), time.perf_counter()
                for connection in connections:
                    connection.send_next()
                await self.done
                seconds = time.perf_counter() - started
                cpu = time.process_time() - cpu
        except TimeoutError:
            count = f"{self.answered} of {len(self.requests)} requests"
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

    def note(self, place: int, answer: bytes, latency: float) -> None:
        self.answers[place] = answer
        self.latencies[place] = latency
        self.answered += 1
        if self.answered == len(self.requests) and not self.done.done():
            self.done.set_result(None)


class _Connection(asyncio.Protocol):
    """One client of a run: one request at a time."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._transport: asyncio.Transport
        self._place = -1
        self._started = 0.0
        self._received = b""
        self._end = -1  # where the answer that is being received ends, -1 before that is known

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # create_connection makes this kind

    def send_next(self) -> None:
        run = self._run
        self._place = run.sent
        if self._place == len(run.requests):
            self._place = -1
            return
        run.sent += 1
        self._started = time.perf_counter()
        self._transport.write(run.requests[self._place])

    def data_received(self, data: bytes) -> None:
        self._received = received = self._received + data if self._received else data
        if self._end < 0 and not self._read_head():
            return
        if len(received) < self._end:
            return
        latency = time.perf_counter() - self._started
        body = received[received.index(_HEAD_END) + len(_HEAD_END) : self._end]
        self._received = received[self._end :]
        self._end = -1
        if not received.startswith(self._run.good):
            status = received[:12].decode("latin-1")
            text = body[:300].decode("utf-8", "replace")
            self._run.fail(f"request {self._place} was answered {status}: {text}")
        elif self._received:
            self._run.fail(f"more than an answer came to request {self._place}")
        else:
            self._run.note(self._place, body, latency)
            self.send_next()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._place >= 0:
            reason = f" ({exc})" if exc else ""
            self._run.fail(f"request {self._place}: the connection was closed{reason}")

    def close(self) -> None:
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
