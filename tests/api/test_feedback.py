from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.conftest import CollectionClient, Serve

ANCHOR = {"id": "faq-1", "text": "What is your age?"}


def give(
    collection: CollectionClient,
    question: str = "How old are you?",
    anchor_id: str = "faq-1",
    verdict: str = "duplicate",
) -> httpx.Response:
    body = {"question": question, "anchor_id": anchor_id, "verdict": verdict}
    return collection.post("feedback", body)


def counts(collection: CollectionClient) -> Any:
    return collection.http.get(collection.url).json()["feedback"]


def exported(collection: CollectionClient) -> list[dict[str, Any]]:
    response = collection.http.get(f"{collection.url}/feedback:export")
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


def test_a_verdict_is_stored_with_what_the_lookup_showed(collection: CollectionClient) -> None:
    """201; texts and figures are those of the moment, and it is read back by its id."""
    collection.register(ANCHOR)
    (match,) = collection.ask("How old are you?")["matches"]
    response = give(collection)
    assert response.status_code == 201
    given = response.json()
    assert given.pop("status") == "created"
    assert given["similarity"] == pytest.approx(match["similarity"], abs=1e-6)
    assert given["probability"] == pytest.approx(match["probability"], abs=1e-6)
    assert {name: given[name] for name in ("question", "anchor_id", "anchor_text")} == {
        "question": "How old are you?",
        "anchor_id": "faq-1",
        "anchor_text": "What is your age?",
    }
    assert (given["verdict"], given["conflicts"]) == ("duplicate", 0)
    url = f"{collection.url}/feedback/{given['id']}"
    assert collection.http.get(url).json() == given
    assert counts(collection) == {"duplicate": 1, "distinct": 0, "conflicts": 0}


def test_the_opposite_verdict_on_a_pair_replaces_and_is_counted(
    collection: CollectionClient,
) -> None:
    """The pair is what its texts say, whatever their case, and whichever of them is the anchor."""
    collection.register(ANCHOR, {"id": "faq-2", "text": "How old are you"})
    first = give(collection).json()
    second = give(collection, "HOW OLD are you", verdict="distinct")
    assert second.status_code == 200
    answer = second.json()
    assert (answer["id"], answer["status"]) == (first["id"], "replaced")
    assert (answer["verdict"], answer["conflicts"]) == ("distinct", 1)
    assert (answer["question"], answer["created_at"]) == ("HOW OLD are you", first["created_at"])
    turned = give(collection, "what is your age", "faq-2", "duplicate").json()
    assert (turned["id"], turned["conflicts"]) == (first["id"], 2)
    assert counts(collection) == {"duplicate": 1, "distinct": 0, "conflicts": 2}


def test_the_same_verdict_again_changes_nothing(collection: CollectionClient) -> None:
    """So that a request may be sent twice."""
    collection.register(ANCHOR)
    first = give(collection).json()
    again = give(collection)
    assert again.status_code == 200
    assert again.json() == {**first, "status": "unchanged"}
    assert counts(collection) == {"duplicate": 1, "distinct": 0, "conflicts": 0}


def test_feedback_outlives_its_anchor(collection: CollectionClient) -> None:
    """The texts stay as they were when the anchor is changed or deleted."""
    collection.register(ANCHOR, {"id": "b", "text": "Where is my parcel?"})
    give(collection)
    give(collection, "Has my parcel arrived?", "b", "distinct")
    collection.register({"id": "faq-1", "text": "Something else"})
    assert collection.http.delete(f"{collection.url}/anchors/b").status_code == 204
    pairs = [(pair["text1"], pair["text2"], pair["label"]) for pair in exported(collection)]
    assert pairs == [
        ("How old are you?", "What is your age?", 1),
        ("Has my parcel arrived?", "Where is my parcel?", 0),
    ]


def test_verdicts_on_the_same_text_are_taken(collection: CollectionClient) -> None:
    """Though its probability is 1 and stays so."""
    collection.register(ANCHOR)
    answer = give(collection, "what is your AGE", verdict="distinct").json()
    assert (answer["probability"], answer["verdict"]) == (1.0, "distinct")


@pytest.mark.parametrize(
    ("change", "status", "kind"),
    [
        ({"anchor_id": "none"}, 404, "anchor-not-found"),
        ({"anchor_id": "no id"}, 422, "invalid-request"),
        ({"verdict": "review"}, 422, "invalid-request"),
        ({"verdict": None}, 422, "invalid-request"),
        ({"question": "  "}, 422, "invalid-request"),
        ({"question": "x" * 4001}, 422, "invalid-request"),
        ({"more": 1}, 422, "invalid-request"),
    ],
)
def test_bad_feedback_is_refused(
    collection: CollectionClient, change: dict[str, Any], status: int, kind: str
) -> None:
    """As a problem, with nothing stored."""
    collection.register(ANCHOR)
    body = {"question": "How old are you?", "anchor_id": "faq-1", "verdict": "duplicate", **change}
    response = collection.post("feedback", body)
    assert (response.status_code, response.json()["type"]) == (status, f"urn:deja:problem:{kind}")
    assert exported(collection) == []


def test_unknown_collections_and_ids_are_404(collection: CollectionClient) -> None:
    """On every route."""
    other = CollectionClient(collection.http, "never-made")
    assert give(other).json()["type"] == "urn:deja:problem:collection-not-found"
    for path in ("feedback", "feedback/x", "feedback:export"):
        assert collection.http.get(f"{other.url}/{path}").status_code == 404
    for method in ("GET", "DELETE"):
        response = collection.http.request(method, f"{collection.url}/feedback/x")
        assert response.json()["type"] == "urn:deja:problem:feedback-not-found"


def test_withdrawn_feedback_is_gone(collection: CollectionClient) -> None:
    """204, then 404; the pair may be judged anew."""
    collection.register(ANCHOR)
    url = f"{collection.url}/feedback/{give(collection).json()['id']}"
    assert collection.http.delete(url).status_code == 204
    assert collection.http.delete(url).status_code == 404
    assert collection.http.get(url).status_code == 404
    assert exported(collection) == []
    assert give(collection, verdict="distinct").json()["status"] == "created"


def test_pages_hold_every_verdict_once(collection: CollectionClient) -> None:
    """The oldest first, with a cursor until the last page."""
    collection.register(ANCHOR)
    ids = [give(collection, f"Question {number}").json()["id"] for number in range(7)]
    found: list[str] = []
    url = f"{collection.url}/feedback"
    params: dict[str, Any] = {"limit": 3}
    sizes = []
    while True:
        page = collection.http.get(url, params=params).json()
        sizes.append(len(page["feedback"]))
        found += [one["id"] for one in page["feedback"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert sizes == [3, 3, 1]
    assert sorted(found) == sorted(ids)
    assert found == sorted(found)
    assert collection.http.get(url, params={"cursor": "%"}).status_code == 422


def test_opposite_verdicts_at_once_leave_one(collection: CollectionClient) -> None:
    """Each is either stored, replaced or unchanged; the counts agree with the answers."""
    collection.register(ANCHOR)
    with ThreadPoolExecutor(8) as threads:
        verdicts = ["duplicate", "distinct"] * 16
        answers = list(threads.map(lambda verdict: give(collection, verdict=verdict), verdicts))
    statuses = [answer.json()["status"] for answer in answers]
    assert statuses.count("created") == 1
    assert counts(collection)["conflicts"] == statuses.count("replaced")
    assert len(exported(collection)) == 1


def test_feedback_goes_with_its_collection(shared_service: httpx.Client) -> None:
    """A collection made anew under the name has none."""
    made = CollectionClient(shared_service, "feedback-gone")
    shared_service.put(made.url, json={})
    made.register(ANCHOR)
    give(made)
    assert shared_service.delete(made.url).status_code == 204
    shared_service.put(made.url, json={})
    assert exported(made) == []
    assert counts(made) == {"duplicate": 0, "distinct": 0, "conflicts": 0}
    shared_service.delete(made.url)


def test_feedback_survives_a_restart(serve: Serve, tmp_path: Any) -> None:
    """What was answered is there afterwards."""
    with serve(tmp_path) as http:
        first = CollectionClient(http, "default")
        first.register(ANCHOR)
        given = give(first).json()
    with serve(tmp_path) as http:
        url = f"/v1/collections/default/feedback/{given['id']}"
        found = http.get(url).json()
    assert {**found, "status": "created"} == given
