"""The systems that are not asked over HTTP: Chroma with its client, and the floor."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.floor import Floor
from benchmarks.load import Load, LoadFailed
from benchmarks.open_loop import GRACE_SECONDS, Opened, schedule
from benchmarks.program import Program, programs
from benchmarks.service import Service, free_port, running
from benchmarks.systems import Anchor, LabelledQuestion, parts_of, weights_of

# Threads of an open loop: as many as FastAPI's own pool has, which the other peers answer from.
POOL = 40


class Chroma:
    """Chroma's server, and a client that encodes: both count, for both are needed."""

    name = "chroma"
    persists = True
    most_registering = 32

    def __init__(self, service: Service, client: Program) -> None:
        self._both = (service, client)
        self._client = client
        client.call(do="connect")

    def ask(self, questions: Sequence[str], clients: int) -> Load:
        """Return what looking up questions measured, in a closed loop."""
        return _load(
            self._client.call(do="ask", questions=[[text] for text in questions], clients=clients)
        )

    def ask_labelled(self, questions: Sequence[LabelledQuestion]) -> Load:
        """Return what looking up among the anchors of a label measured, by one client."""
        asked = [[one.question] for one in questions]
        labels = [one.label for one in questions]
        return _load(self._client.call(do="ask", questions=asked, clients=1, labels=labels))

    def ask_when_due(self, questions: Sequence[str], rate: float, seed: int) -> Opened:
        """Return what looking up `rate` a second measured, by a pool of threads."""
        due = schedule(len(questions), rate, seed)
        answer = self._client.call(
            do="ask_when_due",
            questions=[[text] for text in questions],
            due=due.tolist(),
            clients=POOL,
            grace=GRACE_SECONDS,
        )
        return Opened(
            [one.encode() for one in answer["answers"]],
            np.maximum(np.array(answer["ended"]) - due, 0.0),
            np.maximum(np.array(answer["sent"]) - due, 0.0),
            answer["kept_up"],
            answer["seconds"],
            0.0,
        )

    def ask_batches(self, questions: Sequence[str], size: int) -> Load:
        """Return what looking up `size` a query measured, by one client."""
        parts = [list(part) for part in parts_of(questions, size)]
        return _load(self._client.call(do="ask", questions=parts, clients=1))

    def register(self, anchors: Sequence[Anchor], clients: int, size: int) -> Load:
        """Return what registering `size` a request measured."""
        parts = parts_of(anchors, size)
        return _load(self._client.call(do="register", batches=parts, clients=clients))

    def texts(self, answer: bytes) -> list[list[str]]:
        """Return the texts that an answer holds, the best first, for each of its questions."""
        found: list[list[str]] = json.loads(answer)
        return found

    def cpu_seconds(self) -> float:
        """Return the processor time of server and client."""
        return sum(one.cpu_seconds() for one in self._both)

    def rss(self) -> int:
        """Return the memory of server and client, in bytes."""
        return sum(one.rss() for one in self._both)

    def pause(self) -> None:
        """Stop both from running, until `resume`."""
        for one in self._both:
            one.pause()

    def resume(self) -> None:
        """Let both run again."""
        for one in self._both:
            one.resume()


class BareCalls:
    """The floor as a system: it answers single questions, and there is nothing to register."""

    name = "floor"
    persists = False
    most_registering = 0

    def __init__(self, workers: Floor) -> None:
        self._workers = workers
        self.cpu_seconds = workers.cpu_seconds
        self.rss = workers.rss
        self.pause = workers.pause
        self.resume = workers.resume

    def ask(self, questions: Sequence[str], clients: int) -> Load:
        """Return what all workers do together, or one of them for one client."""
        return self._workers.ask(questions, 1 if clients == 1 else None)

    def ask_labelled(self, questions: Sequence[LabelledQuestion]) -> Load:
        """Return what one worker does among the anchors of a label."""
        asked = [one.question for one in questions]
        return self._workers.ask(asked, 1, [one.label for one in questions])

    def ask_when_due(self, questions: Sequence[str], rate: float, seed: int) -> None:
        """Return None: a loop has no queue."""

    def ask_batches(self, questions: Sequence[str], size: int) -> None:
        """Return None: a loop has no requests."""

    def register(self, anchors: Sequence[Anchor], clients: int, size: int) -> Load:
        """Raise LoadFailed: nothing is registered here."""
        del anchors, clients, size
        raise LoadFailed("the floor registers nothing")

    def texts(self, answer: bytes) -> list[list[str]]:
        """Return the texts of an answer, the best first."""
        return [json.loads(answer)]


@contextmanager
def chroma(folder: Path, python: Path) -> Iterator[Chroma]:
    """Start Chroma's server on a folder, and its client beside it. python: of the peers."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    quiet = {"HF_HUB_OFFLINE": "1", "ANONYMIZED_TELEMETRY": "false", "CHROMA_TELEMETRY": "false"}
    quiet["TOKENIZERS_PARALLELISM"] = "false"
    client = [str(python), "-m", "benchmarks.peers.chroma_client", "--port", str(port)]
    client += ["--model", weights_of(python)]
    server = [str(python.with_name("chroma")), "run", "--path", str(folder / "chroma")]
    server += ["--host", "127.0.0.1", "--port", str(port)]
    with (
        programs(client, folder / "chroma-client.log", 1, quiet) as (program,),
        running(server, port, folder / "chroma.log", quiet, "/api/v2/heartbeat") as service,
    ):
        yield Chroma(service, program)


def _load(answer: dict[str, Any]) -> Load:
    """Return a program's measurement. Its processor time is the system's, not the generator's."""
    answers = [one.encode() for one in answer["answers"]]
    return Load(answers, np.array(answer["latencies"]), answer["seconds"], 0.0)
