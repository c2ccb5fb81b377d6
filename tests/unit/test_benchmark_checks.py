"""What the bench accepts as an answer, and what fails a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from benchmarks import measuring
from benchmarks.bench_rounds import Material, ratios
from benchmarks.install_size import closure, size
from benchmarks.load import Load, LoadFailed
from benchmarks.measuring import Budget, Figures, agreements, labelled_lookups
from benchmarks.systems import DEJA_WIRE, OBVIOUS_WIRE, TXTAI_WIRE, Anchor, LabelledQuestion, System


def figures(rate: float, p50: float) -> Figures:
    return Figures(100, rate, p50, 2 * p50, 0.0, 0.0, 0.0)


def body(request: bytes) -> Any:
    return json.loads(request.partition(b"\r\n\r\n")[2])


class Fixed:
    """A system that finds the same texts for any question; without labels where None."""

    name = "fixed"

    def __init__(self, found: list[str] | None) -> None:
        self._found = found

    def ask_labelled(self, questions: Sequence[LabelledQuestion]) -> Load | None:
        """Return the same for each."""
        if self._found is None:
            return None
        answers = [json.dumps(self._found).encode()] * len(questions)
        return Load(answers, np.full(len(questions), 0.01), 0.1, 0.0)

    def texts(self, answer: bytes) -> list[list[str]]:
        """Return what `ask_labelled` wrote."""
        return [json.loads(answer)]

    def cpu_seconds(self) -> float:
        """Return none: nothing runs."""
        return 0.0

    def pause(self) -> None:
        """Do nothing."""

    def resume(self) -> None:
        """Do nothing."""


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
    assert TXTAI_WIRE.read([]) == [[]]  # which is not ten matches, and so fails the run


def test_questions_are_escaped_in_a_path() -> None:
    """What has a meaning in a URL does not end the question."""
    assert b"GET /search?query=a%26b%20%C3%BC%3F&limit=10 " in TXTAI_WIRE.one(80, "a&b ü?")


def test_registering_with_txtai_takes_two_requests_in_turn() -> None:
    """An anchor is found only after the second one."""
    add, upsert = TXTAI_WIRE.register(80, [Anchor("a", "text", "x")])
    assert body(add) == [{"id": "a", "text": "text", "label": "x"}]
    assert upsert.startswith(b"GET /upsert ")


def test_a_label_is_asked_for_as_each_server_has_it() -> None:
    """In the body for Deja, in SQL with parameters for txtai; the obvious service has none."""
    one = LabelledQuestion('it\'s "a&b"', "x")
    assert DEJA_WIRE.labelled is not None
    assert TXTAI_WIRE.labelled is not None
    assert OBVIOUS_WIRE.labelled is None
    assert body(DEJA_WIRE.labelled(80, one))["filter"] == {"label": "x"}
    asked = parse_qs(urlsplit(TXTAI_WIRE.labelled(80, one).split()[1].decode()).query)
    assert json.loads(asked["parameters"][0]) == {"question": one.question, "label": "x"}
    assert "label = :label" in asked["query"][0]


def test_questions_ask_for_all_labels_in_turn() -> None:
    """Their anchors are held by label, and no question is one of another workload."""
    anchors = [Anchor(str(place), f"anchor {place}", "ab"[place % 2]) for place in range(4)]
    size = Material.WORKLOADS * 4
    material = Material(anchors, [], [f"question {place}" for place in range(size)], 1)
    labelled = material.labelled(0)
    assert [one.label for one in labelled] == ["a", "b", "a", "b"]
    assert material.held == {"a": {"anchor 0", "anchor 2"}, "b": {"anchor 1", "anchor 3"}}
    others = {text for workload in range(5) for text in material.asked(0, workload)}
    assert others.isdisjoint(one.question for one in labelled)


def test_an_answer_with_another_label_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten matches are not enough, and ten of that label are; without labels there is no figure."""
    monkeypatch.setattr(measuring, "_PAUSE_SECONDS", 0.0)
    texts = [f"text {place}" for place in range(11)]
    held = {"x": set(texts[:10]), "y": {texts[10]}}
    questions = [LabelledQuestion(f"question {place}", "x") for place in range(5)]

    def looked_up(found: list[str] | None) -> tuple[Figures, list[str]] | None:
        system = cast("System", Fixed(found))
        return labelled_lookups(system, questions, held, Budget(1.0, 5, 5))

    right = looked_up(texts[:10])
    assert right is not None
    assert (right[0].count, right[1]) == (5, ["text 0"] * 5)
    with pytest.raises(LoadFailed, match="not all of label 'x'"):
        looked_up(texts[1:])
    with pytest.raises(LoadFailed, match="9 matches, not 10"):
        looked_up(texts[:9])
    assert looked_up(None) is None


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
