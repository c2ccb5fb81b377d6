"""The pairwise head of an artifact: a small graph over the two vectors of a pair."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from app.domain.errors import ArtifactError
from app.encoders.artifact import HEAD

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from app.encoders.artifact import Artifact

LEFT, RIGHT, SCORE = "left", "right", "score"


class OnnxHead:
    """Scores pairs of vectors; safe to call from several threads at once.

    The graph takes `left`, (n, dim) or (1, dim), and `right`, (n, dim), float32, and gives
    `score` (n,).
    """

    def __init__(self, graph: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )
        shapes = {each.name: each.shape for each in self._session.get_inputs()}
        if len(shapes.get(LEFT, ())) != 2:
            raise ValueError(f"the head's graph takes no rows as {LEFT!r}, a row for each pair")

    def scores(
        self, vectors: NDArray[np.float32], others: NDArray[np.floating]
    ) -> NDArray[np.float32]:
        """Return a score for each of `others`, (n,), the same from either side of a pair.

        vectors: (n, dim), or (1, dim) where it is the same for all; others: (n, dim); unit length.
        """
        inputs = {
            LEFT: np.ascontiguousarray(vectors, np.float32),
            RIGHT: np.ascontiguousarray(others, np.float32),
        }
        found: NDArray[np.float32] = self._session.run([SCORE], inputs)[0]
        return found


def head_of(artifact: Artifact) -> OnnxHead | None:
    """Return the head of an artifact, None where its calibration gives none a weight.

    Raises ArtifactError where the graph cannot be used.
    """
    return load_head(artifact.path / HEAD) if artifact.calibration.head else None


def load_head(path: Path) -> OnnxHead:
    """Return the head in a file. Raises ArtifactError where its graph cannot be used."""
    try:
        return OnnxHead(path.read_bytes())
    except Exception as error:  # several classes of onnxruntime's, none of them public
        reason = str(error).splitlines()[0]
        problem = f"the head cannot be loaded ({reason})"
        remedy = "train another: python -m training.refit --train"
        raise ArtifactError(path, problem, remedy) from error
