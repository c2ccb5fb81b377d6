"""Staying close: what the encoder knew about other texts is kept while it learns the pairs.

Fine-tuning on one domain gains there and forgets elsewhere. On unlabelled texts of all kinds the
encoder is held to the similarities that a teacher, by default its own base, gives them.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from training.distributed import gather
from training.losses import BatchLoss, TripletLoss
from training.towers import embed

# Squared differences of similarities are some hundredths of a cosine's: this brings both, and
# the triplet losses, to one order of magnitude.
_SIMILARITIES = 100.0
_VECTORS = 5.0


def distance(vectors: Tensor, teacher: Tensor, *, same_space: bool) -> Tensor:
    """Return how far (n, d) unit vectors are from a teacher's (n, e), as one number.

    It is 100 times the mean squared difference of the two matrices of similarities off the
    diagonal (relational distillation, Park et al. 2019, arXiv:1904.05068, with the cosine as the
    relation); same_space: the teacher is the base, so that d = e and every vector has a place to
    stay at, to which 5 times the mean of 1 - cosine is added.
    """
    off = ~torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    difference = (vectors @ vectors.T - teacher @ teacher.T)[off]
    total = _SIMILARITIES * difference.square().mean()
    if same_space:
        total = total + _VECTORS * (1 - (vectors * teacher).sum(1)).mean()
    return total


class StayClose(nn.Module):
    """Another loss, and the distance from a teacher on the last column, which is unlabelled.

    The last column's features carry the teacher's vectors under `teacher`.
    """

    def __init__(
        self, loss: BatchLoss | TripletLoss, model: nn.Module, *, weight: float, same_space: bool
    ) -> None:
        super().__init__()
        self.loss = loss
        self.model = model
        self.weight = weight
        self.same_space = same_space
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
            away = distance(
                torch.cat(gather(vectors)),
                torch.cat(gather(teacher)),
                same_space=self.same_space,
            )
        self.statistics = {**self.loss.statistics, "away": float(away.detach())}
        return main + self.weight * away
