"""Staying close: what the encoder knew about other texts is kept while it learns the pairs.

Fine-tuning on one domain gains there and forgets elsewhere. On unlabelled texts of all kinds the
encoder is held to the vectors that its own base gives them, or to those of a larger teacher turned
into the base's space: then it does not merely forget less, it learns.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.distributed import gather
from training.losses import BatchLoss, TripletLoss
from training.towers import embed

# Squared differences of similarities are some hundredths of a cosine's: this brings both, and
# the triplet losses, to one order of magnitude.
_SIMILARITIES = 100.0
_VECTORS = 5.0


def beside(
    base: NDArray[np.float32], teacher: NDArray[np.float32], *, share: float
) -> NDArray[np.float32]:
    """Return a teacher's vectors in the space of the base's, mixed with them: (n, d), unit length.

    base: (n, d), teacher: (n, e) of the same n texts, unit vectors. The map is the orthogonal one
    that brings the teacher's nearest to the base's (Procrustes; Schönemann 1966): it turns, or
    projects where e > d, and so keeps the teacher's similarities as far as d dimensions can.
    share: 0..1, of the teacher.
    """
    left, _, right = np.linalg.svd(teacher.T.astype(np.float64) @ base, full_matrices=False)
    turned = _unit(teacher @ (left @ right).astype(np.float32))
    return _unit(share * turned + (1 - share) * base)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: NDArray[np.float32] = (vectors / lengths).astype(np.float32)
    return found


def distance(vectors: Tensor, teacher: Tensor) -> Tensor:
    """Return how far (n, d) unit vectors are from a teacher's (n, d), as one number.

    It is 100 times the mean squared difference of the two matrices of similarities off the
    diagonal (relational distillation, Park et al. 2019, arXiv:1904.05068, with the cosine as the
    relation), plus 5 times the mean of 1 - cosine between a text's two vectors.
    """
    off = ~torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    difference = (vectors @ vectors.T - teacher @ teacher.T)[off]
    apart = (1 - (vectors * teacher).sum(1)).mean()
    return _SIMILARITIES * difference.square().mean() + _VECTORS * apart


class StayClose(nn.Module):
    """Another loss, and the distance from a teacher on the last column, which is unlabelled.

    The last column's features carry the teacher's vectors, in the encoder's space, under `teacher`.
    """

    def __init__(self, loss: BatchLoss | TripletLoss, model: nn.Module, *, weight: float) -> None:
        super().__init__()
        self.loss = loss
        self.model = model
        self.weight = weight
        self.statistics: dict[str, float] = {}

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """Return the loss of all columns but the last, plus the weighted distance on the last."""
        *columns, unlabelled = sentence_features
        main: Tensor = self.loss(columns, labels)
        teacher = unlabelled["teacher"]
        (vectors,) = embed(self.model, [unlabelled])
        # As in the losses: similarities are not for bf16.
        with torch.autocast(vectors.device.type, enabled=False):
            # Every process has the distance over the texts of all; the average of their gradients
            # is that of one process with all texts.
            away = distance(torch.cat(gather(vectors)), torch.cat(gather(teacher)))
        self.statistics = {**self.loss.statistics, "away": float(away.detach())}
        return main + self.weight * away
