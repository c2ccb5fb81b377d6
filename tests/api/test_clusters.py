from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from app.api.job_schemas import GroupOut, JobOut
from app.api.routes.jobs import result_lines
from app.domain.errors import JobNotFound
from app.domain.jobs import Job, JobState
from app.storage.memory import MemoryAnchorStore
from tests.conftest import CollectionClient

RESET = [
    "How do I reset my password?",
    "How can I reset my password?",
    "How can I reset my own password?",
]
EMAIL = ["How do I change my email address?", "How can I change my email address?"]
HUB = "How do I reset my password or change my email address?"
# With these both groups are duplicates of the hub, and distinct from each other.
LOOSE = {"duplicate_at": 0.3, "review_at": 0.2}


def finished(http: httpx.Client, job: str, seconds: float = 20.0) -> Any:
    """Return a job once it has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = http.get(job).json()
        if answer["state"] not in ("queued", "running"):
            return answer
        time.sleep(0.01)
    raise AssertionError(answer)


def groups(collection: CollectionClient, **body: Any) -> list[Any]:
    """Return the groups of a collection, found by a job."""
    response = collection.post("clusters", body)
    assert response.status_code == 202, response.text
    job = finished(collection.http, response.headers["location"])
    assert job["state"] == "done", job
    result = collection.http.get(job["result"])
    assert result.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in result.text.splitlines()]
    for line in lines:
        GroupOut.model_validate(line)
        assert line["size"] == len(line["members"]) + 1
    return lines


def ids(found: list[Any]) -> list[list[str]]:
    return [[group["canonical"]["id"], *(m["id"] for m in group["members"])] for group in found]


def named(texts: list[str], prefix: str) -> list[dict[str, Any]]:
    return [{"id": f"{prefix}-{n}", "text": text} for n, text in enumerate(texts, 1)]


def test_groups_with_their_canonical_anchor(collection: CollectionClient) -> None:
    """Largest first; each member says how alike it is, as a lookup would."""
    collection.register(*named(RESET, "reset"), *named(EMAIL, "email"), "Where is the station?")
    found = groups(collection)
    assert [sorted(group) for group in ids(found)] == [
        ["reset-1", "reset-2", "reset-3"],
        ["email-1", "email-2"],
    ]
    for group in found:
        matches = {m["id"]: m for m in collection.ask(group["canonical"]["text"])["matches"]}
        for member in group["members"]:
            match = matches[member["id"]]
            assert member["verdict"] == match["verdict"] == "duplicate"
            assert (member["text"], member["label"]) == (match["text"], match["label"])
            for key in ("similarity", "probability"):
                # The lookup asked with a vector of full precision, stored ones have float16.
                assert member[key] == pytest.approx(match[key], abs=2e-3)
        probabilities = [member["probability"] for member in group["members"]]
        assert probabilities == sorted(probabilities, reverse=True)


def test_equal_texts_are_duplicates_with_certainty(collection: CollectionClient) -> None:
    """Case and end punctuation make no difference; the smallest id is the canonical one."""
    texts = ["where is the station", "Where is the station?", "WHERE IS THE STATION!"]
    collection.register(*reversed(named(texts, "a")), {"id": "b", "text": "Who are you?"})
    (group,) = groups(collection)
    assert group == {
        "size": 3,
        "canonical": {"id": "a-1", "text": texts[0], "label": None},
        "members": [
            {
                "id": anchor_id,
                "text": text,
                "label": None,
                "similarity": 1.0,
                "probability": 1.0,
                "verdict": "duplicate",
            }
            for anchor_id, text in [("a-2", texts[1]), ("a-3", texts[2])]
        ],
    }


def test_many_copies_are_in_nobodys_way(collection: CollectionClient) -> None:
    """Hundreds of them count as one text: which has most duplicates, and who is found, is said.

    Neither do anchors that a filter leaves out.
    """
    copies = [RESET[0] + "!" * count for count in range(300)]
    odd = [{"id": f"a-{n}", "text": text} for n, text in enumerate(copies)]
    collection.register(*odd, *named(RESET[1:], "reset"), *named(EMAIL, "email"))
    found = groups(collection)
    assert [group["size"] for group in found] == [302, 2]
    assert {"reset-1", "reset-2"} < set(ids(found)[0])
    first, *rest = named(RESET, "wanted")
    wanted = [{**anchor, "label": "wanted"} for anchor in (first, *rest)]
    collection.register(*wanted)
    (group,) = ids(groups(collection, filter={"label": "wanted"}))
    assert sorted(group) == ["wanted-1", "wanted-2", "wanted-3"]


def test_a_hub_does_not_join_two_groups(collection: CollectionClient) -> None:
    """A text that is a duplicate of both leaves them apart, and goes with the larger one."""
    collection.http.put(collection.url, json=LOOSE)
    collection.register({"id": "hub", "text": HUB}, *named(RESET, "reset"), *named(EMAIL, "email"))
    asked = {match["id"]: match["verdict"] for match in collection.ask(HUB)["matches"]}
    assert set(asked.values()) == {"duplicate"}, "the case is not what it is meant to be"
    assert [sorted(group) for group in ids(groups(collection))] == [
        ["hub", "reset-1", "reset-2", "reset-3"],
        ["email-1", "email-2"],
    ]


def test_the_order_of_registering_makes_no_difference(collection: CollectionClient) -> None:
    """The same anchors in another order give the same lines, to the last character."""
    anchors = [{"id": "hub", "text": HUB}, *named(RESET, "reset"), *named(EMAIL, "email")]
    collection.http.put(collection.url, json=LOOSE)
    collection.register(*anchors)
    first = groups(collection)
    other = CollectionClient(collection.http, f"{collection.name}-other")
    other.http.put(other.url, json=LOOSE)
    for anchor in reversed(anchors):
        other.register(anchor)
    assert groups(other) == first


def test_what_narrows_the_groups(collection: CollectionClient) -> None:
    """A filter, the least size, and `review` in place of `duplicate`."""
    first, *others = named(RESET, "reset")
    collection.register(
        {**first, "label": "other"},
        *({**anchor, "metadata": {"lang": "en"}} for anchor in others),
        *named(EMAIL, "email"),
    )
    assert [len(group) for group in ids(groups(collection))] == [3, 2]
    assert ids(groups(collection, filter={"metadata": {"lang": "en"}})) == [["reset-2", "reset-3"]]
    assert ids(groups(collection, filter={"label": "unknown"})) == []
    assert [len(group) for group in ids(groups(collection, min_size=3))] == [3]
    collection.register({"id": "hub", "text": HUB})
    collection.http.put(collection.url, json={"duplicate_at": 0.99, "review_at": 0.3})
    assert ids(groups(collection)) == []
    loose = groups(collection, verdict="review")
    assert sorted(loose[0].keys()) == ["canonical", "members", "size"]
    assert [sorted(group) for group in ids(loose)] == [
        ["hub", "reset-1", "reset-2", "reset-3"],
        ["email-1", "email-2"],
    ]
    assert {member["verdict"] for group in loose for member in group["members"]} == {"review"}


def test_a_job_says_how_it_went(collection: CollectionClient) -> None:
    """Its state, its options, when it ran and what came out; it is listed until forgotten."""
    collection.register(*named(RESET, "reset"), "Where is the station?")
    response = collection.post("clusters", {})
    JobOut.model_validate(response.json())
    assert response.json()["state"] == "queued"
    url = response.headers["location"]
    assert url == f"/v1/jobs/{response.json()['id']}"
    job = finished(collection.http, url)
    JobOut.model_validate(job)
    assert (job["kind"], job["collection"]) == ("clusters", collection.name)
    assert job["options"] == {
        "filter": {"label": None, "metadata": {}},
        "min_size": 2,
        "verdict": "duplicate",
    }
    assert job["created_at"] <= job["started_at"] <= job["finished_at"]
    assert job["progress"] == {"fraction": 1.0, "step": "done", "done": 0, "total": 0}
    counts = {key: job["summary"][key] for key in ("anchors", "groups", "duplicates")}
    assert counts == {"anchors": 4, "groups": 1, "duplicates": 2}
    assert (job["attempts"], job["detail"]) == (1, None)
    assert job["id"] in [one["id"] for one in collection.http.get("/v1/jobs").json()["jobs"]]
    assert collection.http.delete(url).status_code == 204
    assert collection.http.get(url).status_code == 404
    assert collection.http.get(job["result"]).status_code == 404
    assert collection.http.delete(url).status_code == 404


def test_an_empty_collection_has_no_groups(collection: CollectionClient) -> None:
    """Not an error: a result without lines."""
    assert groups(collection) == []


def test_a_job_goes_with_its_collection(collection: CollectionClient) -> None:
    """Its result holds texts of the collection, so nobody reads it after the deletion."""
    collection.register(*RESET)
    url = collection.post("clusters", {}).headers["location"]
    finished(collection.http, url)
    assert collection.http.delete(collection.url).status_code == 204
    for path in (url, f"{url}/result"):
        response = collection.http.get(path)
        assert (response.status_code, response.json()["type"]) == (
            404,
            "urn:deja:problem:job-not-found",
        )


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({"min_size": 1}, ["body", "min_size"]),
        ({"min_size": "3"}, ["body", "min_size"]),
        ({"verdict": "distinct"}, ["body", "verdict"]),
        ({"filter": {"labels": "x"}}, ["body", "filter", "labels"]),
        ({"threshold": 0.5}, ["body", "threshold"]),
    ],
)
def test_bad_input_is_named(collection: CollectionClient, body: Any, loc: list[str]) -> None:
    """Nothing is started, and the field is said."""
    response = collection.post("clusters", body)
    assert response.status_code == 422
    assert [error["loc"] for error in response.json()["errors"]] == [loc]


def test_unknown_names_are_404(shared_service: httpx.Client) -> None:
    """A collection, a job and its result, whatever an id looks like."""
    assert shared_service.post("/v1/collections/nowhere/clusters").status_code == 404
    for path in ("0190a-1", "NOPE", "no%21%00%F0%9F%8D%95", "x" * 300):
        for method, rest in (("GET", ""), ("DELETE", ""), ("GET", "/result")):
            response = shared_service.request(method, f"/v1/jobs/{path}{rest}")
            assert response.status_code == 404, (method, path)
            assert response.json()["type"] == "urn:deja:problem:job-not-found"


def test_a_result_that_is_forgotten_breaks_off() -> None:
    """Rather than ending early as if it were whole."""
    store = MemoryAnchorStore("encoder")
    summary = {"groups": 30}
    job = Job(
        "x", 1, "default", "clusters", {}, datetime.now(UTC), JobState.DONE, 1, summary=summary
    )
    with store.write() as rows:
        rows.put_job(job)
        rows.add_result("x", 0, ["line"] * 30)

    async def read() -> None:
        lines = result_lines(store, job)
        assert await anext(lines) == "line\n" * 20
        with store.write() as rows:
            rows.forget_job("x")
            rows.purge(100)
        await anext(lines)

    with pytest.raises(JobNotFound):
        asyncio.run(read())
