"""Clients that race: each sends its next request when the last one is answered."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from benchmarks.race_texts import Try

ANCHORS = "/v1/collections/default/anchors"
RETRY_SECONDS = 0.05
PATIENCE_SECONDS = 120.0


class BadAnswer(Exception):
    """A request was answered as none may be."""


@dataclass(slots=True)
class Outcome:
    """What became of all requests.

    statuses: how often each came. created: the ids that answers said were created.
    refused: texts that answers said have a duplicate which is stored.
    lost: requests whose connection broke, and which were sent again.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    created: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    lost: int = 0
    seconds: float = 0.0


def race(
    tries: Sequence[Try],
    clients: int,
    port: Callable[[], int],
    answered: Callable[[int], None] = lambda _count: None,
) -> Outcome:
    """Send every request until it is answered.

    port: where the service listens now; it may be another after a kill.
    answered: told, one call at a time, how many are answered.
    Raises BadAnswer.
    """
    run = _Race(tries, port, answered)
    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        for running in [pool.submit(run.client) for _ in range(clients)]:
            running.result()
    run.outcome.seconds = time.perf_counter() - started
    return run.outcome


class _Race:
    """What is left to send, and what came back."""

    def __init__(
        self, tries: Sequence[Try], port: Callable[[], int], answered: Callable[[int], None]
    ) -> None:
        self.outcome = Outcome()
        self._waiting = iter(tries)
        self._port = port
        self._answered = answered
        self._guard = threading.Lock()
        self._failed = False

    def client(self) -> None:
        """Send one request after another while there are any."""
        line = _Line(self._port)
        try:
            while not self._failed and (one := self._next()) is not None:
                status, answer = self._send(line, one)
                with self._guard:
                    created, refused = _read(status, answer, one)
                    self.outcome.statuses[status] += 1
                    self.outcome.created += created
                    self.outcome.refused += refused
                    self._answered(self.outcome.statuses.total())
        except BaseException:
            self._failed = True
            raise
        finally:
            line.close()

    def _next(self) -> Try | None:
        with self._guard:
            return next(self._waiting, None)

    def _send(self, line: _Line, one: Try) -> tuple[int, dict[str, Any]]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        lost = 0
        while True:
            try:
                return line.post(json.dumps(one.body()))
            except (OSError, http.client.HTTPException) as error:
                line.close()
                lost += 1
                with self._guard:
                    self.outcome.lost += lost == 1
                if self._failed or time.monotonic() > deadline:
                    raise BadAnswer(f"nothing answers: {error}") from error
                time.sleep(RETRY_SECONDS)


class _Line:
    """A connection that stays open, and is made anew after it broke."""

    def __init__(self, port: Callable[[], int]) -> None:
        self._port = port
        self._connection: http.client.HTTPConnection | None = None

    def post(self, body: str) -> tuple[int, dict[str, Any]]:
        """Return the status and the answer to a request to register."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port(), timeout=60)
        self._connection.request("POST", ANCHORS, body, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _read(status: int, answer: dict[str, Any], one: Try) -> tuple[list[str], list[str]]:
    """Return what an answer says was created, and which texts were refused. Raises BadAnswer."""
    if status == 409 and one.mode == "reject" and answer["type"] == "urn:deja:problem:duplicates":
        # Of several, one may only duplicate another of the same request, which is not stored.
        return [], list(one.texts) if len(one.texts) == 1 else []
    if status not in (200, 201):
        raise BadAnswer(f"{status} to {one}: {answer}")
    results = answer["results"]
    created = [result["id"] for result in results if result["status"] == "created"]
    refused = [
        text
        for text, result in zip(one.texts, results, strict=True)
        if result["status"] == "skipped"
    ]
    whole = len(results) == len(created) + len(refused)
    if not whole or (status == 201) != bool(created) or (one.mode == "reject" and refused):
        raise BadAnswer(f"{status} to {one}: {answer}")
    return created, refused
