"""Metrics over pairs, against values worked out by hand and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from training.evaluate import average_precision, precision_recall


def test_average_precision_by_hand() -> None:
    """Hits at ranks 1 and 3 of 4: (1/1 + 2/3) / 2."""
    assert average_precision([0.9, 0.8, 0.7, 0.1], [1, 0, 1, 0]) == pytest.approx(5 / 6)


def test_ties_are_accepted_together() -> None:
    """One hit among three equal similarities has precision 1/3 whatever their order."""
    assert average_precision([0.5, 0.5, 0.5], [1, 0, 0]) == pytest.approx(1 / 3)
    assert average_precision([0.5, 0.5, 0.5], [0, 0, 1]) == pytest.approx(1 / 3)


def test_it_agrees_with_scikit_learn() -> None:
    """On 2,000 random pairs with ties, the same figure."""
    rng = np.random.default_rng(7)
    scores = rng.integers(0, 300, 2000) / 300
    labels = rng.random(2000) < scores
    expected = average_precision_score(labels, scores)
    assert average_precision(scores, labels) == pytest.approx(expected, abs=1e-12)


def test_precision_and_recall_at_each_similarity() -> None:
    """At 0.8 two are accepted, one of the two duplicates among them."""
    curve = precision_recall([0.7, 0.9, 0.8], [True, True, False])
    np.testing.assert_allclose(curve.thresholds, [0.9, 0.8, 0.7])
    np.testing.assert_allclose(curve.precision, [1, 1 / 2, 2 / 3])
    np.testing.assert_allclose(curve.recall, [1 / 2, 1 / 2, 1])
    np.testing.assert_array_equal(curve.accepted, [1, 2, 3])


def test_labels_of_one_kind_have_no_precision() -> None:
    """Without non-duplicates, or with lengths that differ, there is nothing to measure."""
    with pytest.raises(ValueError, match="needs both"):
        average_precision([0.1, 0.2], [1, 1])
    with pytest.raises(ValueError, match="are not one"):
        average_precision([0.1, 0.2], [1])
