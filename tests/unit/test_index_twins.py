"""Rows with the same vector share a node, and never rows with different ones."""

from __future__ import annotations

import numpy as np
import pytest

from app.index.twins import Finder


@pytest.mark.parametrize("dimension", [6, 64, 100, 101])
def test_rows_with_one_vector_share_a_node(dimension: int) -> None:
    """Whether the other one was there before, came with it, or differs where no hash looks."""
    held = np.random.default_rng(0).standard_normal((3, dimension)).astype(np.float16)
    last = held[1].copy()
    last[-1] += 1
    fresh = np.random.default_rng(1).standard_normal(dimension).astype(np.float16)
    finder = Finder(held)
    nodes, new = finder.assign(np.stack([held[2], last, fresh, held[0], fresh]), held)
    assert nodes.tolist() == [2, 3, 4, 0, 4]
    assert new.tolist() == [1, 2]
    grown = np.concatenate([held, [last, fresh]])
    nodes, new = finder.assign(np.stack([fresh, held[2]]), grown)
    assert nodes.tolist() == [4, 2]
    assert not len(new)
