"""Rows in 8 bits, which say where the nearest of an exhaustive search can be.

A product of 8-bit numbers takes less time than one of float16 where questions share it, and reads
half of the memory (decision 18 has figures). What rounding can change is bounded, so a search stays
exact: rows are left out only where the bound shows that they are not among the nearest.
"""

from __future__ import annotations

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from app.index.coarse_graph import ADDED, POSITIONS, QUESTIONS, VALUES, WANTED, coarse_graph

# Fewer rows are compared as fast without a copy of them. More are soon in a graph, and until then
# the copy would take much memory.
LEAST, MOST = 4_096, 20_000

# Largest codes. Processors without VNNI add two products in 16 bits: 2 * 127 * 127 fits if the
# unsigned side, a question around its middle, has seven bits.
_ROW_LEVELS = 127
_QUESTION_LEVELS = 63
_MIDDLE = 64

_ROWS = 256  # copied at a time: they stay in the cache as float32
_DEAD = np.float32(-1e6)  # added to what must not be found: far below any product
_ROUNDING = 1e-7  # a component, of sums of float32


class Coarse:
    """A copy of float16 rows in 8 bits; safe to search from several threads at once."""

    def __init__(self, rows: NDArray[np.float16]) -> None:
        """Copy `rows`, (n, dim). Raises ValueError where one is not finite."""
        codes = np.empty((rows.shape[1], len(rows)), np.int8)
        steps = np.empty(len(rows), np.float32)
        error = longest = np.float32(0)
        for start in range(0, len(rows), _ROWS):
            part = rows[start : start + _ROWS].astype(np.float32)
            longest = max(longest, _length(part).max())
            if not np.isfinite(part).all():
                raise ValueError("rows that are not finite have no 8-bit copy")
            step, rounded = _rounded(part, _ROW_LEVELS)
            # Turned round as bytes: four times as much would not stay in the cache.
            codes[:, start : start + _ROWS] = rounded.astype(np.int8).T
            steps[start : start + _ROWS] = step
            rounded *= step[:, np.newaxis]
            part -= rounded
            error = max(error, _length(part).max())
        # A row in codes is as long as the row itself and what they differ by, at most.
        self._error, self._longest = error, longest + error
        self._rounding = _ROUNDING * rows.shape[1]
        self._nothing = np.zeros(len(rows), np.float32)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # or each collection would keep megabytes
        self._session = onnxruntime.InferenceSession(
            coarse_graph(codes, steps, _MIDDLE), options, providers=["CPUExecutionProvider"]
        )
        # It keeps what it was made of, to be made again on another device: the rows once more.
        self._session._model_bytes = None  # noqa: SLF001

    def candidates(
        self, vectors: NDArray[np.float32], count: int, alive: NDArray[np.bool_] | None
    ) -> tuple[list[NDArray[np.int64]], NDArray[np.float32]]:
        """Return rows near to each of `vectors`, (n, dim), and how near all others can be.

        The first are positions, best first by estimate; the second, (n,), bounds the similarity of
        every other row that may be found from above.
        count: how many, no more than there are rows; fewer come only where fewer are alive.
        alive: which may be found, None where all may.
        """
        step, rounded = _rounded(vectors, _QUESTION_LEVELS)
        inputs = {
            QUESTIONS: (rounded + _MIDDLE).astype(np.uint8),
            ADDED: self._nothing if alive is None else np.where(alive, np.float32(0), _DEAD),
            WANTED: np.array([count]),
        }
        values, places = self._session.run([VALUES, POSITIONS], inputs)
        positions = list(places)
        if alive is not None:
            positions = [each[alive[each]] for each in places]
        # |q.x - q'.x'| <= |q - q'| |x'| + |q| |x - x'|, by Cauchy and Schwarz.
        error = _length(vectors - rounded * step[:, np.newaxis]) * self._longest
        error += _length(vectors) * self._error
        return positions, values[:, -1] * step + error + self._rounding


def _rounded(
    vectors: NDArray[np.float32], levels: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a step for each vector and its components in whole steps, -levels to levels."""
    step = np.maximum(np.abs(vectors).max(axis=1), np.float32(1e-12)) / np.float32(levels)
    scaled = vectors / step[:, np.newaxis]
    return step, np.rint(scaled, out=scaled)


def _length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths: NDArray[np.float32] = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return lengths
