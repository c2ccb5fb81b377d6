"""Jobs outlive the process that took them."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.e2e.conftest import Process, Start

DEFAULT = "/v1/collections/default"


def ended(process: Process, job: str) -> Any:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        answer = process.http.get(job).json()
        if answer["state"] not in ("queued", "running"):
            return answer
        time.sleep(0.05)
    raise AssertionError(answer)


def test_an_acknowledged_job_survives_a_kill(start: Start) -> None:
    """Killed right after the answer, the next start runs it, from its beginning."""
    process = start().ready()
    anchors = [{"id": f"a{n // 2}-{n % 2}", "text": f"What is item {n // 2}?"} for n in range(200)]
    assert process.http.post(f"{DEFAULT}/anchors", json={"anchors": anchors}).status_code == 201
    response = process.http.post(f"{DEFAULT}/clusters", json={"min_size": 2})
    assert response.status_code == 202
    job = response.headers["location"]
    process.kill()
    again = start().ready()
    found = ended(again, job)
    assert (found["state"], found["collection"]) == ("done", "default")
    assert found["attempts"] in (1, 2)  # it may have begun before the kill
    assert found["summary"]["anchors"] == 200
    lines = [json.loads(line) for line in again.http.get(found["result"]).text.splitlines()]
    assert len(lines) == found["summary"]["groups"] > 0
    together = {
        one["id"]: line["canonical"]["id"]
        for line in lines
        for one in (line["canonical"], *line["members"])
    }
    assert all(together[f"a{n}-0"] == together[f"a{n}-1"] for n in range(100))
    assert again.stop() == 0


def test_a_stop_waits_for_no_job(start: Start) -> None:
    """A clean stop ends within seconds, and the job is done by the next start."""
    process = start().ready()
    words = [f"{a} {b}" for a in range(20) for b in "abcdefghij"]
    anchors = [{"text": f"How do I {word} the {word}?"} for word in words]
    assert process.http.post(f"{DEFAULT}/anchors", json={"anchors": anchors}).status_code == 201
    jobs = [process.http.post(f"{DEFAULT}/clusters").headers["location"] for _ in range(3)]
    assert process.stop() == 0
    again = start().ready()
    assert [ended(again, job)["state"] for job in jobs] == ["done"] * 3
