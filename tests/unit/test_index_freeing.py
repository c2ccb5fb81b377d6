"""Memory that goes back to the system."""

from __future__ import annotations

import sys
from pathlib import Path

import faiss
import numpy as np
import pytest

from app.index.freeing import give_back
from app.index.kernels import float16_index
from app.index.segment import Segment

_ROW = 768
_ROWS = 100_000

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is given back")


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if "VmRSS" in line) * 1024


def test_a_large_vector_gives_its_pages_back() -> None:
    """While it is still there, and nothing else with it."""
    index = float16_index(_ROW // 2)
    beside = np.ones(_ROWS, np.int64)
    index.add_sa_codes(np.ones((_ROWS, _ROW), np.uint8))
    before = resident()
    give_back(index.codes)
    assert resident() < before - 0.9 * _ROWS * _ROW
    assert beside.all()


def test_a_segment_gives_its_memory_back_when_nothing_holds_it() -> None:
    """Not while a view of it is held; what else FAISS keeps stays as it is."""
    index = float16_index(_ROW // 2)
    index.add_sa_codes(np.ones((_ROWS, _ROW), np.uint8))
    copy = faiss.clone_index(index)
    segment = Segment("flat", index, np.arange(_ROWS))
    del index
    held, segment = segment, Segment("flat", copy, np.arange(_ROWS))
    assert (held.rows(np.array([0, _ROWS - 1])) > 0).all()
    before = resident()
    del held
    assert resident() < before - 0.9 * _ROWS * _ROW
    assert (segment.rows(np.array([0, _ROWS - 1])) > 0).all()
