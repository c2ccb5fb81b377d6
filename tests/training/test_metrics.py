"""Metrics against values worked out by hand and scikit-learn."""

import math

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    ndcg_score,
    roc_auc_score,
)

from training.metrics import (
    average_precision,
    best_accuracy,
    best_f1,
    expected_calibration_error,
    map_at,
    mrr_at,
    ndcg_at,
    precision_recall,
    recall_at,
    reliability,
    roc_auc,
)

# Three queries: relevant at ranks 1 and 4 of 3 relevant texts; at rank 2 of 1; none found of 2.
RELEVANCE = [[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]]
RELEVANT = [3, 1, 2]


def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Return 2,000 scores with many ties, and labels that go with them more often than not."""
    rng = np.random.default_rng(7)
    scores = rng.integers(0, 300, 2000) / 300
    return scores, rng.random(2000) < scores


def test_average_precision_by_hand() -> None:
    """Hits at ranks 1 and 3 of 4: (1/1 + 2/3) / 2."""
    assert average_precision([0.9, 0.8, 0.7, 0.1], [1, 0, 1, 0]) == pytest.approx(5 / 6)


def test_ties_are_accepted_together() -> None:
    """One hit among three equal similarities has precision 1/3 whatever their order."""
    assert average_precision([0.5, 0.5, 0.5], [1, 0, 0]) == pytest.approx(1 / 3)
    assert average_precision([0.5, 0.5, 0.5], [0, 0, 1]) == pytest.approx(1 / 3)


def test_precision_and_recall_at_each_similarity() -> None:
    """At 0.8 two are accepted, one of the two duplicates among them."""
    curve = precision_recall([0.7, 0.9, 0.8], [True, True, False])
    np.testing.assert_allclose(curve.thresholds, [0.9, 0.8, 0.7])
    np.testing.assert_allclose(curve.precision, [1, 1 / 2, 2 / 3])
    np.testing.assert_allclose(curve.recall, [1 / 2, 1 / 2, 1])
    np.testing.assert_array_equal(curve.accepted, [1, 2, 3])


def test_a_tie_is_half_a_pair_told_apart() -> None:
    """Of the 2 x 2 pairs of a duplicate with another, 2 are in order, 1 tied, 1 out of order."""
    assert roc_auc([0.9, 0.5, 0.5, 0.1], [1, 0, 1, 0]) == pytest.approx(3.5 / 4)
    assert roc_auc([0.9, 0.2, 0.2, 0.8], [1, 1, 0, 0]) == pytest.approx(2.5 / 4)
    assert roc_auc([0.5, 0.5], [0, 1]) == pytest.approx(0.5)


def test_average_precision_and_roc_auc_agree_with_scikit_learn() -> None:
    """On 2,000 random pairs with ties, the same figures."""
    scores, labels = drawn()
    expected = average_precision_score(labels, scores)
    assert average_precision(scores, labels) == pytest.approx(expected, abs=1e-12)
    assert roc_auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_best_f1_and_accuracy_are_those_of_the_best_cut_off() -> None:
    """Trying each similarity as the cut-off with scikit-learn's figures finds nothing better."""
    scores, labels = drawn()
    cut_offs = [*np.unique(scores), 2.0]
    expected = max(f1_score(labels, scores >= cut, zero_division=0) for cut in cut_offs)
    assert best_f1(scores, labels) == pytest.approx(expected, abs=1e-12)
    expected = max(accuracy_score(labels, scores >= cut) for cut in cut_offs)
    assert best_accuracy(scores, labels) == pytest.approx(expected, abs=1e-12)


def test_accepting_no_pair_may_be_the_most_accurate() -> None:
    """Where the one duplicate of four has the lowest similarity, 3 of 4 is the best there is."""
    assert best_accuracy([0.9, 0.8, 0.7, 0.1], [0, 0, 0, 1]) == 0.75
    assert best_f1([0.9, 0.8, 0.7, 0.1], [0, 0, 0, 1]) == pytest.approx(2 / 5)


@pytest.mark.parametrize("metric", [average_precision, roc_auc, best_f1, best_accuracy])
def test_labels_of_one_kind_tell_nothing(metric: object) -> None:
    """Without non-duplicates, or with lengths that differ, there is nothing to measure."""
    assert callable(metric)
    with pytest.raises(ValueError, match="needs both"):
        metric([0.1, 0.2], [1, 1])
    with pytest.raises(ValueError, match="are not one"):
        metric([0.1, 0.2], [1])


def test_ranking_metrics_by_hand() -> None:
    """Each figure is the mean over the three queries of what its definition gives for them."""
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    first = (1 + 1 / math.log2(5)) / ideal
    assert ndcg_at(10, RELEVANCE, RELEVANT) == pytest.approx((first + 1 / math.log2(3) + 0) / 3)
    assert mrr_at(10, RELEVANCE, RELEVANT) == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert map_at(100, RELEVANCE, RELEVANT) == pytest.approx(((1 + 2 / 4) / 3 + 1 / 2 + 0) / 3)
    assert recall_at(1, RELEVANCE, RELEVANT) == pytest.approx((1 / 3 + 0 + 0) / 3)
    assert recall_at(10, RELEVANCE, RELEVANT) == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_ranks_beyond_k_do_not_count() -> None:
    """At k = 1 only the first query has a hit, and one hit is the best that k = 1 allows."""
    for metric in (ndcg_at, mrr_at, map_at):
        assert metric(1, RELEVANCE, RELEVANT) == pytest.approx(1 / 3)


def test_ndcg_agrees_with_scikit_learn() -> None:
    """On random rankings of all 30 texts, the same mean at 10."""
    rng = np.random.default_rng(11)
    relevance = rng.random((50, 30)) < 0.1
    relevance[:, 5] = True
    scores = np.tile(np.arange(30, 0, -1), (50, 1))
    expected = ndcg_score(relevance, scores, k=10)
    assert ndcg_at(10, relevance, relevance.sum(axis=1)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", [ndcg_at, mrr_at, map_at, recall_at])
def test_queries_without_relevant_texts_are_left_out(metric: object) -> None:
    """A query that nothing could answer changes no figure; alone, it leaves nothing to measure."""
    assert callable(metric)
    with_it = metric(10, [*RELEVANCE, [0, 0, 0, 0]], [*RELEVANT, 0])
    assert with_it == pytest.approx(metric(10, RELEVANCE, RELEVANT), abs=1e-15)
    with pytest.raises(ValueError, match="no query has a relevant text"):
        metric(10, [[0, 0]], [0])


def test_rankings_that_cannot_be_are_refused() -> None:
    """More hits than relevant texts, or counts of other queries, are a mistake of the caller."""
    with pytest.raises(ValueError, match="more relevant texts than there are"):
        recall_at(10, [[1, 1]], [1])
    with pytest.raises(ValueError, match=r"are not \(q, ranks\) and \(q,\)"):
        recall_at(10, [[1, 1]], [2, 2])


def test_reliability_by_hand() -> None:
    """Two stretches hold pairs; a probability on their border belongs to the lower."""
    low, high = reliability([0.1, 0.2, 0.5, 0.9], [0, 1, 0, 1], bins=2)
    assert (low.low, low.high, low.pairs) == (0.0, 0.5, 3)
    assert low.predicted == pytest.approx(0.8 / 3)
    assert low.observed == pytest.approx(1 / 3)
    assert (high.low, high.high, high.pairs, high.observed) == (0.5, 1.0, 1, 1.0)
    assert high.predicted == pytest.approx(0.9)


def test_stretches_without_pairs_are_left_out() -> None:
    """Probabilities of 0 and 1 leave the eight stretches between them out."""
    ends = [(one.low, one.high) for one in reliability([0.0, 1.0], [0, 1])]
    assert ends == [(0.0, 0.1), (0.9, 1.0)]


def test_expected_calibration_error_by_hand() -> None:
    """|0.8/3 - 1/3| weighs three pairs, |0.9 - 1| one."""
    expected = (3 * (1 / 3 - 0.8 / 3) + 0.1) / 4
    found = expected_calibration_error([0.1, 0.2, 0.5, 0.9], [0, 1, 0, 1], bins=2)
    assert found == pytest.approx(expected)


def test_what_is_no_probability_is_refused() -> None:
    """Similarities given by mistake are noticed, as is having no pairs at all."""
    with pytest.raises(ValueError, match="not between 0 and 1"):
        reliability([-0.2, 0.4], [0, 1])
    with pytest.raises(ValueError, match="n > 0"):
        reliability([], [])
