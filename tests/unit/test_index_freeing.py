"""Memory that goes back to the system."""

from __future__ import annotations

import sys
from pathlib import Path

import faiss
import numpy as np
import pytest

from app.index.freeing import give_back
from app.index.kernels import float16_index
from app.index.segment import Kind, Segment

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


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_a_segment_gives_its_memory_back_when_nothing_holds_it(kind: Kind) -> None:
    """Before the index itself is deleted, which is held here, and no copy of it is touched."""
    index = float16_index(_ROW // 2)
    if kind == "hnsw":
        fp16 = faiss.ScalarQuantizer.QT_fp16
        index = faiss.IndexHNSWSQ(_ROW // 2, fp16, 24, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.neighbors.resize(_ROWS * _ROW // 4)
        faiss.rev_swig_ptr(index.hnsw.neighbors.data(), _ROWS * _ROW // 4)[:] = 1
    storage = faiss.downcast_index(index.storage) if kind == "hnsw" else index
    storage.codes.resize(_ROWS * _ROW)
    faiss.rev_swig_ptr(storage.codes.data(), _ROWS * _ROW)[:] = 1
    copy = Segment(kind, faiss.clone_index(index), np.arange(_ROWS))
    segment = Segment(kind, index, np.arange(_ROWS))
    before = resident()
    del segment
    assert resident() < before - 0.9 * _ROWS * _ROW * (2 if kind == "hnsw" else 1)
    assert copy.vectors.view(np.uint8).all()
