"""The fit finds the curve that the data came from, and its table says what was measured."""

import math

import numpy as np
import pytest
from scipy.special import expit

from app.domain.calibration import CalibrationError
from training.calibrate import FEWEST_PAIRS_A_ROW, fit, log_loss, log_odds


def drawn(count: int, intercept: float, slope: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    similarities = rng.uniform(0, 1, count)
    labels = rng.random(count) < 1 / (1 + np.exp(-(intercept + slope * similarities)))
    return similarities, labels


def test_the_fit_recovers_the_curve() -> None:
    """From 200,000 pairs drawn with P = logistic(-6 + 9 s), both coefficients to 1%."""
    found = fit(*drawn(200_000, -6, 9), population="drawn")
    assert found.intercept == pytest.approx(-6, rel=0.01)
    assert found.slope == pytest.approx(9, rel=0.01)


def test_the_fit_is_a_maximum_of_the_likelihood() -> None:
    """At a maximum, expected and seen duplicates agree, in number and weighted by similarity."""
    similarities, labels = drawn(2_000, -6, 9)
    found = fit(similarities, labels, population="drawn")
    expected = np.array([found.probability(value) for value in similarities])
    assert expected.sum() == pytest.approx(labels.sum(), abs=0.01)
    assert expected @ similarities == pytest.approx(labels @ similarities, abs=0.01)
    assert found.base_rate == pytest.approx(labels.mean(), abs=1e-6)
    assert found.pairs == 2_000
    assert found.population == "drawn"


def test_each_row_is_what_its_similarity_measures() -> None:
    """Every row's precision and recall are those of accepting at or above its probability."""
    similarities, labels = drawn(5_000, -6, 9)
    found = fit(similarities, labels, population="drawn")
    chances = expit(log_odds(found, similarities))
    assert found.cut_offs_table[0].probability == 0.005
    assert len(found.cut_offs_table) > 150
    for row in found.cut_offs_table:
        accepted = chances >= row.probability
        assert accepted.sum() >= FEWEST_PAIRS_A_ROW
        assert row.precision == pytest.approx(labels[accepted].mean(), abs=1e-6)
        assert row.recall == pytest.approx(labels[accepted].sum() / labels.sum(), abs=1e-6)


def test_log_loss_by_hand() -> None:
    """A duplicate at P and a non-duplicate at Q cost -(ln P + ln (1 - Q)) / 2."""
    found = fit(*drawn(2_000, -6, 9), population="drawn")
    p, q = found.probability(0.9), found.probability(0.3)
    expected = -(math.log(p) + math.log(1 - q)) / 2
    assert log_loss(log_odds(found, [0.9, 0.3]), [1, 0]) == pytest.approx(expected, abs=1e-12)


def test_parted_labels_have_a_finite_fit() -> None:
    """Where one similarity parts them, the targets are Platt's: 5/6 of 4 duplicates, 1/4 of 2.

    Two similarities and two targets: the fit goes through both points.
    """
    similarities, labels = [0.9, 0.9, 0.9, 0.9, 0.1, 0.1], [1, 1, 1, 1, 0, 0]
    found = fit(similarities, labels, population="few")
    assert found.probability(0.9) == pytest.approx(5 / 6, abs=1e-4)
    assert found.probability(0.1) == pytest.approx(1 / 4, abs=1e-4)
    assert found.base_rate == pytest.approx(4 / 6, abs=1e-6)
    assert found.pairs == 6


def test_a_few_pairs_have_a_table() -> None:
    """A tenth of 40 pairs is enough for a row, so the table goes as far as four lie above it."""
    similarities, labels = drawn(40, -6, 9)
    found = fit(similarities, labels, population="few")
    chances = expit(log_odds(found, similarities))
    accepted = [int((chances >= row.probability).sum()) for row in found.cut_offs_table]
    assert min(accepted) == 4
    beyond = found.cut_offs_table[-1].probability + 0.005
    assert (chances >= beyond).sum() < 4


def test_duplicates_that_are_less_alike_have_no_fit() -> None:
    """More alike would be less likely."""
    with pytest.raises(CalibrationError, match="must be above 0"):
        fit([0.1, 0.2, 0.6, 0.8, 0.9], [1, 1, 0, 1, 0], population="odd")
