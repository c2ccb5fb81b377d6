"""What the bench accepts as an answer, and what fails a run."""

from __future__ import annotations

import json

import pytest

from benchmarks.bench_rounds import ratios
from benchmarks.install_size import closure, size
from benchmarks.load import LoadFailed
from benchmarks.measuring import Budget, Figures, agreements
from benchmarks.systems import DEJA_WIRE, OBVIOUS_WIRE, TXTAI_WIRE


def figures(rate: float, p50: float) -> Figures:
    return Figures(100, rate, p50, 2 * p50, 0.0, 0.0, 0.0)


def test_systems_with_the_same_vectors_have_to_agree() -> None:
    """Two of the same weights that agree on half of the questions fail the run."""
    with pytest.raises(LoadFailed, match=r"obvious and txtai .* only 50.0% of 2 questions"):
        agreements({"obvious": ["a", "b"], "txtai": ["a", "c"]})


def test_systems_with_other_vectors_may_differ() -> None:
    """Only how often they agree is reported, on the questions that both were asked."""
    assert agreements({"deja": ["a", "b", "c"], "txtai": ["a", "c"]}) == {"deja txtai": 0.5}


def test_nearest_comes_first_whatever_the_order_of_the_answer() -> None:
    """Answers of one question and of several are read alike."""
    far, near = {"text": "far", "similarity": 0.2}, {"text": "near", "similarity": 0.9}
    answer = {"matches": [far, near]}
    for wire in (DEJA_WIRE, OBVIOUS_WIRE):
        assert wire.read(answer) == [["near", "far"]]
        assert wire.read({"results": [answer, answer]}) == [["near", "far"]] * 2
    rows = [{"text": "near"}, {"text": "far"}]
    assert TXTAI_WIRE.read(rows) == [["near", "far"]]
    assert TXTAI_WIRE.read([rows, rows]) == [["near", "far"]] * 2


def test_questions_are_escaped_in_a_path() -> None:
    """What has a meaning in a URL does not end the question."""
    assert b"GET /search?query=a%26b%20%C3%BC%3F&limit=10 " in TXTAI_WIRE.one(80, "a&b ü?")


def test_registering_with_txtai_takes_two_requests_in_turn() -> None:
    """An anchor is found only after the second one."""
    add, upsert = TXTAI_WIRE.register(80, [("a", "text")])
    assert json.loads(add.partition(b"\r\n\r\n")[2]) == [{"id": "a", "text": "text"}]
    assert upsert.startswith(b"GET /upsert ")


def test_ratios_are_of_rates_and_for_one_client_of_latencies() -> None:
    """Of open loops, whose rates are given, there is none."""
    row = {"deja": figures(400.0, 6.0), "floor": figures(800.0, 2.0)}
    assert ratios({"one": row, "open 50%": row, "many": row}) == {
        "one rate": {"floor": 0.5},
        "one p50": {"floor": 3.0},
        "many rate": {"floor": 0.5},
    }


def test_a_budget_is_kept_within_its_bounds() -> None:
    """Two seconds of 50 a second are 100; bounds win."""
    budget = Budget(2.0, 20, 150)
    assert [budget.count(rate) for rate in (50.0, 1.0, 1_000.0)] == [100, 20, 150]


def test_a_budget_asks_for_no_more_than_there_is() -> None:
    """Within 90 texts, 90 are asked at any rate; what lacks some fails, and is never cut short."""
    budget = Budget(2.0, 20, 150)
    texts = [str(number) for number in range(90)]
    assert budget.within(90).chosen(texts, 1_000.0) == texts
    assert budget.within(10).chosen(texts, 1.0) == texts[:10]
    with pytest.raises(LoadFailed, match="150 distinct texts are needed, and 90 are there"):
        budget.chosen(texts, 1_000.0)


def test_a_size_counts_what_a_package_needs() -> None:
    """FastAPI needs pydantic; what only its extras need does not count."""
    found = closure(["fastapi"])
    assert {"fastapi", "pydantic", "starlette"} <= set(found)
    assert "uvicorn" not in found
    assert "uvicorn" in closure(["fastapi[standard]"])
    assert size(found["fastapi"]) > 100_000


def test_a_package_that_is_not_there_is_said() -> None:
    """A size without it would be too small."""
    with pytest.raises(SystemExit, match="no-such-package is not installed"):
        closure(["no-such-package"])
