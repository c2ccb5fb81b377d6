"""One client that asks at fixed moments, whatever else goes on."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from benchmarks.load import DUPLICATES, LoadFailed


@dataclass(frozen=True, slots=True)
class Steady:
    """What a client that asks at fixed moments measured; milliseconds from the moment it was due.

    most: the longest. over_50: how many took more than 50 ms.
    late: the 99th percentile of how much later than it could the client itself sent a question;
    that is the machine's or the client's doing and is part of the latencies.
    """

    questions: int
    p50: float
    p99: float
    most: float
    late: float
    over_50: int


class Asking:
    """A thread that asks a question every so often while the `with` block lasts.

    A question that is due while another is being answered waits for it, and its latency counts from
    when it was due: a service that stands still for a second delays all questions of that second.
    """

    def __init__(self, port: int, questions: Iterator[str], rate: float) -> None:
        """Take a service's port, questions without end, and how many to ask a second."""
        self._port = port
        self._questions = questions
        self._interval = 1 / rate
        self._stopping = threading.Event()
        self._latencies: list[float] = []
        self._late: list[float] = []
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="asking", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def result(self) -> tuple[list[float], list[float]]:
        """Return latencies and how late each was sent, in seconds, once the block is left.

        Raises LoadFailed where a question was not answered as it should be.
        """
        if self._failure is not None:
            raise LoadFailed(f"a steady lookup failed: {self._failure}") from self._failure
        return self._latencies, self._late

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            due = free = time.perf_counter()
            while not self._stopping.wait(max(0.0, due - time.perf_counter())):
                content = json.dumps({"question": next(self._questions), "limit": 10}).encode()
                sent = time.perf_counter()
                self._ask(connection, content)
                self._late.append(sent - max(due, free))
                free = time.perf_counter()
                self._latencies.append(free - due)
                due += self._interval
        except Exception as error:  # noqa: BLE001 - it is raised where the result is asked for
            self._failure = error
        finally:
            connection.close()

    def _ask(self, connection: http.client.HTTPConnection, content: bytes) -> None:
        connection.request("POST", DUPLICATES, content, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200 or b'"matches"' not in body:
            raise LoadFailed(f"answered {answer.status}: {body[:200]!r}")


def summary(latencies: list[float], late: list[float]) -> Steady:
    """Return what latencies in seconds come to; all zero where nothing was asked."""
    if not latencies:
        return Steady(0, 0.0, 0.0, 0.0, 0.0, 0)
    taken = np.array(latencies) * 1e3
    p50, p99 = np.percentile(taken, [50, 99], method="inverted_cdf")
    lateness = np.percentile(np.array(late) * 1e3, 99, method="inverted_cdf")
    over = int(np.count_nonzero(taken > 50))
    return Steady(len(taken), float(p50), float(p99), float(taken.max()), float(lateness), over)
