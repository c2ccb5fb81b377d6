"""What the process of the service takes: memory, disk, and the time until it is ready."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.growth.anchors import BATCH, body
from benchmarks.load import DUPLICATES, ask, post
from benchmarks.main_job import ANCHORS, expect_anchors
from benchmarks.service import Service, deja, folder_bytes


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory and disk, in bytes.

    rss: resident. anonymous: the part of it that is no file. peak: the most resident since the
    start of the process. database, index: the files of the data folder.
    """

    rss: int
    anonymous: int
    peak: int
    database: int
    index: int


@dataclass(frozen=True, slots=True)
class Restarts:
    """Seconds from the start of a process to its first 200 on /readyz, and what it then holds.

    after_kill: after a `kill -9` that came right after 1,000 anchors were registered anew.
    first_answer: milliseconds that the first lookup took, after each of all starts.
    rss: resident bytes after the last start, one lookup made.
    """

    after_stop: list[float]
    after_kill: list[float]
    first_answer: list[float]
    rss: int

    def stop_median(self) -> float:
        """Return the median of the starts after a stop, in seconds."""
        return statistics.median(self.after_stop)


def memory(service: Service, data: Path) -> Memory:
    """Return what a service holds now. data: its data folder."""
    status = Path(f"/proc/{service.process.pid}/status").read_text(encoding="utf-8")
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    kib = {name: int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "RssAnon", "VmHWM")}
    return Memory(
        rss=kib["VmRSS"],
        anonymous=kib["RssAnon"],
        peak=kib["VmHWM"],
        database=sum(path.stat().st_size for path in data.glob("deja.db*")),
        index=folder_bytes(data / "index"),
    )


def empty(folder: Path, questions: Sequence[str]) -> tuple[Memory, float]:
    """Return what a service without anchors holds, and the seconds until it was ready.

    It has answered questions, so what encoding them takes counts as its own.
    folder: an empty one, for its data.
    """
    with deja(folder / "data") as service:
        bodies = [json.dumps({"question": text}).encode() for text in questions]
        post(service.port, DUPLICATES, bodies, clients=32)
        service.wait_idle()
        return memory(service, folder / "data"), service.ready_seconds


def restarts(
    data: Path, held: Sequence[str], count: int, questions: Sequence[str], rounds: int
) -> Restarts:
    """Return how long starts take on a data folder of `count` anchors; it has no process now.

    held: the texts of the anchors. questions: two a round, not asked before.
    Raises LoadFailed where an anchor is lost.
    """
    after_stop: list[float] = []
    after_kill: list[float] = []
    first: list[float] = []
    asked = iter(questions)
    rss = 0
    for number in range(rounds):
        with deja(data) as service:
            after_stop.append(service.ready_seconds)
            first.append(ask(service.port, [next(asked)], clients=1).percentile(50))
            expect_anchors(service, count)
            again = body(held, max(0, count - BATCH), count, touched=number)
            post(service.port, ANCHORS, [again], clients=1)
            service.kill()
        with deja(data) as service:
            after_kill.append(service.ready_seconds)
            first.append(ask(service.port, [next(asked)], clients=1).percentile(50))
            expect_anchors(service, count)
            rss = memory(service, data).rss
            service.wait_idle(timeout=3600)
    return Restarts(after_stop, after_kill, first, rss)
