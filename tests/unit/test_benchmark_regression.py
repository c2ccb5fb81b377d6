"""What counts as a large loss of speed."""

from __future__ import annotations

import pytest

from benchmarks.made_up import made_up
from benchmarks.regression import LEAST, Rates, judge


def test_a_service_made_slow_fails() -> None:
    """Half the bound in every round is a loss, whatever the machine's own speed."""
    slow = [Rates(deja=floor * LEAST / 2, floor=floor) for floor in (50.0, 1_000.0)]
    judged = judge(slow)
    assert not judged.passed
    assert f"at least {LEAST:.2f} is asked for" in judged.said


def test_the_best_round_counts() -> None:
    """Rounds that something else disturbed do not fail a run with one good round."""
    rounds = [Rates(100.0, 1_000.0), Rates(600.0, 1_000.0), Rates(50.0, 1_000.0)]
    judged = judge(rounds, least=0.6)
    assert judged.passed
    assert judged.said.startswith("Deja answers 0.60 of what the floor does, each in its best of 3")


def test_a_floor_that_was_disturbed_hides_no_loss() -> None:
    """A round in which the floor alone was slow has a fine ratio, which does not count."""
    assert not judge([Rates(300.0, 1_000.0), Rates(300.0, 400.0)], least=0.6).passed


def test_just_below_the_bound_fails() -> None:
    """0.59 is not 0.6."""
    assert not judge([Rates(590.0, 1_000.0)], least=0.6).passed


def test_made_up_questions_are_distinct_and_drawn_by_a_seed() -> None:
    """No question comes twice, and the same seed gives the same ones."""
    drawn = made_up(5_000, seed=1)
    assert len(set(drawn)) == 5_000
    assert drawn == made_up(5_000, seed=1)
    assert drawn != made_up(5_000, seed=2)
    with pytest.raises(ValueError, match="only 14112 questions"):
        made_up(20_000, seed=1)
