from __future__ import annotations

import json
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from app.encoders.artifact import find_artifact, load_artifact, write_artifact
from tests.e2e.conftest import Process, Start

ANCHORS = "/v1/collections/default/anchors"


def stored(process: Process) -> dict[str, str]:
    """Return all anchors, text by id."""
    lines = process.http.get(f"{ANCHORS}:export").text.splitlines()
    return {anchor["id"]: anchor["text"] for anchor in map(json.loads, lines)}


@pytest.mark.parametrize("requests_before", [3, 20, 60])
def test_a_kill_loses_nothing_acknowledged_and_leaves_nothing_half_done(
    start: Start, requests_before: int
) -> None:
    """Requests of five anchors from eight clients; each is there whole, or not at all.

    Every acknowledged one is there, and every anchor is found by a lookup after the restart.
    """
    process = start().ready()
    acknowledged: set[int] = set()
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
                anchors = [
                    {"id": f"{number}-{part}", "text": f"Question {number} part {part}?"}
                    for part in range(5)
                ]
                try:
                    response = http.post(ANCHORS, json={"anchors": anchors})
                except httpx.TransportError:
                    return
                assert response.status_code == 201, response.text
                acknowledged.add(number)

    with ThreadPoolExecutor(8) as threads:
        clients = [threads.submit(client) for _ in range(8)]
        deadline = time.monotonic() + 30
        while len(acknowledged) < requests_before and time.monotonic() < deadline:
            time.sleep(0.001)
        process.kill()
        stop.set()
        for done in clients:
            done.result()
    assert len(acknowledged) >= requests_before
    again = start().ready()
    found = stored(again)
    requests: dict[int, set[str]] = {}
    for anchor_id in found:
        number, part = anchor_id.split("-")
        requests.setdefault(int(number), set()).add(part)
    assert acknowledged <= set(requests) <= sent
    assert all(parts == {"0", "1", "2", "3", "4"} for parts in requests.values())
    for anchor_id in [*list(found)[:20], *list(found)[-20:]]:
        body = {"question": found[anchor_id], "limit": 1}
        (match,) = again.http.post("/v1/collections/default/duplicates", json=body).json()[
            "matches"
        ]
        assert (match["id"], match["probability"]) == (anchor_id, 1.0)


def test_a_clean_stop_answers_what_it_accepted_and_exits_0(start: Start) -> None:
    """A request under way when the stop is asked for is finished, and is there afterwards."""
    process = start().ready()
    anchors = [{"id": f"a{i}", "text": f"Question {i} {'word ' * 60}"} for i in range(300)]
    with ThreadPoolExecutor(1) as threads:
        request = threads.submit(process.http.post, ANCHORS, json={"anchors": anchors})
        time.sleep(0.3)
        assert not request.done()
        status = process.stop()
        assert request.result().status_code == 201
    assert status == 0
    assert len(stored(start().ready())) == 300


def test_another_encoder_means_new_vectors_before_ready(start: Start, tmp_path: Path) -> None:
    """Stored vectors are replaced, the log says so, and the new encoder's name is in answers."""
    first = start().ready()
    first.http.post(ANCHORS, json={"anchors": [{"id": "a", "text": "Who are you?"}]})
    assert first.stop() == 0
    data = tmp_path / "data"
    with sqlite3.connect(data / "deja.db") as database:
        zeros = np.zeros(384, np.float16).tobytes()
        database.execute("UPDATE vectors SET vector = ?", (zeros,))
    database.close()
    renamed = renamed_artifact(tmp_path / "artifacts" / "renamed")
    second = start(DEJA_ENCODER=str(renamed)).ready()
    body = {"question": "Who are you really?"}
    answer = second.http.post("/v1/collections/default/duplicates", json=body).json()
    assert answer["encoder"] == "renamed"
    assert answer["matches"][0]["similarity"] > 0.6
    assert "re-embedding 1 anchors" in second.log


def renamed_artifact(folder: Path) -> Path:
    """Return a copy of the shipped artifact under another name: another encoder by its hash."""
    shipped = load_artifact(find_artifact("all-minilm-l6-v2"))
    manifest = shipped.manifest.model_copy(update={"name": folder.name})
    contents = {name: (shipped.path / name).read_bytes() for name in shipped.manifest.files}
    return write_artifact(folder, manifest, contents).path


def test_a_power_cut_in_the_middle_of_re_embedding_is_taken_up_again(
    start: Start, tmp_path: Path
) -> None:
    """Killed half-way, the next start does the rest and then answers."""
    first = start().ready()
    anchors = [{"id": f"a{i}", "text": f"Question {i} {'word ' * 40}"} for i in range(900)]
    assert first.http.post(ANCHORS, json={"anchors": anchors}).status_code == 201
    first.stop()
    renamed = renamed_artifact(tmp_path / "artifacts" / "renamed")
    second = start(DEJA_ENCODER=str(renamed))
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and stale(tmp_path / "data" / "deja.db") in (0, 900):
        time.sleep(0.02)
    not_ready = second.http.get("/readyz")
    second.kill()
    assert not_ready.status_code == 503
    assert "of 900 anchors" in not_ready.json()["detail"]
    left = stale(tmp_path / "data" / "deja.db")
    assert 0 < left < 900
    third = start(DEJA_ENCODER=str(renamed)).ready()
    assert f"re-embedding {left} anchors" in third.log
    body = {"question": anchors[899]["text"], "limit": 1}
    answer = third.http.post("/v1/collections/default/duplicates", json=body).json()
    assert answer["matches"][0]["id"] == "a899"


def stale(path: Path) -> int:
    """Return how many stored vectors are of the encoder that was there first."""
    with sqlite3.connect(path) as database:
        counted = database.execute("SELECT count(*) FROM vectors WHERE encoder = 1").fetchone()
    database.close()
    return int(counted[0])


def test_a_full_disk_refuses_writes_and_goes_on_answering(start: Start) -> None:
    """503 for what cannot be stored, nothing of it is there; everything acknowledged is."""
    process = start(largest_file=600_000).ready()
    acknowledged: list[str] = []
    refused = None
    for number in range(200):
        anchors = [{"id": f"{number}-{part}", "text": f"Q{number} {part}?"} for part in range(40)]
        response = process.http.post(ANCHORS, json={"anchors": anchors})
        if response.status_code != 201:
            refused = response
            break
        acknowledged += [anchor["id"] for anchor in anchors]
    assert refused is not None
    assert refused.status_code == 503
    assert refused.json()["type"] == "urn:deja:problem:storage-failed"
    assert acknowledged
    body = {"question": "Q0 7?", "limit": 1}
    answer = process.http.post("/v1/collections/default/duplicates", json=body).json()
    assert answer["matches"][0]["id"] == "0-7"
    process.kill()
    again = start().ready()
    assert set(stored(again)) == set(acknowledged)
    assert again.http.post(ANCHORS, json={"anchors": [{"text": "more"}]}).status_code == 201


def test_an_export_whose_client_leaves_lets_go_of_the_database(start: Start) -> None:
    """Again and again, more often than exports may run at once; the log can be folded after."""
    process = start().ready()
    word = "word " * 400
    for part in range(3):
        anchors = [{"text": f"Q{part} {i} {word}", "id": f"{part}-{i}"} for i in range(500)]
        assert process.http.post(ANCHORS, json={"anchors": anchors}).status_code == 201
    for _ in range(12):
        deadline = time.monotonic() + 10
        while True:
            with process.http.stream("GET", f"{ANCHORS}:export") as response:
                if response.status_code == 200:
                    next(response.iter_raw())
                    break
            assert response.status_code == 503
            assert time.monotonic() < deadline
            time.sleep(0.05)
    deadline = time.monotonic() + 10
    while True:
        with sqlite3.connect(process.data_dir / "deja.db") as database:
            busy = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        database.close()
        if not busy:
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "Exception ignored" not in process.log
    assert "Traceback" not in process.log


def test_exports_beyond_the_limit_are_told_to_come_back(start: Start) -> None:
    """Never a 200 with half a body: each is whole, or a 503 that says when to try again."""
    process = start().ready()
    anchors = [{"id": f"a{i}", "text": f"Q{i} {'word ' * 200}"} for i in range(1000)]
    assert process.http.post(ANCHORS, json={"anchors": anchors}).status_code == 201

    def export(_number: int) -> tuple[int, int]:
        with httpx.Client(base_url=process.url, timeout=30) as http:
            response = http.get(f"{ANCHORS}:export")
        assert response.status_code == 200 or response.headers["retry-after"] == "5"
        return response.status_code, len(response.text.splitlines())

    with ThreadPoolExecutor(24) as threads:
        outcomes = list(threads.map(export, range(24)))
    assert {lines for status, lines in outcomes if status == 200} == {1000}
    assert {status for status, _ in outcomes} == {200, 503}
    assert export(0) == (200, 1000)
