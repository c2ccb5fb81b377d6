from __future__ import annotations

from typing import Any

import pytest

from app.api.label_schemas import LabelBatchOut, LabelOut
from tests.conftest import CollectionClient

ANCHORS = [
    {"id": "d1", "text": "Where is my parcel?", "label": "delivery"},
    {"id": "a1", "text": "I forgot my password", "label": "account"},
    {"id": "r1", "text": "I want my money back", "label": "refund"},
    {"id": "x1", "text": "A text without a label"},
]


def label(collection: CollectionClient, text: str, **body: Any) -> Any:
    response = collection.post("label", {"text": text, **body})
    assert response.status_code == 200, response.text
    assert LabelOut.model_validate_json(response.content, strict=True)
    return response.json()


def test_a_text_gets_the_label_of_a_single_anchor(collection: CollectionClient) -> None:
    """With its probability, the anchor that says so, and what is left for none."""
    collection.register(*ANCHORS)
    answer = label(collection, "Where has my package got to?")
    assert answer["label"] == "delivery"
    assert answer["labels"][0]["anchor"]["id"] == "d1"
    assert answer["probability"] == answer["labels"][0]["probability"]
    assert [set(found) for found in answer["labels"]] == [{"label", "probability", "anchor"}] * 3
    total = sum(found["probability"] for found in answer["labels"]) + answer["none"]
    assert total == pytest.approx(1.0, abs=1e-5)
    assert (answer["text"], answer["truncated"]) == ("Where has my package got to?", False)
    assert answer["encoder"]


def test_a_text_of_none_of_the_labels_gets_none(collection: CollectionClient) -> None:
    """Its label is null, the probability that of none."""
    collection.register(*ANCHORS)
    answer = label(collection, "Which river is the longest in South America?")
    assert answer["label"] is None
    assert answer["probability"] == answer["none"] > 0.5


def test_an_empty_collection_answers_none(collection: CollectionClient) -> None:
    """With certainty."""
    answer = label(collection, "Where is my parcel?")
    assert (answer["label"], answer["none"], answer["labels"]) == (None, 1.0, [])


def test_the_text_of_an_anchor_has_its_label(collection: CollectionClient) -> None:
    """Whatever its case and end punctuation."""
    collection.register(*ANCHORS)
    answer = label(collection, "WHERE is my parcel")
    assert (answer["label"], answer["probability"], answer["none"]) == ("delivery", 1.0, 0.0)


def test_a_new_anchor_counts_at_once(collection: CollectionClient) -> None:
    """And a deleted one no longer."""
    collection.register(*ANCHORS)
    asked = "My voucher does not work"
    before = label(collection, asked)
    collection.register({"id": "v1", "text": "The voucher is not accepted", "label": "voucher"})
    assert "voucher" not in [found["label"] for found in before["labels"]]
    assert label(collection, asked)["label"] == "voucher"
    assert collection.http.delete(f"{collection.url}/anchors/v1").status_code == 204
    assert label(collection, asked) == before


def test_a_batch_answers_as_each_alone(collection: CollectionClient) -> None:
    """In order."""
    collection.register(*ANCHORS)
    texts = ["Where is it?", "I can't log in", "Give me a refund"] * 8
    response = collection.post("label:batch", {"texts": texts, "limit": 2})
    assert response.status_code == 200
    assert LabelBatchOut.model_validate_json(response.content, strict=True)
    results = response.json()["results"]
    assert [result["text"] for result in results] == texts
    for result, text in zip(results, texts[:3], strict=False):
        alone = label(collection, text, limit=2)
        assert result["label"] == alone["label"]
        assert result["none"] == pytest.approx(alone["none"], abs=1e-3)
        assert len(result["labels"]) == 2


def test_a_filter_narrows_and_unknown_values_leave_nothing(collection: CollectionClient) -> None:
    """As in lookups."""
    collection.register(*ANCHORS)
    only = label(collection, "Where is my parcel?", filter={"label": "refund"})
    assert [found["label"] for found in only["labels"]] == ["refund"]
    for where in ({"label": "unknown"}, {"metadata": {"lang": "xx"}}):
        nothing = label(collection, "Where is my parcel?", filter=where)
        assert (nothing["label"], nothing["none"], nothing["labels"]) == (None, 1.0, [])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("label", {}),
        ("label", {"text": " "}),
        ("label", {"text": "x", "limit": 0}),
        ("label", {"text": "x", "limit": 33}),
        ("label", {"text": "x", "min_probability": 1.5}),
        ("label", {"text": "x", "question": "y"}),
        ("label:batch", {"texts": []}),
        ("label:batch", {"texts": ["x"] * 257}),
    ],
)
def test_bad_requests_are_refused(
    collection: CollectionClient, path: str, body: dict[str, Any]
) -> None:
    """As problems."""
    response = collection.post(path, body)
    assert (response.status_code, response.json()["type"]) == (
        422,
        "urn:deja:problem:invalid-request",
    )


def test_an_unknown_collection_is_404(collection: CollectionClient) -> None:
    """On both routes."""
    other = CollectionClient(collection.http, "never-made")
    assert other.post("label", {"text": "x"}).status_code == 404
    assert other.post("label:batch", {"texts": ["x"]}).status_code == 404
