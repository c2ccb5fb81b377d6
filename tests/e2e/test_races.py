"""Register unless duplicate, from many clients at once, against a real process."""

from __future__ import annotations

import json
import threading

import pytest

from app.encoders.artifact import find_artifact, load_artifact
from app.encoders.head import head_of
from app.encoders.onnx import OnnxEncoder
from app.encoders.unknown import unknown_to
from app.settings import Settings
from app.usecases.matching import Judge
from benchmarks.race_check import PromiseBroken, Stored, check, read
from benchmarks.race_clients import ANCHORS, Outcome, race
from benchmarks.race_texts import tries
from tests.e2e.conftest import Process, Start

ARTIFACT = load_artifact(find_artifact(Settings().encoder))
JUDGE = Judge(ARTIFACT.calibration, head_of(ARTIFACT), unknown_to(ARTIFACT))
CLIENTS = 32


def exported(process: Process) -> dict[str, str]:
    lines = process.http.get(f"{ANCHORS}:export").text.splitlines()
    return {anchor["id"]: anchor["text"] for anchor in map(json.loads, lines)}


def held_against_brute_force(process: Process, refused: list[str]) -> Stored:
    """Stop a service and check what it holds; return that."""
    found = exported(process)
    assert process.stop() == 0
    stored = read(process.data_dir / "deja.db", found)
    check(stored, refused, JUDGE, OnnxEncoder(ARTIFACT))
    return stored


def port_of(process: Process) -> int:
    return int(process.url.rpartition(":")[2])


def test_of_racing_duplicates_one_is_created(start: Start) -> None:
    """Equal texts, other spellings and paraphrases; answers and the database tell the same."""
    process = start().ready()
    made = tries(400, 1)
    outcome = race(made, CLIENTS, lambda: port_of(process))
    stored = held_against_brute_force(process, outcome.refused)
    assert outcome.statuses.total() == 400
    assert set(outcome.statuses) == {200, 201, 409}
    assert outcome.lost == 0
    assert sorted(outcome.created) == sorted(stored.ids)
    assert 100 <= len(stored.ids) < 400  # 100 families, whose texts are not all duplicates


def test_also_across_a_kill(start: Start) -> None:
    """Clients send again what was not answered; still nothing is created twice or lost."""
    processes = [start().ready()]
    made = tries(240, 2)
    reached = threading.Event()

    def answered(count: int) -> None:
        if count >= 90:
            reached.set()

    outcome: list[Outcome] = []

    def run() -> None:
        try:
            outcome.append(race(made, CLIENTS, lambda: port_of(processes[-1]), answered))
        finally:
            reached.set()

    racing = threading.Thread(target=run)
    racing.start()
    assert reached.wait(60)
    processes[0].kill()
    processes.append(start().ready())
    racing.join()
    assert set(outcome[0].statuses) <= {200, 201, 409}
    assert outcome[0].statuses.total() == 240
    assert outcome[0].lost > 0
    stored = held_against_brute_force(processes[1], outcome[0].refused)
    assert set(outcome[0].created) <= set(stored.ids)
    # What was created and not answered before the kill: no more than was under way.
    assert len(stored.ids) - len(outcome[0].created) <= CLIENTS * 8


def test_the_check_finds_what_it_is_for() -> None:
    """A second copy, a paraphrase that came later, and a text that is missing."""
    encoder = OnnxEncoder(ARTIFACT)

    def stored(*texts: str) -> Stored:
        vectors = encoder.encode(texts).vectors.astype("float16").astype("float32")
        return Stored([f"a{n}" for n in range(len(texts))], list(texts), vectors)

    reset, station = "How do I reset my password?", "Where is the train station?"
    check(stored(reset, station), [reset, station, reset.upper()], JUDGE, encoder)
    with pytest.raises(PromiseBroken, match="created more than once"):
        check(stored(reset, station, "how do i reset my password"), [], JUDGE, encoder)
    with pytest.raises(PromiseBroken, match="although a duplicate was there"):
        check(stored(reset, station, "How can I reset my password?"), [], JUDGE, encoder)
    with pytest.raises(PromiseBroken, match="neither created nor a duplicate"):
        check(stored(reset), [reset, station], JUDGE, encoder)
