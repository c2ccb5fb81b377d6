"""The fit finds the curve that the data came from, and its table says what was measured."""

import math

import numpy as np
import pytest

from training.calibrate import FEWEST_PAIRS_A_ROW, fit, log_loss


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
    """Every row's precision and recall are those of accepting at or above its similarity."""
    similarities, labels = drawn(5_000, -6, 9)
    found = fit(similarities, labels, population="drawn")
    assert found.cut_offs_table[0].probability == 0.005
    assert len(found.cut_offs_table) > 150
    for row in found.cut_offs_table:
        accepted = similarities >= row.similarity
        assert accepted.sum() >= FEWEST_PAIRS_A_ROW
        assert row.precision == pytest.approx(labels[accepted].mean(), abs=1e-6)
        assert row.recall == pytest.approx(labels[accepted].sum() / labels.sum(), abs=1e-6)
        assert found.probability(row.similarity) == pytest.approx(row.probability, abs=1e-4)


def test_log_loss_by_hand() -> None:
    """A duplicate at P and a non-duplicate at Q cost -(ln P + ln (1 - Q)) / 2."""
    found = fit(*drawn(2_000, -6, 9), population="drawn")
    p, q = found.probability(0.9), found.probability(0.3)
    expected = -(math.log(p) + math.log(1 - q)) / 2
    assert log_loss(found, [0.9, 0.3], [1, 0]) == pytest.approx(expected, abs=1e-12)
