from __future__ import annotations

import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from app.domain.evidence.pair import Analysis, analyse
from tests.conftest import CollectionClient


def status_of(results: Any) -> list[str]:
    return [result["status"] for result in results]


def test_a_registered_anchor_is_found_by_the_next_lookup(collection: CollectionClient) -> None:
    """Created with 201; the id is the client's, or a UUIDv7."""
    body = {"anchors": [{"id": "a", "text": "Where is my parcel?"}, {"text": "Who are you?"}]}
    response = collection.post("anchors", body)
    assert response.status_code == 201
    first, second = response.json()["results"]
    assert first == {"id": "a", "status": "created", "duplicate_of": None, "truncated": False}
    assert uuid.UUID(second["id"]).version == 7
    assert collection.ids("Where is my parcel?")[0] == "a"
    assert collection.ids("Who are you?")[0] == second["id"]


@pytest.mark.parametrize("count", [1, 20])
def test_what_judging_an_anchor_needs_is_made_when_it_is_registered(
    collection: CollectionClient, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Alone or among many: the lookup that finds it first makes the question's own alone."""
    analysed: list[str] = []

    def watched(text: str, unknown: frozenset[str]) -> Analysis:
        analysed.append(text)
        return analyse(text, unknown)

    monkeypatch.setattr("app.domain.scoring.analyse", watched)
    texts = [f"Which of {count} is number {place}?" for place in range(count)]
    collection.register(*[{"text": text} for text in texts])
    assert sorted(analysed) == sorted(texts)
    analysed.clear()
    collection.ask(f"Which number of {count} is it?")
    assert analysed == [f"Which number of {count} is it?"]
    analysed.clear()
    monkeypatch.setattr("app.api.dependencies.KEPT_ANALYSES", count)
    collection.register(*[{"text": f"{text} Again?"} for text in texts])
    assert not analysed  # there are too many anchors for that


def test_an_id_that_exists_is_updated_and_the_old_text_is_gone(
    collection: CollectionClient,
) -> None:
    """200 when nothing new was created; the label and metadata are replaced as well."""
    collection.register({"id": "a", "text": "Where is my parcel?", "label": "x"})
    response = collection.post("anchors", {"anchors": [{"id": "a", "text": "Who are you?"}]})
    assert response.status_code == 200
    assert status_of(response.json()["results"]) == ["updated"]
    (match,) = collection.ask("Who are you?")["matches"]
    assert (match["id"], match["text"], match["label"]) == ("a", "Who are you?", None)
    (match,) = collection.ask("Where is my parcel?")["matches"]
    assert match["probability"] < 1


def test_registering_the_same_again_changes_nothing(collection: CollectionClient) -> None:
    """`unchanged`, and the update time stays."""
    anchor = {"id": "a", "text": "Who are you?", "label": "x", "metadata": {"k": [1]}}
    collection.register(anchor)
    before = collection.http.get(f"{collection.url}/anchors/a").json()
    assert status_of(collection.register(anchor)) == ["unchanged"]
    assert collection.http.get(f"{collection.url}/anchors/a").json() == before


def test_put_creates_then_replaces_one_anchor(collection: CollectionClient) -> None:
    """201, then 200; both answer with the anchor."""
    url = f"{collection.url}/anchors/faq:1"
    first = collection.http.put(url, json={"text": " One? ", "label": "x", "metadata": {"a": 1}})
    assert first.status_code == 201
    assert first.json()["text"] == "One?"
    second = collection.http.put(url, json={"text": "Two?"})
    assert second.status_code == 200
    got = collection.http.get(url)
    assert got.json() == second.json()
    assert (got.json()["label"], got.json()["metadata"]) == (None, {})
    assert got.json()["created_at"] == first.json()["created_at"]


def test_a_deleted_anchor_is_gone_for_good(collection: CollectionClient) -> None:
    """204, then 404; no lookup finds it."""
    collection.register({"id": "a", "text": "Who are you?"}, {"id": "b", "text": "What now?"})
    url = f"{collection.url}/anchors/a"
    assert collection.http.delete(url).status_code == 204
    assert collection.http.delete(url).status_code == 404
    assert collection.http.get(url).status_code == 404
    assert collection.ids("Who are you?") == ["b"]


def test_pages_hold_every_anchor_once(collection: CollectionClient) -> None:
    """In the order of ids, with a cursor until the last page."""
    collection.register(
        *[{"id": f"a{i:02}", "text": f"Text {i}", "label": "odd" if i % 2 else None}
          for i in range(7)]
    )  # fmt: skip
    seen, cursor = [], None
    while True:
        options = {"limit": 3, **({"cursor": cursor} if cursor else {})}
        page = collection.http.get(f"{collection.url}/anchors", params=options).json()
        seen.append([anchor["id"] for anchor in page["anchors"]])
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [["a00", "a01", "a02"], ["a03", "a04", "a05"], ["a06"]]
    odd = collection.http.get(f"{collection.url}/anchors", params={"label": "odd"}).json()
    assert [anchor["id"] for anchor in odd["anchors"]] == ["a01", "a03", "a05"]
    bad = collection.http.get(f"{collection.url}/anchors", params={"cursor": "%%%"})
    assert bad.status_code == 422
    assert bad.json()["errors"][0]["loc"] == ["query", "cursor"]


def test_export_streams_every_anchor(collection: CollectionClient) -> None:
    """One JSON object a line, each as `GET` shows it."""
    collection.register(*[{"id": f"a{i}", "text": f"Text {i} \n ü"} for i in range(5)])
    response = collection.http.get(f"{collection.url}/anchors:export")
    assert response.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert lines == [collection.http.get(f"{collection.url}/anchors/a{i}").json() for i in range(5)]


@pytest.mark.parametrize(
    ("anchor", "field"),
    [
        ({"text": ""}, "text"),
        ({"id": "-a", "text": "x"}, "id"),
        ({"id": "a" * 129, "text": "x"}, "id"),
        ({"text": "x", "label": ""}, "label"),
        ({"text": "x", "label": "l" * 201}, "label"),
        ({"text": "x", "metadata": {"k": "v" * 8200}}, "metadata"),
        ({"text": "x", "metadata": [1]}, "metadata"),
        ({"text": "x", "meta": {}}, "meta"),
    ],
)
def test_a_bad_anchor_is_named_and_nothing_of_its_request_is_stored(
    collection: CollectionClient, anchor: dict[str, Any], field: str
) -> None:
    """The place in the request is in `errors`."""
    response = collection.post("anchors", {"anchors": [{"text": "fine"}, anchor]})
    assert response.status_code == 422
    assert response.json()["errors"][0]["loc"] == ["body", "anchors", 1, field]
    assert collection.ask("fine")["matches"] == []


def test_an_id_twice_in_a_request_is_refused(collection: CollectionClient) -> None:
    """Which of the two should win would be a guess."""
    anchors = [{"id": "a", "text": "x"}, {"text": "y"}, {"id": "a", "text": "z"}]
    response = collection.post("anchors", {"anchors": anchors})
    assert response.status_code == 422
    assert response.json()["errors"][0]["loc"] == ["body", "anchors", 2, "id"]
    assert collection.ask("x")["matches"] == []


def test_requests_are_bounded(collection: CollectionClient) -> None:
    """1,001 anchors are too many; metadata that is no plain JSON is refused."""
    many = {"anchors": [{"text": "x"}] * 1001}
    assert collection.post("anchors", many).status_code == 422
    nan = '{"anchors": [{"text": "x", "metadata": {"k": NaN}}]}'
    response = collection.http.post(f"{collection.url}/anchors", content=nan)
    assert response.status_code == 422


def test_skip_leaves_out_duplicates_of_the_collection_and_of_the_request(
    collection: CollectionClient,
) -> None:
    """Each skipped one names its match; the others are stored."""
    collection.register({"id": "pin", "text": "How do I reset my PIN?"})
    results = collection.register(
        {"id": "new", "text": "how do i reset my pin"},
        {"text": "How can I reset my PIN?"},
        {"id": "other", "text": "Where is my parcel?"},
        "WHERE IS MY PARCEL",
        if_duplicate="skip",
    )
    assert status_of(results) == ["skipped", "skipped", "created", "skipped"]
    assert [result["id"] for result in results] == ["new", None, "other", None]
    assert [(r["duplicate_of"] or {}).get("id") for r in results] == ["pin", "pin", None, "other"]
    assert results[0]["duplicate_of"]["probability"] == 1.0
    assert results[1]["duplicate_of"]["verdict"] == "duplicate"
    assert collection.http.get(collection.url).json()["anchors"] == 2


def test_reject_stores_nothing_and_lists_every_duplicate(collection: CollectionClient) -> None:
    """409; also for a duplicate earlier in the same request."""
    collection.register({"id": "pin", "text": "How do I reset my PIN?"})
    anchors = [{"text": "Where is my parcel?"}, {"text": "How do I reset my pin"},
               {"text": "where is my parcel"}]  # fmt: skip
    response = collection.post("anchors", {"anchors": anchors, "if_duplicate": "reject"})
    assert response.status_code == 409
    problem = response.json()
    assert problem["type"] == "urn:deja:problem:duplicates"
    assert [(d["index"], d["duplicate_of"]["text"]) for d in problem["duplicates"]] == [
        (1, "How do I reset my PIN?"),
        (2, "Where is my parcel?"),
    ]
    assert collection.http.get(collection.url).json()["anchors"] == 1


def test_an_update_is_never_its_own_duplicate_but_may_duplicate_another(
    collection: CollectionClient,
) -> None:
    """Under `skip` the second kind is skipped and the old text stays."""
    collection.register({"id": "a", "text": "Who are you?"}, {"id": "b", "text": "Rust or Go?"})
    own = collection.register({"id": "a", "text": "who are you"}, if_duplicate="skip")
    assert status_of(own) == ["updated"]
    other = collection.register({"id": "b", "text": "WHO ARE YOU?"}, if_duplicate="skip")
    assert status_of(other) == ["skipped"]
    assert other[0]["duplicate_of"]["id"] == "a"
    same = collection.register({"id": "b", "text": "Rust or Go?"}, if_duplicate="reject")
    assert status_of(same) == ["unchanged"]


def test_of_equal_texts_sent_at_once_exactly_one_is_created(collection: CollectionClient) -> None:
    """Check and insert are one step, whatever the case and punctuation."""
    texts = [
        "Where is my parcel?",
        "where is my parcel",
        "WHERE IS MY PARCEL!",
        "Where is my  parcel.",
    ]
    start = threading.Barrier(16)

    def send(number: int) -> str:
        start.wait()
        mode = "skip" if number % 2 else "reject"
        body = {"anchors": [{"text": texts[number % 4]}], "if_duplicate": mode}
        response = collection.post("anchors", body)
        return str(response.status_code) if response.status_code != 200 else "skipped"

    with ThreadPoolExecutor(16) as threads:
        outcomes = list(threads.map(send, range(16)))
    assert outcomes.count("201") == 1
    assert set(outcomes) <= {"201", "skipped", "409"}
    assert collection.http.get(collection.url).json()["anchors"] == 1


def test_a_retry_with_the_same_idempotency_key_gets_the_same_answer(
    collection: CollectionClient,
) -> None:
    """Nothing is stored twice; another request under the key is refused."""
    body = {"anchors": [{"text": "Where is my parcel?"}]}
    key = {"Idempotency-Key": "retry-1"}
    first = collection.post("anchors", body, headers=key)
    again = collection.post("anchors", body, headers=key)
    assert (again.status_code, again.json()) == (201, first.json())
    assert collection.http.get(collection.url).json()["anchors"] == 1
    other = collection.post("anchors", {"anchors": [{"text": "Other"}]}, headers=key)
    assert other.status_code == 422
    assert other.json()["type"] == "urn:deja:problem:idempotency-conflict"
    assert collection.post("anchors", body).json()["results"][0]["status"] == "created"


@pytest.mark.parametrize(
    "body",
    [
        b'{"anchors": [{"id": "a", "text": " Who are you? "}, {"id": "b", "text": "Who?"}]}',
        b'{"anchors": [{"id": "a", "text": "Who?", "metadata": {"n": 1.50, "m": [1e3]}}]}',
        b'{"anchors": [{"id": "a", "text": "Who?"}], "if_duplicate": "skip"}',
        b'{"anchors": [{"id": "a", "text": "Who?"}], "if_duplicate": "maybe"}',
        b'{"anchors": [{"id": "a", "text": "Who?"}, {"id": "a", "text": "Who?"}]}',
        b'{"anchors": [{"id": 5, "text": "Who?"}]}',
        b'{"anchors": [{"id": "a", "text": "Who?", "metadata": {"n": NaN}}]}',
        b'{"anchors": []}',
        b"[]",
        b"",
    ],
)
def test_registering_is_answered_the_same_on_either_way(
    collection: CollectionClient, body: bytes
) -> None:
    """A content type with a parameter goes FastAPI's general way: the same to the letter."""
    other = CollectionClient(collection.http, f"{collection.name}-general")
    assert other.http.put(other.url, json={}).status_code == 201
    for _ in range(2):
        quick, general = (
            one.http.post(f"{one.url}/anchors", content=body, headers={"Content-Type": kind})
            for one, kind in (
                (collection, "application/json"),
                (other, "application/json; charset=utf-8"),
            )
        )
        assert quick.status_code == general.status_code
        assert quick.text.replace(collection.name, "") == general.text.replace(other.name, "")
        assert quick.headers["content-type"] == general.headers["content-type"]


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"k": value}
    return value


def test_metadata_comes_back_as_it_was_sent(collection: CollectionClient) -> None:
    """The same numbers in the same order, from every route, however deep is allowed."""
    metadata = {"z": 1.0, "a": 1e300, "big": 2**70, "n": None, "deep": nested(31)}
    collection.register({"id": "a", "text": "Who are you?", "metadata": metadata})
    shown = [
        collection.http.get(f"{collection.url}/anchors/a").text,
        collection.http.get(f"{collection.url}/anchors").text,
        collection.http.get(f"{collection.url}/anchors:export").text,
        collection.post("duplicates", {"question": "Who are you?"}).text,
    ]
    for text in shown:
        assert json.dumps(metadata, separators=(",", ":")) in text
    again = collection.register({"id": "a", "text": "Who are you?", "metadata": metadata})
    assert status_of(again) == ["unchanged"]


@pytest.mark.parametrize("depth", [33, 300, 900])
def test_metadata_nested_too_deep_is_refused(collection: CollectionClient, depth: int) -> None:
    """Or whoever reads the anchor, or any answer with it, would fail on it."""
    anchors = [{"text": "x", "metadata": nested(depth)}]
    response = collection.post("anchors", {"anchors": anchors})
    assert response.status_code == 422
    assert "nested more than 32 levels" in response.json()["detail"]


def test_an_answer_names_at_most_fifty_wrong_fields(collection: CollectionClient) -> None:
    """A body with thousands of them does not get an answer many times its size."""
    response = collection.post("anchors", {f"f{i}": 1 for i in range(5_000)})
    assert response.status_code == 422
    assert len(response.json()["errors"]) == 50
    assert "and 4998 more" in response.json()["detail"]


def test_an_export_that_ends_makes_room(collection: CollectionClient) -> None:
    """More of them one after another than may run at once."""
    collection.register("One?", "Two?")
    for _ in range(10):
        assert collection.http.get(f"{collection.url}/anchors:export").status_code == 200
