"""The one place where a stored vector and a question become a similarity.

Every similarity that leaves an index comes from `similarities` here, or from a scan of a flat
segment or of its candidates, made `final`: FAISS compares a row the same way, to the last bit,
whatever its place and company. So a pair has the same one whether its row lies in a segment or in
a tail, and before and after a merge.

Nothing here or above uses numpy's matrix product: BLAS starts threads of its own for it, which
wait for each other on a busy machine (8 ms instead of 0.05 ms for 2,000 rows, measured).
"""

from __future__ import annotations

import threading
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

CHUNK = 1024  # rows: a chunk stays in the second-level cache

_local = threading.local()


def single_thread() -> None:
    """Limit FAISS to the calling thread; one question is too small to share out.

    FAISS keeps this setting per calling thread, so each has to say it once.
    """
    if not getattr(_local, "limited", False):
        faiss.omp_set_num_threads(1)
        _local.limited = True


def as_query(vector: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return `vector`, (dim,), as FAISS takes it: contiguous float32."""
    return np.ascontiguousarray(vector, np.float32)


def float16_index(dimension: int) -> Any:
    """Return an empty FAISS index of float16 vectors that is searched exhaustively."""
    return faiss.IndexScalarQuantizer(
        dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )


def similarities(rows: NDArray[np.float16], vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the cosine of each row with `vector`, (n,) float32 in -1..1.

    rows: (n, dim) float16, contiguous; best at most CHUNK at a time.
    vector: (dim,) float32, unit length.
    """
    found = np.empty(len(rows), np.float32)
    if len(rows):
        # Asked for all of its rows, an index returns every similarity with its position. That is
        # FAISS's vectorised float16 kernel: twice as fast as decoding the rows first.
        positions, values = scan(rows, vector, len(rows))
        found[positions] = values
    return final(found)


def scan(
    rows: NDArray[np.float16], vector: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the `k` rows nearest to `vector`, (dim,), and how similar, best first; not `final`.

    rows: (n, dim), contiguous, at least `k`.
    """
    single_thread()
    index = float16_index(rows.shape[1])
    index.add_sa_codes(rows.view(np.uint8))
    values, positions = index.search(vector[np.newaxis], k)
    return positions[0], values[0]


def final(scanned: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what a scan of float16 rows gave as similarities: rounding may lead beyond 1."""
    return np.clip(scanned, -1, 1)


def estimates(rows: NDArray[np.float32], vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the inner product of each row with `vector`, exact but for the last bits.

    Good for choosing candidates, whose similarities then come from `similarities`.
    rows: (n, dim) float32, contiguous. vector: (dim,) float32.
    """
    found = np.empty(len(rows), np.float32)
    faiss.fvec_inner_products_ny(
        faiss.swig_ptr(found), faiss.swig_ptr(vector), faiss.swig_ptr(rows), *rows.shape[::-1]
    )
    return found
