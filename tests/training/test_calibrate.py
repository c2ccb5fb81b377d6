"""The fit finds the curve that the data came from, and its table says what was measured."""

import math

import numpy as np
import pytest
from scipy.special import expit

from app.domain.calibration import CalibrationError, closeness_of
from app.domain.evidence.pair import NAMES
from training.calibrate import FEWEST_PAIRS_A_ROW, fit, log_loss, log_odds
from training.evidence_prior import PRIOR
from training.metrics import expected_calibration_error


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


def test_evidence_has_the_weights_it_was_drawn_with() -> None:
    """A synthetic set with a known answer: 60,000 pairs, three pieces seen in a third of them.

    P = logistic(-6 + 6 s + 1.5 closeness - 1.5 negation - 3 numbers + 0.5 head), the rest weighs
    nothing.
    """
    rng = np.random.default_rng(8)
    count = 60_000
    similarities, scores = rng.uniform(0, 1, count), rng.normal(size=count)
    evidence = np.where(rng.random((count, len(NAMES))) < 1 / 3, rng.random((count, 1)), 0.0)
    weights = dict.fromkeys(NAMES, 0.0) | {"negation": -1.5, "numbers": -3.0}
    logits = -6 + 6 * similarities + evidence @ np.array(list(weights.values())) + 0.5 * scores
    logits += 1.5 * np.array([closeness_of(similarity) for similarity in similarities])
    labels = rng.random(count) < expit(logits)
    found = fit(similarities, labels, population="drawn", evidence=evidence, scores=scores)
    assert found.intercept == pytest.approx(-6, abs=0.3)
    assert found.slope == pytest.approx(6, abs=0.6)
    assert found.closeness == pytest.approx(1.5, abs=0.25)
    assert found.head == pytest.approx(0.5, abs=0.03)
    assert found.evidence["negation"] == pytest.approx(-1.5, abs=0.15)
    assert found.evidence["numbers"] == pytest.approx(-3.0, abs=0.2)
    assert found.evidence.get("opposite", 0.0) == pytest.approx(0.0, abs=0.15)
    predicted = expit(log_odds(found, similarities, evidence, scores))
    assert expected_calibration_error(predicted, labels) < 0.01


def test_evidence_never_speaks_for_a_duplicate() -> None:
    """Drawn with a weight above 0, a piece is left out and the others fitted without it."""
    rng = np.random.default_rng(8)
    count = 20_000
    similarities = rng.uniform(0, 1, count)
    evidence = np.zeros((count, len(NAMES)))
    evidence[:, 0] = rng.random(count) < 0.5
    labels = rng.random(count) < expit(-6 + 9 * similarities + 2 * evidence[:, 0])
    found = fit(similarities, labels, population="drawn", evidence=evidence)
    assert "negation" not in found.evidence
    assert found.most_evidence == 0.0


def test_a_head_never_speaks_the_wrong_way() -> None:
    """Drawn with a weight below 0, it has none, and the rest is fitted as without it."""
    rng = np.random.default_rng(8)
    similarities, scores = rng.uniform(0, 1, 20_000), rng.normal(size=20_000)
    labels = rng.random(20_000) < expit(-6 + 9 * similarities - 0.5 * scores)
    evidence = np.zeros((20_000, len(NAMES)))
    found = fit(similarities, labels, population="drawn", evidence=evidence, scores=scores)
    assert found == fit(similarities, labels, population="drawn", evidence=evidence)


def test_unseen_evidence_keeps_its_prior() -> None:
    """Pairs that show nothing of a piece leave it where it was."""
    similarities, labels = drawn(2_000, -6, 9)
    evidence = np.zeros((2_000, len(NAMES)))
    found = fit(similarities, labels, population="drawn", evidence=evidence)
    assert found.evidence == pytest.approx(PRIOR, abs=1e-6)
    assert found.intercept == pytest.approx(fit(similarities, labels, population="drawn").intercept)
