"""How labels are scored: what counts, what is relative, what sums to one."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.calibration import CalibrationError
from app.domain.labels import (
    ANCHORS,
    FALLBACK,
    LABELS,
    LabelCalibration,
    Near,
    near_of,
    nearest,
    none_inputs,
    pooled,
    score,
)

WEIGHTS = FALLBACK.weights


def near(*anchors: tuple[float, int], hubness: float = 0.3) -> Near:
    """Return anchors by (similarity, label's number)."""
    return Near(
        np.array([similarity for similarity, _ in anchors], np.float32),
        np.array([label for _, label in anchors]),
        np.full(len(anchors), hubness, np.float32),
    )


def test_labels_are_numbered_by_their_nearest_anchor() -> None:
    """Of each label the nearest anchors count, five at most."""
    labels = np.array([7, 7, 3, 7, 7, 7, 7, 9])
    places, numbers = nearest(labels)
    assert places.tolist() == [0, 1, 2, 3, 4, 5, 7]
    assert numbers.tolist() == [0, 0, 1, 0, 0, 0, 2]


def test_only_the_nearest_labels_count() -> None:
    """32 of them, whatever the others hold."""
    places, numbers = nearest(np.arange(100))
    assert places.tolist() == list(range(LABELS))
    assert numbers.tolist() == list(range(LABELS))


@given(st.lists(st.integers(0, 60), min_size=1, max_size=300))
def test_what_counts_is_what_a_loop_would_choose(labels: list[int]) -> None:
    """Against the plain statement of the rule."""
    seen: dict[int, int] = {}
    turns: dict[int, int] = {}
    expected = []
    for place, label in enumerate(labels):
        number = seen.setdefault(label, len(seen))
        turns[label] = turns.get(label, 0) + 1
        if number < LABELS and turns[label] <= ANCHORS:
            expected.append((place, number))
    places, numbers = nearest(np.array(labels))
    assert list(zip(places.tolist(), numbers.tolist(), strict=True)) == expected


def test_hubness_is_the_mean_cosine_to_other_labels() -> None:
    """An anchor's own label has no part in it; hand-computed."""
    between = np.array([[1.0, 0.9, 0.2], [0.9, 1.0, 0.4], [0.2, 0.4, 1.0]], np.float32)
    found = near_of(np.array([0.8, 0.7, 0.6], np.float32), np.array([0, 0, 1]), between)
    assert found.hubness.tolist() == pytest.approx([0.2, 0.4, 0.3])
    alone = near_of(np.array([0.8, 0.7], np.float32), np.array([0, 0]), between[:2, :2])
    assert alone.hubness.tolist() == [0.0, 0.0]


def test_a_score_is_a_soft_maximum_of_relative_similarities() -> None:
    """One anchor's is its similarity less a share of its hubness; and two of the same, by hand."""
    one, two = pooled(near((0.8, 0), (0.8, 1), (0.8, 1)), WEIGHTS)
    relative = 0.8 - WEIGHTS.relative * 0.3
    assert one == pytest.approx(relative, abs=1e-6)
    gain = (1 - WEIGHTS.crowd) * math.log(2) / WEIGHTS.pooling
    assert two == pytest.approx(relative + gain, abs=1e-6)


@given(
    st.lists(st.tuples(st.floats(-1, 1), st.integers(0, 5)), min_size=1, max_size=30),
)
def test_labels_and_none_add_up_to_one(anchors: list[tuple[float, int]]) -> None:
    """Whatever is near."""
    ordered = sorted(anchors, reverse=True)
    places, labels = nearest(np.array([label for _, label in ordered]))
    found = Near(
        np.array([ordered[place][0] for place in places], np.float32),
        labels,
        np.full(len(places), 0.3, np.float32),
    )
    scored = score(found, WEIGHTS)
    assert scored.labels.sum() + scored.none == pytest.approx(1.0)
    assert (scored.labels >= 0).all()
    assert 0 <= scored.none <= 1


def test_a_nearer_anchor_makes_its_label_likelier() -> None:
    """And with one label far ahead, none of it is left to doubt between labels."""
    before = score(near((0.7, 0), (0.5, 1)), WEIGHTS)
    after = score(near((0.7, 0), (0.65, 1)), WEIGHTS)
    assert after.labels[1] > before.labels[1]
    assert before.labels[0] > before.labels[1]


def test_none_falls_as_the_best_similarity_rises() -> None:
    """With everything else the same: one label."""
    chances = [score(near((similarity, 0)), WEIGHTS).none for similarity in (0.1, 0.4, 0.7, 0.95)]
    assert chances == sorted(chances, reverse=True)
    assert chances[0] > 0.8
    assert chances[-1] < 0.2


def test_a_single_label_has_no_neighbours() -> None:
    """What the fit saw on average stands in for hubness."""
    found = near((0.8, 0), (0.6, 0))
    best, hubness = none_inputs(found, WEIGHTS)
    assert best == pytest.approx(0.8)
    assert hubness == WEIGHTS.alone


def test_a_calibration_comes_back_from_json_as_it_was() -> None:
    """Through text, as a file would hold it."""
    assert LabelCalibration.from_json(json.loads(json.dumps(FALLBACK.to_json()))) == FALLBACK


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format": 2}, "labels.format must be 1, not 2"),
        ({"weights": None}, "labels.weights must be an object"),
        ({"none_share": 0}, "labels.none_share must be between 0 and 1"),
        ({"population": ""}, "labels.population must be a text"),
        ({"texts": 0}, "labels.texts must be a whole number above 0"),
    ],
)
def test_a_malformed_section_is_named(change: dict[str, Any], problem: str) -> None:
    """By the field at fault."""
    with pytest.raises(CalibrationError, match=problem):
        LabelCalibration.from_json({**FALLBACK.to_json(), **change})


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("sharpness", 0, "labels.weights.sharpness must be above 0"),
        ("best", "x", "labels.weights.best must be a number, not 'x'"),
        ("other", 1, "labels.weights.other is not a weight this version knows"),
    ],
)
def test_a_malformed_weight_is_named(name: str, value: object, problem: str) -> None:
    """One that is not known would change the answer if it were left out."""
    section: dict[str, Any] = json.loads(json.dumps(FALLBACK.to_json()))
    section["weights"][name] = value
    with pytest.raises(CalibrationError, match=problem):
        LabelCalibration.from_json(section)


def test_a_relative_similarity_can_change_the_winner() -> None:
    """An anchor near to everything loses to one a little less near that stands alone."""
    found = Near(
        np.array([0.80, 0.78], np.float32), np.array([0, 1]), np.array([0.7, 0.2], np.float32)
    )
    assert score(found, WEIGHTS).labels.argmax() == 1
    assert score(found, replace(WEIGHTS, relative=0.0)).labels.argmax() == 0
