"""Mining finds the nearest text of another group that is not likely to be a duplicate."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from training import mining
from training.mining import MiningReport, Suspect, mine, nearest_groups


def on_circle(*degrees: float) -> NDArray[np.float32]:
    """Return unit vectors by their angles: the cosine of two is that of their difference."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def random_texts(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    groups = rng.integers(0, max(1, count // 2), count)
    return vectors, np.unique(groups, return_inverse=True)[1].astype(np.int64)


def every_pair(groups: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    same = (groups[:, None] == groups[None, :]) & ~np.eye(len(groups), dtype=np.bool_)
    anchors, positives = np.nonzero(same)
    return anchors, positives


def test_the_nearest_below_the_margin_is_taken() -> None:
    """By hand: at 20 and 30 degrees too near a positive at 25, at 60 fit, at 80 also, but farther.

    The margin of 0.2 puts the limit at cos 25 - 0.2 = 0.7063, between cos 30 and cos 60.
    """
    vectors = on_circle(0, 25, 20, 30, 60, 80)
    groups = np.array([0, 0, 1, 2, 3, 4])
    mined = mine(vectors, groups, np.array([0]), np.array([1]), k=4, margin=0.2)
    assert mined.negatives.tolist() == [4]
    assert mined.negatives.dtype == np.int64
    report = mined.report
    assert (report.looked_at, report.kept, report.dropped, report.without) == (4, 2, 2, 0)
    assert [(one.anchor, one.candidate) for one in report.examples] == [(0, 2), (0, 3)]
    cosines = [(one.similarity, one.positive_similarity) for one in report.examples]
    expected = [(np.cos(np.radians(angle)), np.cos(np.radians(25))) for angle in (20, 30)]
    np.testing.assert_allclose(cosines, expected, atol=1e-6)


def test_a_row_whose_neighbours_are_all_too_near_goes_without() -> None:
    """Only the k nearest are looked at, and what is at 60 degrees is the third."""
    vectors = on_circle(0, 25, 20, 30, 60)
    groups = np.array([0, 0, 1, 2, 3])
    mined = mine(vectors, groups, np.array([0]), np.array([1]), k=2, margin=0.2)
    assert mined.negatives.tolist() == [-1]
    assert mined.report.without == 1
    assert mined.report.kept == 0


def test_a_negative_margin_takes_what_is_nearer_than_the_positive() -> None:
    """With -1 nothing is dropped: the nearest of another group is taken."""
    vectors = on_circle(0, 25, 20, 32)
    groups = np.array([0, 0, 1, 2])
    mined = mine(vectors, groups, np.array([0, 1]), np.array([1, 0]), k=2, margin=-1)
    assert mined.negatives.tolist() == [2, 2]
    assert mined.report == MiningReport(4, 4, 0, 0, ())


def test_each_two_texts_are_told_once() -> None:
    """A pair's two sides, and several pairs of one anchor, drop the same neighbour once."""
    vectors = on_circle(0, 40, 50, 1)
    groups = np.array([0, 0, 0, 1])
    anchors, positives = np.array([0, 0, 1]), np.array([1, 2, 0])
    mined = mine(vectors, groups, anchors, positives, k=1, margin=0)
    assert mined.report.dropped == 3
    assert [(one.anchor, one.candidate) for one in mined.report.examples] == [(0, 3), (1, 3)]


def test_a_large_group_hides_no_neighbours() -> None:
    """However many texts of its own group stand nearer, a row still has its k neighbours."""
    vectors = on_circle(*range(30), 90, 91)
    groups = np.array([0] * 30 + [1, 2])
    mined = mine(vectors, groups, np.array([0]), np.array([1]), k=2, margin=0.05)
    assert mined.negatives.tolist() == [30]
    assert mined.report.looked_at == 2


@given(
    st.integers(2, 60), st.integers(0, 10**6), st.integers(1, 70), st.sampled_from([-0.3, 0, 0.3])
)
@settings(max_examples=100)
def test_mining_agrees_with_brute_force(count: int, seed: int, k: int, margin: float) -> None:
    """Negatives and counts are those of the rule applied to the whole matrix of similarities."""
    vectors, groups = random_texts(count, seed)
    anchors, positives = every_pair(groups)
    mined = mine(vectors, groups, anchors, positives, k=k, margin=margin)
    cosines = vectors @ vectors.T
    kept = dropped = 0
    for anchor, positive, negative in zip(anchors, positives, mined.negatives, strict=True):
        order = [t for t in np.argsort(-cosines[anchor]) if groups[t] != groups[anchor]][:k]
        fit = [t for t in order if cosines[anchor, t] <= cosines[anchor, positive] - margin]
        kept, dropped = kept + len(fit), dropped + len(order) - len(fit)
        assert negative == (fit[0] if fit else -1)
    report = mined.report
    assert (report.kept, report.dropped) == (kept, dropped)
    assert report.looked_at == kept + dropped
    assert report.without == int((mined.negatives < 0).sum())


def test_no_rows_give_no_negatives() -> None:
    """Nothing asked is no error."""
    none = np.empty(0, dtype=np.int64)
    mined = mine(on_circle(0, 1), np.array([0, 1]), none, none, k=3, margin=0)
    assert mined.negatives.shape == (0,)
    assert mined.report == MiningReport(0, 0, 0, 0, ())


def test_many_texts_are_searched_approximately(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the exact limit nine of ten negatives are still the nearest, twice the same ones."""
    rng = np.random.default_rng(3)
    topics = rng.normal(size=(40, 16))
    vectors = (topics[rng.integers(0, 40, 4000)] + 0.5 * rng.normal(size=(4000, 16))).astype("f4")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    groups = np.arange(4000) // 2
    anchors = np.arange(0, 4000, 2)
    options: dict[str, Any] = {"k": 5, "margin": -1}
    exact = mine(vectors, groups, anchors, anchors + 1, **options).negatives
    monkeypatch.setattr(mining, "_EXACT_TEXTS", 1000)
    first = mine(vectors, groups, anchors, anchors + 1, **options).negatives
    again = mine(vectors, groups, anchors, anchors + 1, **options).negatives
    assert (first == exact).mean() > 0.9
    np.testing.assert_array_equal(first, again)


def test_groups_are_near_by_the_mean_of_their_texts() -> None:
    """By hand: means at 10, 40 and 95 degrees; a single text at 11 has no pair, so is passed by."""
    vectors = on_circle(0, 20, 11, 30, 50, 90, 100)
    groups = np.array([0, 0, 1, 2, 2, 3, 3])
    near = nearest_groups(vectors, groups, 3)
    assert near.tolist() == [[2, 3, -1], [-1, -1, -1], [0, 3, -1], [2, 0, -1]]
    assert near.dtype == np.int64


def test_of_single_texts_no_groups_are_near() -> None:
    """Without duplicates there are no pairs to put into one batch."""
    near = nearest_groups(on_circle(0, 1, 2), np.array([0, 1, 2]), 2)
    assert near.tolist() == [[-1, -1]] * 3


def test_a_suspect_says_what_and_how_near() -> None:
    """An example names places in the texts, for the report to show the texts."""
    vectors = on_circle(0, 60, 0)
    report = mine(vectors, np.array([0, 0, 1]), np.array([0]), np.array([1]), k=1, margin=0).report
    (one,) = report.examples
    assert one == Suspect(0, 2, 1.0, one.positive_similarity)
    assert one.positive_similarity == pytest.approx(0.5)
