"""The pairwise head of an artifact: a small graph over the two vectors of a pair."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from app.domain.errors import ArtifactError
from app.encoders.artifact import HEAD

if TYPE_CHECKING:
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
        left = next(each for each in self._session.get_inputs() if each.name == LEFT)
        if len(left.shape) != 2:
            raise ValueError("it takes one vector on the left, not a row for each pair")

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
    if not artifact.calibration.head:
        return None
    path = artifact.path / HEAD
    try:
        return OnnxHead(path.read_bytes())
    except Exception as error:  # several classes of onnxruntime's, none of them public
        reason = str(error).splitlines()[0]
        problem = f"the head cannot be loaded ({reason})"
        raise ArtifactError(path, problem, "export the artifact again") from error
