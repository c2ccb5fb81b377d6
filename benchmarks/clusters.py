"""A clusters job on real texts: how long it takes, and what lookups notice of it.

    python -m benchmarks.clusters --data ../shared/data --anchors 100000

A real service process on the loopback, with its own settings and a temporary data folder, is given
texts of `ballast`. Then rounds of lookups by one client, in turns without a job and while one runs;
the ratio of their medians is what a job costs those who wait. At last a job alone, for its time.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import texts
from benchmarks.load import LoadFailed, ask, post
from benchmarks.race_clients import ANCHORS
from benchmarks.service import Service, ServiceFailed, deja, get

ROUNDS = 5
QUESTIONS = 200  # a round
BATCH = 1_000


def measure(data: Path, anchors: int, folder: Path) -> None:
    """Print what a job took and what it cost. Raises LoadFailed, ServiceFailed."""
    drawn = texts.ballast(data, anchors + 2 * ROUNDS * QUESTIONS)
    held, questions = drawn[:anchors], drawn[anchors:]
    with deja(folder / "data") as service:
        bodies = [
            json.dumps(
                {"anchors": [{"text": text} for text in held[start : start + BATCH]]}
            ).encode()
            for start in range(0, anchors, BATCH)
        ]
        post(service.port, ANCHORS, bodies, clients=2, statuses=(201,), timeout=7200)
        service.wait_idle(timeout=7200)
        alone, beside = [], []
        for number in range(ROUNDS):
            part = questions[2 * number * QUESTIONS : 2 * (number + 1) * QUESTIONS]
            alone.append(ask(service.port, part[:QUESTIONS], clients=1).percentile(50))
            job = _start(service.port)
            _until(service.port, job, "searching")
            beside.append(ask(service.port, part[QUESTIONS:], clients=1).percentile(50))
            state = _job(service.port, job)["state"]
            if state != "running":
                raise LoadFailed(f"the job was {state} before the lookups were; give more anchors")
            _delete(service.port, job)
        ratios = [during / before for before, during in zip(alone, beside, strict=True)]
        print(
            f"lookup p50     alone {statistics.median(alone):.2f} ms, beside a job "
            f"{statistics.median(beside):.2f} ms; ratio {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f} in {ROUNDS} rounds)"
        )
        _alone(service)


def _alone(service: Service) -> None:
    cpu, rss = service.cpu_seconds(), service.rss()
    started = time.perf_counter()
    done = _until(service.port, _start(service.port), "")
    seconds = time.perf_counter() - started
    summary = done["summary"]
    print(
        f"job            {summary['anchors']:,} anchors in {seconds:.1f} s, "
        f"{service.cpu_seconds() - cpu:.1f} s of processor time: {summary['groups']:,} groups, "
        f"{summary['duplicates']:,} duplicates; memory {rss / 2**20:.0f} MiB before, "
        f"{service.peak_rss() / 2**20:.0f} MiB at most"
    )


def _start(port: int) -> str:
    return str(_request(port, "POST", "/v1/collections/default/clusters")["id"])


def _job(port: int, job: str) -> dict[str, Any]:
    _, answer = get(port, f"/v1/jobs/{job}")
    found: dict[str, Any] = json.loads(answer)
    return found


def _until(port: int, job: str, step: str) -> dict[str, Any]:
    """Wait until a job is at a step, or has ended."""
    while True:
        found = _job(port, job)
        if found["state"] not in ("queued", "running") or found["progress"]["step"] == step:
            return found
        time.sleep(0.02)


def _delete(port: int, job: str) -> None:
    _request(port, "DELETE", f"/v1/jobs/{job}")


def _request(port: int, method: str, path: str) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path)
        answer = connection.getresponse().read()
    finally:
        connection.close()
    found: dict[str, Any] = json.loads(answer) if answer else {}
    return found


def main() -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--anchors", type=int, default=100_000)
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="deja-clusters-") as folder:
            measure(options.data, options.anchors, Path(folder))
    except (LoadFailed, ServiceFailed) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
