"""Which kind of calibration is written."""

from __future__ import annotations

import numpy as np

from app.domain.evidence.pair import NAMES
from training.known import KINDS, Known, best_of

LABELS = np.array([True, False] * 50)
# No pair is linked to another.
ALONE = np.arange(len(LABELS))


def test_among_kinds_alike_in_loss_the_one_that_ranks_best_is_written() -> None:
    """One pair in a hundred that is far off costs loss, but within the standard error."""
    least = np.where(LABELS, 1.0, -1.0)
    least[:20] = 0.0  # ten of each kind that it cannot tell apart
    ranks = np.where(LABELS, 1.0, -1.0)
    ranks[0] = -12.0
    assert best_of({"least": least, "ranks": ranks}, LABELS, ALONE) == "ranks"


def test_a_kind_that_is_clearly_worse_in_loss_is_not_written_however_it_ranks() -> None:
    """Perfect order with probabilities that mean nothing is of no use."""
    good = np.where(LABELS, 2.0, -2.0)
    good[:4] = -good[:4]
    ordered = np.where(LABELS, 10.0, 9.0)
    assert best_of({"good": good, "ordered": ordered}, LABELS, ALONE) == "good"


def test_pairs_that_err_together_are_one_observation() -> None:
    """A template's ten pairs, all wrong alike, say no more than one pair does."""
    least = np.where(LABELS, 1.0, -1.0)
    least[20:60] = 0.0  # twenty of each kind that it cannot tell apart
    ranks = np.where(LABELS, 1.0, -1.0)
    ranks[:20:2] = -3.0
    crossed = {"least": least, "ranks": ranks}
    assert best_of(crossed, LABELS, ALONE) == "least"
    linked = np.where((ALONE < 20) & LABELS, 0, ALONE)
    assert best_of(crossed, LABELS, linked) == "ranks"


def test_every_kind_holds_unreadable_texts_apart() -> None:
    """No pair here is unreadable, and yet a cosine of 1 between two such texts says nothing."""
    similarities = np.linspace(0.0, 1.0, len(LABELS))
    labels = similarities + np.where(LABELS, 0.2, -0.2) > 0.5
    known = Known(similarities, np.zeros((len(labels), len(NAMES))), similarities, labels)
    for kind in KINDS:
        assert known.fit(kind, "pairs").evidence["unknown"] == -8.0
