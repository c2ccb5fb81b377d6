"""The losses as torch modules, in the shape that sentence-transformers' trainer calls.

Features are columns: anchor, positive and, perhaps, negative. All texts go through one model: the
two towers share their weights. Without labels of ours every other row's candidates are negatives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from training.distributed import gather, processes, rank
from training.towers import embed
from training.triplets import (
    Closest,
    closest_negatives,
    in_batch_softmax,
    l_closest,
    l_mean,
    l_original,
    mean_negatives,
    pair_ranking,
    positives,
)

# From similarities (n, m) and which are negatives (n, m) to one value a row.
RowLoss = Callable[[Tensor, Tensor], Tensor]
# Without labels, every text is a group of its own: more than a process has texts in a batch.
_A_PROCESS = 1 << 32


class BatchLoss(nn.Module):
    """A loss over the similarities of a batch, averaged over its rows.

    The candidates of every row are all positives, then all explicit negatives, of all processes.
    labels: (n, 2) int64, the group of the pair and of its explicit negative, -1 for none; an entry
    is a negative where its candidate is of another group. Any other labels are ignored: then
    every candidate of another row, and each explicit negative, is a negative.
    """

    def __init__(
        self,
        model: nn.Module,
        rows: RowLoss,
        settings: dict[str, Any],
        *,
        ranking: float = 0.0,
        ranking_scale: float = 20.0,
    ) -> None:
        """Wrap a loss of rows; `ranking` is the weight of `pair_ranking` that joins it."""
        super().__init__()
        self.model = model
        self._rows = rows
        self._settings = settings
        self._ranking = ranking
        self._scale = ranking_scale
        self.statistics: dict[str, float] = {}

    def forward(
        self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None = None
    ) -> Tensor:
        """Return the loss, a scalar. Over several processes it is this one's share of the mean.

        Their average, which is what averaging the gradients differentiates, is the loss of one
        process with the whole batch.
        """
        anchors, *candidates = embed(self.model, list(sentence_features))
        similarities, negative, _ = _matrix(anchors, candidates, labels)
        self.statistics = _statistics(similarities.detach(), negative)
        total = self._rows(similarities, negative).sum()
        count = sum(len(part) for part in gather(anchors.detach()[:, :1]))
        loss: Tensor = total * processes() / count
        if self._ranking:
            ranked = self._ranked(similarities, negative, explicit=len(candidates) > 1)
            self.statistics["ranking"] = float(ranked.detach())
            loss = loss + self._ranking * ranked
        return loss

    def _ranked(self, similarities: Tensor, negative: Tensor, *, explicit: bool) -> Tensor:
        """Return `pair_ranking` of the duplicates and explicit negatives of all processes.

        The same in each. A lone row's text and itself count as the duplicates that they are.
        """
        places = torch.arange(len(similarities), device=similarities.device)
        own = places[: len(similarities) if explicit else 0]
        own = own[negative[own, len(similarities) + own]]
        apart = similarities[own, len(similarities) + own]
        with torch.autocast(similarities.device.type, enabled=False):
            return pair_ranking(
                torch.cat(gather(positives(similarities))), torch.cat(gather(apart)), self._scale
            )

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings, as sentence-transformers' model card lists them."""
        return self._settings


class TripletLoss(nn.Module):
    """L_original, averaged over explicit triplets.

    labels: as of BatchLoss; a row whose negative's group is -1 takes the next row's positive that
    is of another group, and gives 0 where there is none.
    """

    def __init__(self, model: nn.Module, alpha: float) -> None:
        super().__init__()
        self.model = model
        self._alpha = alpha
        self.statistics: dict[str, float] = {}

    def forward(
        self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None = None
    ) -> Tensor:
        """Return the loss, a scalar; over several processes this one's share of the mean."""
        anchors, *candidates = embed(self.model, list(sentence_features))
        similarities, negative, following = _matrix(anchors, candidates, labels)
        self.statistics = _statistics(similarities.detach(), negative)
        own = len(anchors) if len(candidates) > 1 else None
        column = _explicit(negative, following, own)
        chosen = similarities.gather(1, column.clamp(min=0)[:, None])[:, 0]
        loss = l_original(positives(similarities), chosen, self._alpha) * (column >= 0)
        count = sum(len(part) for part in gather(anchors.detach()[:, :1]))
        return loss.sum() * processes() / count

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings, as sentence-transformers' model card lists them."""
        return {"alpha": self._alpha}


def _matrix(
    anchors: Tensor, candidates: list[Tensor], labels: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return similarities (n, m), which are negatives (n, m), and whose turn is next (n, r).

    Candidates come in the order: this process's positives, so that they are on the diagonal, its
    explicit negatives, then those of the other processes. The last are the columns of the
    positives of all r rows of the batch, from the row after one's own on, round to one's own.
    """
    rows = len(anchors)
    groups = _groups(labels, rows, len(candidates), anchors.device)
    own = rank()
    vectors, of = [torch.cat(candidates)], [groups]
    taken, before = len(groups), 0
    positive_columns = []
    for process, (theirs, belong) in enumerate(
        zip(gather(vectors[0]), gather(groups), strict=True)
    ):
        count = len(belong) // len(candidates)
        first = 0 if process == own else taken
        positive_columns.append(torch.arange(first, first + count, device=anchors.device))
        if process != own:
            vectors.append(theirs)
            of.append(belong)
            taken += len(belong)
        before += count if process < own else 0
    columns = torch.cat(of)
    negative = (groups[:rows, None] != columns[None, :]) & (columns >= 0)[None, :]
    in_turn = torch.cat(positive_columns)
    places = torch.arange(rows, device=anchors.device)[:, None] + before + 1
    turns = (places + torch.arange(len(in_turn), device=anchors.device)) % len(in_turn)
    # Outside of autocast: bf16 knows three digits of a cosine, less than what a margin is about.
    with torch.autocast(anchors.device.type, enabled=False):
        return anchors @ torch.cat(vectors).T, negative, in_turn[turns]


def _groups(labels: Tensor | None, rows: int, candidates: int, device: torch.device) -> Tensor:
    """Return the group of each candidate of this process: positives, then explicit negatives."""
    if labels is not None and labels.shape == (rows, 2):
        return labels.T.reshape(-1)[: rows * candidates]
    return _A_PROCESS * rank() + torch.arange(rows * candidates, device=device)


def _explicit(negative: Tensor, following: Tensor, first: int | None) -> Tensor:
    """Return the column of each row's explicit negative, (n,), -1 where there is none.

    It is the row's own, from column `first` on, if it has one, else the positive of the next row
    of the batch, over all processes, that is of another group: the order of a batch is chance, and
    so is this negative.
    """
    others = negative.gather(1, following)
    step = others.int().argmax(1)
    column = torch.where(others.any(1), following.gather(1, step[:, None])[:, 0], -1)
    if first is None:
        return column
    places = torch.arange(len(negative), device=negative.device)
    return torch.where(negative[places, first + places], first + places, column)


def _statistics(similarities: Tensor, negative: Tensor) -> dict[str, float]:
    """Return the means over the rows of what the losses are made of, for the log."""
    found = {
        "positive": positives(similarities),
        "mean_negative": mean_negatives(similarities, negative),
        "closest_negative": closest_negatives(similarities, negative),
    }
    return {name: float(values.mean()) for name, values in found.items()}


def make_loss(
    name: str,
    model: nn.Module,
    *,
    alpha: float = 0.25,
    closest: Closest = "hardest",
    scale: float = 20.0,
    mean_weight: float = 1.0,
    closest_weight: float = 1.0,
    ranking: float = 0.0,
) -> BatchLoss | TripletLoss:
    """Return a loss by its name: original, mean_negative, closest_negative, full or softmax.

    alpha: margin of the triplet losses; closest: which reading of L2; scale: of the softmax and
    the ranking; mean_weight, closest_weight: of L1 and L2 in L_full; ranking: weight of the
    ranking of labelled pairs that joins any loss but L_original.
    Raises ValueError where there is no such loss.
    """
    if name == "original":
        return TripletLoss(model, alpha)
    known: dict[str, tuple[RowLoss, dict[str, Any]]] = {
        "mean_negative": (lambda s, n: l_mean(s, n, alpha), {"alpha": alpha}),
        "closest_negative": (
            lambda s, n: l_closest(s, n, alpha, closest),
            {"alpha": alpha, "closest": closest},
        ),
        "full": (
            lambda s, n: (
                mean_weight * l_mean(s, n, alpha) + closest_weight * l_closest(s, n, alpha, closest)
            ),
            {
                "alpha": alpha,
                "closest": closest,
                "mean_weight": mean_weight,
                "closest_weight": closest_weight,
            },
        ),
        "softmax": (lambda s, n: in_batch_softmax(s, n, scale), {"scale": scale}),
    }
    if name not in known:
        raise ValueError(f"there is no loss {name!r}; there are original, {', '.join(known)}")
    rows, settings = known[name]
    if ranking:
        settings = {**settings, "ranking": ranking, "scale": scale}
    return BatchLoss(model, rows, {"loss": name, **settings}, ranking=ranking, ranking_scale=scale)
