"""Vectors from a graph in memory, for measuring it before it becomes an artifact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from app.encoders.artifact import OUTPUT, graph_input

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from training.data import Pairs

_TEXTS_A_CALL = 32


def open_session(model: onnx.ModelProto, *, optimise: bool = False) -> onnxruntime.InferenceSession:
    """Return a session with one thread.

    optimise: let ONNX Runtime fuse further, as graphs need that were not fused when exported.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = (
        levels.ORT_ENABLE_ALL if optimise else levels.ORT_ENABLE_BASIC
    )
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def encode_call(
    session: onnxruntime.InferenceSession, rows: Sequence[Sequence[int]]
) -> NDArray[np.float32]:
    """Return the vectors, (n, dim) float32, of token rows in one call, padded on the right."""
    vectors: NDArray[np.float32] = session.run([OUTPUT], graph_input(rows))[0]
    return vectors


def encode_rows(
    session: onnxruntime.InferenceSession, rows: Sequence[Sequence[int]], *, together: bool
) -> NDArray[np.float32]:
    """Return the vectors, (n, dim) float32, of token rows.

    together: let rows of equal length share a call; only for graphs in which that changes nothing.
    """
    by_length: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        by_length.setdefault(len(row), []).append(place)
    step = _TEXTS_A_CALL if together else 1
    vectors: NDArray[np.float32] | None = None
    for places in by_length.values():
        for start in range(0, len(places), step):
            some = places[start : start + step]
            found = encode_call(session, [rows[place] for place in some])
            if vectors is None:
                vectors = np.empty((len(rows), found.shape[1]), dtype=np.float32)
            vectors[some] = found
    if vectors is None:
        raise ValueError("there are no rows to encode")
    return vectors


def pair_similarities(vectors: NDArray[np.float32], pairs: Pairs) -> NDArray[np.float32]:
    """Return the cosine of each pair, (n,), from the unit vectors of `pairs.texts`."""
    similarities: NDArray[np.float32] = np.einsum(
        "ij,ij->i", vectors[pairs.left], vectors[pairs.right]
    )
    return similarities
