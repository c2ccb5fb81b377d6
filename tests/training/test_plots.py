"""The arithmetic behind the plots, by hand."""

import numpy as np
import pytest

from training.reporting.drawing import apart, smooth
from training.reporting.outcome import wilson


def test_labels_make_room_for_each_other() -> None:
    """Three at one place part evenly around it, one far away stays."""
    assert apart([5, 5, 5, 20], 2) == pytest.approx([3, 5, 7, 20])
    assert apart([9, 1], 2) == [9, 1]


def test_the_running_mean_by_hand() -> None:
    """Over three, shorter at both ends."""
    np.testing.assert_allclose(smooth(np.array([1.0, 2, 6, 4]), 3), [1.5, 3, 4, 5])


def test_the_interval_of_a_share() -> None:
    """8 of 10: 0.490 to 0.943, Wilson's 95% interval as in the tables."""
    low, high = wilson(np.array([0.8]), np.array([10.0]))
    assert (low[0], high[0]) == (pytest.approx(0.490, abs=5e-4), pytest.approx(0.943, abs=5e-4))
