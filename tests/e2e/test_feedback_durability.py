from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.e2e.conftest import Start

COLLECTION = "/v1/collections/default"


def test_a_kill_loses_no_acknowledged_verdict(start: Start) -> None:
    """Eight clients give feedback until the process is killed; each verdict that was answered is
    there after the next start, and nothing is there that was never sent.
    """
    process = start().ready()
    anchor = {"anchors": [{"id": "a", "text": "What is your age?"}]}
    assert process.http.post(f"{COLLECTION}/anchors", json=anchor).status_code == 201
    acknowledged: dict[int, str] = {}
    sent: set[int] = set()
    numbers = iter(range(10**6))
    guard = threading.Lock()
    stop = threading.Event()

    def client() -> None:
        with httpx.Client(base_url=process.url, timeout=30) as http:
            while not stop.is_set():
                with guard:
                    number = next(numbers)
                    sent.add(number)
                verdict = "distinct" if number % 3 else "duplicate"
                body = {"question": f"Question {number}", "anchor_id": "a", "verdict": verdict}
                try:
                    response = http.post(f"{COLLECTION}/feedback", json=body)
                except httpx.TransportError:
                    return
                assert response.status_code == 201, response.text
                acknowledged[number] = response.json()["id"]

    with ThreadPoolExecutor(8) as threads:
        clients = [threads.submit(client) for _ in range(8)]
        deadline = time.monotonic() + 30
        while len(acknowledged) < 40 and time.monotonic() < deadline:
            time.sleep(0.001)
        process.kill()
        stop.set()
        for done in clients:
            done.result()
    assert len(acknowledged) >= 40
    again = start().ready()
    lines = again.http.get(f"{COLLECTION}/feedback:export").text.splitlines()
    found = {int(pair["text1"].split()[1]): pair for pair in map(json.loads, lines)}
    assert set(acknowledged) <= set(found) <= sent
    assert {number: found[number]["id"] for number in acknowledged} == acknowledged
    assert all(pair["label"] == (number % 3 == 0) for number, pair in found.items())
