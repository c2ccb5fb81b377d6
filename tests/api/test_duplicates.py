from __future__ import annotations

from typing import Any

import httpx
import pytest

from app import DEFAULT_ENCODER
from app.api.answers import DuplicatesOut
from tests.conftest import CollectionClient

ANCHORS = [
    {"id": "age", "text": "What is your age?", "label": "age", "metadata": {"lang": "en"}},
    {"id": "pin", "text": "How do I reset my PIN?", "label": "pin", "metadata": {"lang": "en"}},
    {"id": "card", "text": "My card has not arrived yet", "metadata": {"lang": "de", "n": 2}},
]


@pytest.fixture
def faq(collection: CollectionClient) -> CollectionClient:
    """Return a collection with three anchors."""
    collection.register(*ANCHORS)
    return collection


def test_metadata_comes_back_as_it_was_given(collection: CollectionClient) -> None:
    """Also numbers that have more than 64 bits, or more digits than most programs keep."""
    metadata = {"whole": 2**70, "least": -(2**63) - 1, "part": 0.1, "many": 1e-300, "é": "\u2028<"}
    collection.register({"text": "What is your age?", "metadata": metadata})
    collection.register({"text": "How old are you?", "metadata": {"whole": 2**53 + 1}})
    for question, expected in (
        ("What is your age?", metadata),
        ("How old are you?", {"whole": 2**53 + 1}),
    ):
        assert collection.ask(question)["matches"][0]["metadata"] == expected


def test_a_paraphrase_finds_its_anchor_first(faq: CollectionClient) -> None:
    """The answer has the contract's shape, the best match first."""
    answer = faq.ask("How can I reset my pin code?")
    DuplicatesOut.model_validate(answer, strict=False, extra="forbid")
    assert list(answer) == ["question", "verdict", "label", "matches", "encoder", "truncated"]
    assert answer["question"] == "How can I reset my pin code?"
    assert answer["encoder"] == DEFAULT_ENCODER
    assert answer["truncated"] is False
    assert answer["label"] == "pin"
    assert answer["verdict"] == answer["matches"][0]["verdict"] == "duplicate"
    assert [match["id"] for match in answer["matches"]] == ["pin", "card", "age"]
    assert list(answer["matches"][0]) == [
        "id", "text", "label", "metadata", "similarity", "probability", "verdict",
    ]  # fmt: skip
    probabilities = [match["probability"] for match in answer["matches"]]
    assert probabilities == sorted(probabilities, reverse=True)


def test_an_empty_collection_answers_distinct(collection: CollectionClient) -> None:
    """No match, no label, no error."""
    answer = collection.ask("Is anybody there?")
    assert (answer["verdict"], answer["label"], answer["matches"]) == ("distinct", None, [])


def test_the_same_text_is_a_duplicate_with_probability_one(faq: CollectionClient) -> None:
    """Case, spacing and end punctuation make no difference to that."""
    for question in ("What is your age?", "  what IS   your age", "WHAT IS YOUR AGE!!"):
        best = faq.ask(question)["matches"][0]
        assert (best["id"], best["probability"], best["verdict"]) == ("age", 1.0, "duplicate")


def test_the_label_is_that_of_the_best_match_that_has_one_and_is_not_distinct(
    faq: CollectionClient,
) -> None:
    """A distinct match lends no label, however near."""
    assert faq.ask("What is your age?")["label"] == "age"
    answer = faq.ask("Which mountains are the highest on Mars?")
    assert (answer["verdict"], answer["label"]) == ("distinct", None)
    assert len(answer["matches"]) == 3


def test_limit_cuts_the_matches(faq: CollectionClient) -> None:
    """The best ones stay."""
    assert faq.ids("What is your age?", limit=1) == ["age"]


def test_min_similarity_keeps_only_what_reaches_it_and_zero_is_a_threshold(
    faq: CollectionClient,
) -> None:
    """A bound of 0 drops what is below 0; no bound keeps all."""
    every = faq.ask("What is your age?")["matches"]
    # Matches come by probability, which is not quite the order of their similarities.
    bound = sorted(match["similarity"] for match in every)[1]
    kept = faq.ask("What is your age?", min_similarity=bound - 1e-6)["matches"]
    assert [m["id"] for m in kept] == [m["id"] for m in every if m["similarity"] >= bound]
    assert len(kept) == len(every) - 1
    above_zero = [match["id"] for match in every if match["similarity"] >= 0]
    assert faq.ids("What is your age?", min_similarity=0) == above_zero
    assert faq.ids("How old are you?", min_similarity=1) == []


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"label": "pin"}, {"pin"}),
        ({"label": "nothing"}, set()),
        ({"metadata": {"lang": "en"}}, {"age", "pin"}),
        ({"metadata": {"lang": "de", "n": 2.0}}, {"card"}),
        ({"metadata": {"n": "2"}}, set()),
        ({"label": "age", "metadata": {"lang": "de"}}, set()),
        ({}, {"age", "pin", "card"}),
    ],
)
def test_filters_narrow_the_matches(
    faq: CollectionClient, where: dict[str, Any], expected: set[str]
) -> None:
    """All parts of a filter must hold."""
    assert set(faq.ids("What is your age?", filter=where)) == expected


def test_a_filter_is_applied_before_the_cut(collection: CollectionClient) -> None:
    """The one anchor with the label is found behind a hundred nearer ones without it."""
    near = [{"id": f"n{i}", "text": f"How old are you, number {i}?"} for i in range(100)]
    collection.register(*near, {"id": "far", "text": "Rust or Go?", "label": "wanted"})
    assert collection.ids("How old are you?", limit=5, filter={"label": "wanted"}) == ["far"]


def test_a_batch_answers_each_question_in_order(faq: CollectionClient) -> None:
    """Each result is what the question gets alone."""
    questions = [f"{text} ({i})" for i in range(20) for text in ("What is your age?", "My PIN")]
    response = faq.post("duplicates:batch", {"questions": questions, "limit": 2})
    assert response.status_code == 200
    results = response.json()["results"]
    assert [result["question"] for result in results] == questions
    assert results == [faq.ask(question, limit=2) for question in questions]


def test_a_long_question_is_cut_and_says_so(collection: CollectionClient) -> None:
    """Tokens past the encoder's maximum are dropped, in registering and in asking."""
    long = "word " * 700
    (registered,) = collection.register({"id": "long", "text": long})
    assert registered["truncated"] is True
    assert collection.ask(long)["truncated"] is True
    assert collection.http.get(f"{collection.url}/anchors/long").json()["truncated"] is True
    response = collection.http.post("/v1/compare", json={"pairs": [{"left": "a", "right": long}]})
    assert response.json()["results"][0]["truncated"] is True


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({"question": " \n "}, ["body", "question"]),
        ({"question": "x" * 4001}, ["body", "question"]),
        ({"question": 5}, ["body", "question"]),
        ({}, ["body", "question"]),
        ({"question": "x", "limit": 0}, ["body", "limit"]),
        ({"question": "x", "limit": 101}, ["body", "limit"]),
        ({"question": "x", "limit": "5"}, ["body", "limit"]),
        ({"question": "x", "limit": True}, ["body", "limit"]),
        ({"question": "x", "min_similarity": 1.5}, ["body", "min_similarity"]),
        ({"question": "x", "threshold": 0.5}, ["body", "threshold"]),
        ({"question": "x", "filter": {"lable": "y"}}, ["body", "filter", "lable"]),
        (
            {"question": "x", "filter": {"metadata": {"k": "v" * 9000}}},
            ["body", "filter", "metadata"],
        ),
    ],
)
def test_bad_input_names_the_field(
    collection: CollectionClient, body: dict[str, Any], loc: list[str]
) -> None:
    """A misspelt field is an error too: silently ignored, it would change the answer."""
    response = collection.post("duplicates", body)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["type"] == "urn:deja:problem:invalid-request"
    assert problem["status"] == 422
    assert [error["loc"] for error in problem["errors"]] == [loc]


@pytest.mark.parametrize(
    "body",
    [
        b'{"question": "  How can I reset my PIN? "}',
        b'{"question": "old", "question": "How old are you?", "limit": 2, "explain": true}',
        b'{"question": "card?", "min_similarity": 0, "filter": {"metadata": {"n": 2.0}}}',
        b'{"question": "card?", "filter": {"label": null, "metadata": {"n": true}}}',
        '{"question": "Wie alt bist du \u2014 \U0001f600?"}'.encode(),
        b'{"question": "half a pair \\ud83d"}',
        b'{"question": "x", "min_similarity": NaN}',
        b'{"question": "x", "limit": 3.0}',
        b'{"question": "x", "limit": 99999999999999999999999}',
        b'\xef\xbb\xbf{"question": "x"}',
        b'{"question": "\xff"}',
        b'{"question": "x"',
        b"[]",
        b"",
    ],
)
@pytest.mark.parametrize("path", ["", "-%0A", "-None"])
def test_a_lookup_is_answered_the_same_on_either_way(
    faq: CollectionClient, body: bytes, path: str
) -> None:
    """A content type with a parameter goes FastAPI's general way: the same answer to the letter."""
    quick, general = (
        faq.http.post(f"{faq.url}{path}/duplicates", content=body, headers={"Content-Type": kind})
        for kind in ("application/json", "application/json; charset=utf-8")
    )
    assert (quick.status_code, quick.text) == (general.status_code, general.text)
    assert quick.headers["content-type"] == general.headers["content-type"]


def test_trimmed_text_of_the_longest_length_is_accepted(collection: CollectionClient) -> None:
    """White space around a text does not count."""
    assert collection.ask(" " * 50 + "x" * 4000)["question"] == "x" * 4000


def test_batches_are_bounded(collection: CollectionClient) -> None:
    """256 questions pass, 257 do not, nor does none."""
    accepted = collection.post("duplicates:batch", {"questions": ["x"] * 256})
    assert accepted.status_code == 200
    assert collection.post("duplicates:batch", {"questions": ["x"] * 257}).status_code == 422
    assert collection.post("duplicates:batch", {"questions": []}).status_code == 422


def test_an_unknown_collection_says_how_to_create_it(shared_service: httpx.Client) -> None:
    """404, with the remedy."""
    response = shared_service.post("/v1/collections/nope/duplicates", json={"question": "x"})
    assert response.status_code == 404
    assert response.json()["detail"].endswith("create it with PUT /v1/collections/nope")


def test_cut_offs_of_the_collection_decide_the_verdict(faq: CollectionClient) -> None:
    """Explicit cut-offs win; the same text stays a duplicate whatever they are."""
    question = "How can I reset my pin code?"
    faq.http.put(faq.url, json={"duplicate_at": 1.0, "review_at": 0.0})
    answer = faq.ask(question)
    assert {match["verdict"] for match in answer["matches"]} == {"review"}
    faq.http.put(faq.url, json={"duplicate_at": 1.0, "review_at": 1.0})
    assert faq.ask(question)["verdict"] == "distinct"
    assert faq.ask("What is your age?")["verdict"] == "duplicate"
    faq.http.put(faq.url, json={"duplicate_at": 0.0, "review_at": 0.0})
    assert {match["verdict"] for match in faq.ask(question)["matches"]} == {"duplicate"}
