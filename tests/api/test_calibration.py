from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner

from app.calibrating import calibrate
from app.cli import Seams, cli
from app.client import DejaClient
from tests.conftest import CollectionClient, Serve

TEXT = "How do I change my password?"
QUESTIONS = [
    "How can I change my password?",
    "What do I do to change the password?",
    "Where is the password changed?",
    "Can I reset my password?",
    "How do I change my user name?",
    "How do I change my email address?",
    "How do I delete my account?",
    "Is my password safe?",
    "Why was my password changed?",
    "How long must a password be?",
]


def encoder(collection: CollectionClient) -> str:
    return str(collection.http.get("/v1/info").json()["encoder"]["fingerprint"])


def put(collection: CollectionClient, path: str = "calibration", **body: Any) -> httpx.Response:
    whole = {"intercept": -1.0, "slope": 1.2, "encoder": encoder(collection), **body}
    return collection.http.put(f"{collection.url}/{path}", json=whole)


def seen(collection: CollectionClient) -> Any:
    response = collection.http.get(f"{collection.url}/calibration")
    assert response.status_code == 200, response.text
    return response.json()


def chance(collection: CollectionClient) -> float:
    (match,) = collection.ask("Can I reset my password?")["matches"]
    return float(match["probability"])


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def give(collection: CollectionClient, *, duplicate: bool) -> None:
    """Give the same verdict on ten questions."""
    collection.register({"id": "a", "text": TEXT})
    for question in QUESTIONS:
        verdict = "duplicate" if duplicate else "distinct"
        body = {"question": question, "anchor_id": "a", "verdict": verdict}
        assert collection.post("feedback", body).status_code == 201


def client_of(collection: CollectionClient) -> DejaClient:
    transport = collection.http._transport
    return DejaClient("http://deja", transport=transport, sleep=lambda _: None)


def run(collection: CollectionClient, *arguments: str) -> Any:
    return CliRunner().invoke(
        cli,
        ["calibrate", "-c", collection.name, "--url", "http://deja", *arguments],
        obj=Seams(collection.http._transport, lambda _: None),
        env={"COLUMNS": "120"},
    )


def test_a_correction_moves_log_odds_from_the_next_lookup_on(collection: CollectionClient) -> None:
    """By its line, exactly; taken away, everything is as before."""
    collection.register({"id": "a", "text": TEXT})
    before, calibration = chance(collection), seen(collection)
    assert calibration["correction"] is None
    answer = put(collection, verdicts={"duplicate": 3, "distinct": 4})
    assert answer.status_code == 200
    assert logit(chance(collection)) == pytest.approx(-1.0 + 1.2 * logit(before), abs=1e-3)
    correction = answer.json()["correction"]
    assert seen(collection) == answer.json()
    assert (correction["intercept"], correction["slope"]) == (-1.0, 1.2)
    assert correction["verdicts"] == {"duplicate": 3, "distinct": 4}
    assert correction["applies"] is True
    assert collection.http.delete(f"{collection.url}/calibration").status_code == 204
    assert (chance(collection), seen(collection)) == (before, calibration)
    assert collection.http.delete(f"{collection.url}/calibration").status_code == 204


def test_cut_offs_move_along(collection: CollectionClient) -> None:
    """What is shown of the collection, too; a dry run answers alike and stores nothing."""
    put(collection, intercept=0.5, slope=1.0)
    before = seen(collection)
    counts = {"duplicate": 3, "distinct": 4}
    dry = put(collection, "calibration?dry_run=true", verdicts=counts).json()
    assert seen(collection) == before
    stored = put(collection, verdicts=counts).json()
    for answer in (dry, stored):
        assert answer["correction"].pop("fitted_at") > before["correction"]["fitted_at"]
    assert dry == stored
    assert dry["correction"]["intercept"] == -1.0
    assert dry["cut_offs"] != before["cut_offs"]
    assert collection.http.get(collection.url).json()["cut_offs"] == stored["cut_offs"]


def test_new_settings_leave_the_correction(collection: CollectionClient) -> None:
    """It is not one of them."""
    put(collection)
    assert collection.http.put(collection.url, json={"duplicate_at": 0.9}).status_code == 200
    assert seen(collection)["correction"]["slope"] == 1.2


def test_a_correction_applies_under_its_base_rate_alone(collection: CollectionClient) -> None:
    """Under another, the same difference would count twice; back under its own, it applies."""
    collection.register({"id": "a", "text": TEXT})
    put(collection)
    own = chance(collection)
    collection.http.put(collection.url, json={"base_rate": 0.02})
    shifted = seen(collection)
    assert (shifted["correction"]["applies"], shifted["correction"]["outdated_by"]) == (
        False,
        "base_rate",
    )
    set_aside = chance(collection)
    collection.http.delete(f"{collection.url}/calibration")
    assert chance(collection) == set_aside
    stored = put(collection).json()
    assert (stored["correction"]["applies"], stored["correction"]["outdated_by"]) == (True, None)
    assert chance(collection) < set_aside
    collection.http.put(collection.url, json={})
    assert seen(collection)["correction"]["outdated_by"] == "base_rate"
    put(collection)
    assert chance(collection) == own


@pytest.mark.parametrize(
    "change",
    [
        {"slope": 0},
        {"slope": -1},
        {"intercept": 21},
        {"intercept": "1"},
        {"encoder": "another"},
        {"verdicts": {"review": 1}},
    ],
)
def test_bad_corrections_are_refused(collection: CollectionClient, change: dict[str, Any]) -> None:
    """One of another encoder among them: it says nothing about this one's log odds."""
    assert put(collection, **change).status_code == 422
    assert seen(collection)["correction"] is None


def test_unknown_collections_are_404(collection: CollectionClient) -> None:
    """On every route."""
    other = CollectionClient(collection.http, "never-made")
    assert put(other).status_code == 404
    for method in ("GET", "DELETE"):
        url = f"{other.url}/calibration"
        assert collection.http.request(method, url).status_code == 404


def test_a_correction_survives_a_restart(serve: Serve, tmp_path: Path) -> None:
    """It is stored like everything else."""
    with serve(tmp_path) as http:
        stored = put(CollectionClient(http, "default")).json()
    with serve(tmp_path) as http:
        assert seen(CollectionClient(http, "default")) == stored


def test_calibrating_learns_from_feedback(collection: CollectionClient) -> None:
    """Ten verdicts `distinct` on likely pairs make all of them less likely; undone, they are
    what they were.
    """
    give(collection, duplicate=False)
    before = chance(collection)
    result = run(collection)
    assert result.exit_code == 0, result.output
    assert "10 verdicts: 0 duplicate, 10 distinct" in result.output
    assert f"Applied to {collection.name}" in result.output
    correction = seen(collection)["correction"]
    assert correction["verdicts"] == {"duplicate": 0, "distinct": 10}
    assert correction["intercept"] < 0
    assert chance(collection) < before
    undone = run(collection, "--undo")
    assert undone.exit_code == 0
    assert chance(collection) == before


def test_calibrating_again_starts_from_the_encoder_not_from_the_correction(
    collection: CollectionClient,
) -> None:
    """The same feedback twice is no more feedback."""
    give(collection, duplicate=False)
    run(collection)
    first = seen(collection)["correction"]
    run(collection)
    again = seen(collection)["correction"]
    assert (again["intercept"], again["slope"]) == (first["intercept"], first["slope"])


def test_a_dry_run_shows_and_changes_nothing(collection: CollectionClient) -> None:
    """Before and after, with the cut-offs it would have."""
    give(collection, duplicate=False)
    result = run(collection, "--dry-run")
    assert result.exit_code == 0, result.output
    for line in ("log loss", "accuracy", "calibration error", "duplicate_at in force"):
        assert line in result.output
    assert "Nothing was changed (--dry-run)." in result.output
    assert seen(collection)["correction"] is None


def test_what_helps_nobody_is_not_applied_unless_forced(collection: CollectionClient) -> None:
    """One verdict says nothing about another: left out, it is told no better."""
    collection.register({"id": "a", "text": TEXT})
    body = {"question": QUESTIONS[0], "anchor_id": "a", "verdict": "distinct"}
    collection.post("feedback", body)
    result = run(collection)
    assert result.exit_code == 0
    assert "Nothing was changed" in result.output
    assert seen(collection)["correction"] is None
    assert run(collection, "--force").exit_code == 0
    assert seen(collection)["correction"]["intercept"] < 0


def withdraw(collection: CollectionClient, count: int) -> None:
    """Withdraw the oldest verdicts."""
    found = collection.http.get(f"{collection.url}/feedback").json()["feedback"]
    for each in found[:count]:
        assert collection.http.delete(f"{collection.url}/feedback/{each['id']}").status_code == 204


@pytest.mark.parametrize("left", [0, 1])
def test_a_correction_goes_with_the_feedback_it_came_from(
    collection: CollectionClient, left: int
) -> None:
    """All of it withdrawn, or but for one, which supports no correction: the encoder's again.

    A dry run says so, and leaves it.
    """
    give(collection, duplicate=False)
    before = chance(collection)
    run(collection)
    corrected = chance(collection)
    assert corrected < before
    withdraw(collection, 10 - left)
    dry = run(collection, "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert "The stored correction would be removed." in dry.output
    assert "Nothing was changed (--dry-run)." in dry.output
    assert chance(collection) == corrected
    result = run(collection)
    assert result.exit_code == 0, result.output
    assert "The stored correction is removed" in result.output
    assert ("No feedback" in result.output) == (left == 0)
    assert (chance(collection), seen(collection)["correction"]) == (before, None)


def test_part_of_the_feedback_withdrawn_weakens_the_correction(
    collection: CollectionClient,
) -> None:
    """The fit on what is left takes its place, though the old one may know these verdicts too."""
    give(collection, duplicate=False)
    run(collection)
    strong = seen(collection)["correction"]
    withdraw(collection, 4)
    assert "Applied" in run(collection).output
    weak = seen(collection)["correction"]
    assert weak["verdicts"] == {"duplicate": 0, "distinct": 6}
    assert strong["intercept"] < weak["intercept"] < 0


def test_a_fit_is_held_against_what_is_in_force(collection: CollectionClient) -> None:
    """Verdicts that the one in force has not seen, and tells better, leave it in force."""
    put(collection, intercept=-3.0, slope=1.0)
    give(collection, duplicate=False)
    in_force = seen(collection)
    result = run(collection)
    assert result.exit_code == 0, result.output
    header = next(line for line in result.output.splitlines() if "before" in line)
    assert header.split() == ["shipped", "before", "after"]
    shown = next(line for line in result.output.splitlines() if line.startswith("duplicate_at"))
    assert float(shown.split()[-2]) == pytest.approx(in_force["cut_offs"]["duplicate_at"], abs=1e-3)
    assert "no better than what is in force, which stays" in result.output
    assert seen(collection) == in_force
    assert "Applied" in run(collection, "--force").output


def test_one_true_verdict_is_judged_against_what_is_in_force(collection: CollectionClient) -> None:
    """What false verdicts left is worse on it than the encoder's calibration, and goes."""
    give(collection, duplicate=False)
    run(collection)
    withdraw(collection, 10)
    body = {"question": QUESTIONS[0], "anchor_id": "a", "verdict": "duplicate"}
    assert collection.post("feedback", body).status_code == 201
    result = run(collection)
    (losses,) = (line for line in result.output.splitlines() if line.startswith("log loss"))
    shipped, before, after = map(float, losses.split()[-3:])
    assert before > shipped == after
    assert seen(collection)["correction"] is None


def test_a_collection_without_feedback_says_so(collection: CollectionClient) -> None:
    """In one line, with the way to give some; verdicts on equal texts are nothing to learn from."""
    collection.register({"id": "a", "text": TEXT})
    body = {"question": TEXT.upper(), "anchor_id": "a", "verdict": "duplicate"}
    assert collection.post("feedback", body).status_code == 201
    result = run(collection)
    assert result.exit_code == 1
    assert result.stderr == (
        f"deja: collection '{collection.name}' has no feedback to learn from; give some with "
        f"POST /v1/collections/{collection.name}/feedback\n"
    )


def test_the_shift_to_a_base_rate_comes_first(collection: CollectionClient) -> None:
    """Feedback that the collection's own base rate explains already moves it less."""
    give(collection, duplicate=False)
    without = client_of(collection)
    calibrate(without, collection.name, Console(quiet=True))
    plain = seen(collection)["correction"]["intercept"]
    collection.http.put(collection.url, json={"base_rate": 0.02})
    calibrate(without, collection.name, Console(quiet=True), force=True)
    shifted = seen(collection)["correction"]["intercept"]
    assert plain < shifted < 0
    assert json.dumps(seen(collection)["base_rate"]) == "0.02"
