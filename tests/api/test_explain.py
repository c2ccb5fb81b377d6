"""`explain: true` says what a probability is made of; a collection's base rate shifts it."""

import math
from typing import Any

import httpx
import pytest

from app.api.answers import CompareOut, DuplicatesBatchOut, DuplicatesOut
from tests.conftest import CollectionClient

KEYS = ["same_text", "intercept", "pieces", "log_odds", "correction", "corrected", "cut_offs"]


def probability(explanation: dict[str, Any]) -> float:
    """Return what an explanation adds up to, checking every step on the way."""
    assert list(explanation) == KEYS
    for piece in explanation["pieces"]:
        assert list(piece) == ["name", "value", "weight", "contribution"]
        assert piece["contribution"] == pytest.approx(piece["value"] * piece["weight"], abs=1e-4)
    total = explanation["intercept"] + sum(each["contribution"] for each in explanation["pieces"])
    assert explanation["log_odds"] == pytest.approx(total, abs=1e-4)
    line = explanation["correction"]
    corrected = line["intercept"] + line["slope"] * explanation["log_odds"]
    assert explanation["corrected"] == pytest.approx(corrected, abs=1e-4)
    return 1 / (1 + math.exp(-explanation["corrected"]))


def test_a_lookup_explains_each_match(collection: CollectionClient) -> None:
    """Similarity first, the evidence that was seen after it, and the cut-offs of the collection."""
    collection.register("How do I enable dark mode?", "How do I turn dark mode on?", "Rust or Go?")
    answer = collection.ask("How do I disable dark mode?", explain=True)
    DuplicatesOut.model_validate(answer, strict=False, extra="forbid")
    settings = collection.http.get(collection.url).json()
    opposed = next(found for found in answer["matches"] if "enable" in found["text"])
    pieces = {piece["name"]: piece for piece in opposed["explanation"]["pieces"]}
    assert next(iter(pieces)) == "similarity"
    assert pieces["similarity"]["value"] == opposed["similarity"]
    assert pieces["opposite"]["value"] == 1.0
    assert pieces["opposite"]["contribution"] < 0
    for match in answer["matches"]:
        assert probability(match["explanation"]) == pytest.approx(match["probability"], abs=1e-4)
        assert match["explanation"]["cut_offs"] == settings["cut_offs"]
        assert match["explanation"]["correction"] == {"intercept": 0.0, "slope": 1.0}
        assert match["explanation"]["same_text"] is False


def test_nothing_is_explained_unasked(collection: CollectionClient) -> None:
    """Answers stay small: the key is not there."""
    collection.register("Rust or Go?")
    assert "explanation" not in collection.ask("Go or Rust?")["matches"][0]
    assert "explanation" not in collection.ask("Go or Rust?", explain=False)["matches"][0]


def test_the_same_text_is_explained_as_such(collection: CollectionClient) -> None:
    """No sum leads to a probability of 1: equal fingerprints do."""
    collection.register("Rust or Go?")
    match = collection.ask("rust or go", explain=True)["matches"][0]
    assert match["probability"] == 1.0
    assert match["explanation"]["same_text"] is True


def test_batches_and_comparisons_explain_too(collection: CollectionClient) -> None:
    """A lookup and a comparison of the same two texts say the same."""
    collection.register("How do I enable dark mode?")
    question = "How do I disable dark mode?"
    body = {"questions": [question], "explain": True}
    batch = collection.post("duplicates:batch", body).json()
    DuplicatesBatchOut.model_validate(batch, strict=False, extra="forbid")
    match = batch["results"][0]["matches"][0]
    pair = {"left": "How do I enable dark mode?", "right": question}
    answer = collection.http.post("/v1/compare", json={"pairs": [pair], "explain": True}).json()
    CompareOut.model_validate(answer, strict=False, extra="forbid")
    one = answer["results"][0]
    assert one["probability"] == pytest.approx(match["probability"], abs=2e-3)
    assert one["verdict"] == match["verdict"]
    names = [piece["name"] for piece in one["explanation"]["pieces"]]
    assert names == [piece["name"] for piece in match["explanation"]["pieces"]]
    assert probability(one["explanation"]) == pytest.approx(one["probability"], abs=1e-4)


def test_a_base_rate_shifts_the_log_odds(collection: CollectionClient) -> None:
    """By logit(own) - logit(the calibration's); it is kept, shown and taken back with null."""
    fitted = collection.http.get("/v1/info").json()["calibration"]["base_rate"]
    collection.register("How do I enable dark mode?")
    before = collection.ask("How to enable a dark mode?", explain=True)["matches"][0]
    shown = collection.http.put(collection.url, json={"base_rate": 0.05}).json()
    assert shown["settings"]["base_rate"] == 0.05
    after = collection.ask("How to enable a dark mode?", explain=True)["matches"][0]
    shift = math.log(0.05 / 0.95) - math.log(fitted / (1 - fitted))
    assert after["explanation"]["correction"]["intercept"] == pytest.approx(shift, abs=1e-4)
    assert after["explanation"]["log_odds"] == before["explanation"]["log_odds"]
    assert after["probability"] == pytest.approx(probability(after["explanation"]), abs=1e-4)
    assert after["probability"] < before["probability"]
    assert after["explanation"]["cut_offs"] == shown["cut_offs"]
    again = collection.http.put(collection.url, json={"base_rate": None}).json()
    assert again["settings"]["base_rate"] is None
    assert (
        collection.ask("How to enable a dark mode?")["matches"][0]["probability"]
        == (before["probability"])
    )


@pytest.mark.parametrize("wrong", [0, 1, -0.1, 1.5, "0.3"])
def test_a_base_rate_lies_between_0_and_1(collection: CollectionClient, wrong: object) -> None:
    """At 0 or 1 there would be nothing to ask."""
    response = collection.http.put(collection.url, json={"base_rate": wrong})
    assert response.status_code == 422
    assert response.json()["errors"][0]["loc"] == ["body", "base_rate"]


def test_an_aim_that_a_low_base_rate_puts_out_of_reach_is_said(
    collection: CollectionClient,
) -> None:
    """Among pairs of which one in a thousand is a duplicate: by a probability of the aim, 0.8."""
    usual = collection.http.get("/v1/info").json()["calibration"]["cut_offs"]
    assert usual["duplicate_reached"] is usual["review_reached"] is True
    body = {"base_rate": 0.001, "review_recall": 1.0}
    cut_offs = collection.http.put(collection.url, json=body).json()["cut_offs"]
    assert cut_offs["duplicate_at"] == 0.8
    assert cut_offs["duplicate_reached"] is False
    collection.register("How do I enable dark mode?")
    (match,) = collection.ask("How to enable a dark mode?", explain=True)["matches"]
    assert (match["verdict"] == "duplicate") is (match["probability"] >= 0.8)
    assert match["explanation"]["cut_offs"] == cut_offs


def test_texts_that_the_encoder_cannot_read_are_not_duplicates(
    collection: CollectionClient,
) -> None:
    """Their vectors are equal, so is nothing else; the very same text still is one."""
    collection.register({"id": "pizza", "text": "🍕🍕"})
    match = collection.ask("🍉🍉", explain=True)["matches"][0]
    assert match["similarity"] == pytest.approx(1.0, abs=1e-3)
    assert match["verdict"] == "distinct"
    assert collection.ask("🍕🍕")["verdict"] == "duplicate"
    (skipped,) = collection.register("🍕🍕", if_duplicate="skip")
    (created,) = collection.register("🍉🍉", if_duplicate="skip")
    assert (skipped["status"], created["status"]) == ("skipped", "created")


def test_cut_offs_out_of_order_name_both_values(shared_service: httpx.Client) -> None:
    """422, and which of the two is to be moved is the caller's to say."""
    response = shared_service.put(
        "/v1/collections/crossed", json={"duplicate_at": 0.25, "review_at": 0.75}
    )
    assert response.status_code == 422
    assert "duplicate_at (0.25)" in response.json()["detail"]
    assert "review_at (0.75)" in response.json()["detail"]
