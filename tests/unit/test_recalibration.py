"""Corrections fitted to verdicts: what few of them may do, and many must."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.cut_offs import Correction
from app.domain.recalibration import (
    EXTREME,
    Verdicts,
    fit_correction,
    left_out,
    quality,
)


def world(
    number: int, *, intercept: float = 0.0, slope: float = 1.0, seed: int = 0, slips: float = 0.0
) -> Verdicts:
    """Return verdicts whose truth is `intercept + slope * log odds`.

    slips: share of verdicts that are given the wrong way round.
    """
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(0.5, 2.0, number)
    chance = 1 / (1 + np.exp(-(intercept + slope * log_odds)))
    duplicate = rng.random(number) < chance
    return Verdicts(log_odds, duplicate ^ (rng.random(number) < slips))


def loss(verdicts: Verdicts, correction: Correction) -> float:
    corrected = correction.intercept + correction.slope * verdicts.log_odds
    return quality(corrected, verdicts.duplicate).log_loss


def test_no_verdicts_change_nothing() -> None:
    """The correction of nobody's feedback is none."""
    assert fit_correction(Verdicts.of([], [])) == Correction(0.0, 1.0)


@pytest.mark.parametrize(("intercept", "slope"), [(-1.5, 1.0), (1.0, 0.6), (0.5, 1.4)])
def test_many_verdicts_find_the_known_answer(intercept: float, slope: float) -> None:
    """Four thousand verdicts, one in fifty a slip, against the line they were drawn from."""
    found = fit_correction(world(4000, intercept=intercept, slope=slope, slips=0.02))
    assert found.intercept == pytest.approx(intercept, abs=0.15)
    assert found.slope == pytest.approx(slope, abs=0.1)


@pytest.mark.parametrize("intercept", [-1.5, 1.5])
def test_ten_verdicts_help_where_the_population_differs(intercept: float) -> None:
    """Over forty draws of ten, the loss on 4,000 others falls by a twentieth on average; no draw
    costs more than 0.025 nats, and nine in ten help.
    """
    test = world(4000, intercept=intercept, seed=1000)
    before = loss(test, Correction())
    after = [
        loss(test, fit_correction(world(10, intercept=intercept, seed=seed))) for seed in range(40)
    ]
    assert np.mean(after) < 0.96 * before
    assert max(after) - before < 0.025
    assert np.mean(np.array(after) < before) >= 0.9


def test_ten_verdicts_harm_little_where_nothing_differs() -> None:
    """Over forty draws of ten from the population it was fitted on, at most 0.01 nats are lost."""
    test = world(4000, seed=1000)
    before = loss(test, Correction())
    after = [loss(test, fit_correction(world(10, seed=seed))) for seed in range(40)]
    assert max(after) - before < 0.01


@pytest.mark.parametrize("lie", ["all wrong", "all duplicate", "all distinct"])
def test_ten_verdicts_never_wreck_a_calibration(lie: str) -> None:
    """All wrong or all alike, they cost at most 0.035 nats, of 0.45, and answers on the right side
    of 0.5 become fewer by four in a hundred at most.
    """
    test = world(4000, seed=1000)
    before = quality(test.log_odds, test.duplicate)
    for seed in range(40):
        given = world(10, seed=seed)
        said = {
            "all wrong": ~given.duplicate,
            "all duplicate": np.ones(10, np.bool_),
            "all distinct": np.zeros(10, np.bool_),
        }[lie]
        correction = fit_correction(Verdicts(given.log_odds, said))
        after = quality(correction.intercept + correction.slope * test.log_odds, test.duplicate)
        assert after.log_loss - before.log_loss < 0.035
        assert after.accuracy > before.accuracy - 0.04


def test_one_slip_on_a_sure_thing_does_not_outweigh_the_rest() -> None:
    """A verdict against a probability of all but 1 moves the middle by one in a hundred at most."""
    honest = world(100)
    slip = Verdicts(np.append(honest.log_odds, EXTREME), np.append(honest.duplicate, False))
    difference = fit_correction(slip).intercept - fit_correction(honest).intercept
    assert abs(difference) < 0.04


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60),
)
def test_every_correction_keeps_the_order(verdicts: list[tuple[float, bool]]) -> None:
    """Whatever is said, of whatever probabilities, 0 and 1 included: the slope is above 0."""
    found = fit_correction(Verdicts.of([p for p, _ in verdicts], [y for _, y in verdicts]))
    assert math.isfinite(found.intercept)
    assert 0 < found.slope < math.inf


def test_the_fit_is_the_best_place() -> None:
    """No nearby line has a higher posterior: seen over a grid around the answer."""
    from app.domain.recalibration import _posterior

    verdicts = world(50, intercept=-1.0, slope=0.7)
    found = fit_correction(verdicts)
    place = np.array([found.intercept, math.log(found.slope)])
    best, gradient, _ = _posterior(place, verdicts)
    assert np.abs(gradient).max() < 1e-6
    steps = np.linspace(-0.5, 0.5, 21)
    around = [_posterior(place + np.array([a, b]), verdicts)[0] for a in steps for b in steps]
    assert min(around) >= best - 1e-9


@pytest.mark.parametrize("count", [3, 100, 101, 250])
def test_left_out_verdicts_have_no_say_in_their_own_probability(count: int) -> None:
    """Turning one round changes others' corrected log odds, and never its own fold's."""
    verdicts = world(count)
    before = left_out(verdicts)
    turned = verdicts.duplicate.copy()
    turned[2] = not turned[2]
    after = left_out(Verdicts(verdicts.log_odds, turned))
    folds = count if count <= 100 else 10
    same = np.arange(count) % folds == 2
    assert np.array_equal(before[same], after[same])
    assert (before[~same] != after[~same]).all()


def test_quality_is_what_its_words_say() -> None:
    """Two sure and right, two even: hand-computed."""
    found = quality(np.array([0.0, 0.0, 20.0, -20.0]), np.array([True, False, True, False]))
    assert found.log_loss == pytest.approx(math.log(2) / 2, abs=1e-6)
    assert found.accuracy == 0.75
    assert found.error == pytest.approx(0.0, abs=1e-6)
