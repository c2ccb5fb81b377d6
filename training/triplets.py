"""The triplet losses over a matrix of similarities; DESIGN's formulas, one function each.

`similarities` is (n, m): the cosine of each of n anchors with each of m candidates; the candidate
in column i is the positive of row i, so m >= n. `negative` is (n, m) bool: which entries may serve
as negatives. Every function gives one value a row, (n,); a row without negatives gives 0.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import relu

Closest = Literal["hardest", "semi-hard"]
# Beyond every cosine, so that it is never the extreme of a row.
_BEYOND = 2.0


def positives(similarities: Tensor) -> Tensor:
    """Return s(A,P) of each row, (n,): the diagonal."""
    return similarities.diagonal()


def mean_negatives(similarities: Tensor, negative: Tensor) -> Tensor:
    """Return the mean of each row's negatives, (n,); 0 where there is none."""
    return (similarities * negative).sum(1) / negative.sum(1).clamp(min=1)


def closest_negatives(
    similarities: Tensor, negative: Tensor, closest: Closest = "hardest"
) -> Tensor:
    """Return the closest negative of each row, (n,); 0 where there is none.

    hardest: the largest. semi-hard: the largest below the positive; where none is below, the
    smallest above it (FaceNet, Schroff et al. 2015, arXiv:1503.03832, in a batch).
    """
    hardest = similarities.masked_fill(~negative, -_BEYOND).amax(1)
    if closest == "semi-hard":
        below = negative & (similarities < positives(similarities)[:, None])
        largest = similarities.masked_fill(~below, -_BEYOND).amax(1)
        smallest = similarities.masked_fill(~negative, _BEYOND).amin(1)
        hardest = torch.where(below.any(1), largest, smallest)
    return torch.where(negative.any(1), hardest, torch.zeros_like(hardest))


def l_original(positive: Tensor, negative: Tensor, alpha: float) -> Tensor:
    """Return max(s(A,N) - s(A,P) + alpha, 0) of explicit triplets; all (n,)."""
    return relu(negative - positive + alpha)


def l_mean(similarities: Tensor, negative: Tensor, alpha: float) -> Tensor:
    """Return L1 = max(mean_neg - s(A,P) + alpha, 0) of each row, (n,)."""
    loss = relu(mean_negatives(similarities, negative) - positives(similarities) + alpha)
    return loss * negative.any(1)


def l_closest(
    similarities: Tensor, negative: Tensor, alpha: float, closest: Closest = "hardest"
) -> Tensor:
    """Return L2 = max(closest_neg - s(A,P) + alpha, 0) of each row, (n,)."""
    near = closest_negatives(similarities, negative, closest)
    return relu(near - positives(similarities) + alpha) * negative.any(1)


def in_batch_softmax(similarities: Tensor, negative: Tensor, scale: float) -> Tensor:
    """Return the cross-entropy of each row's positive among its negatives, (n,).

    Multiple negatives ranking (Henderson et al. 2017, arXiv:1705.00652); scale: what similarities
    are multiplied by, an inverse temperature.
    """
    logits = (scale * similarities).masked_fill(~negative, -torch.inf)
    positive = scale * positives(similarities)
    among = torch.cat([positive[:, None], logits], dim=1).logsumexp(1)
    return among - positive


def pair_ranking(positive: Tensor, negative: Tensor, scale: float) -> Tensor:
    """Return log(1 + sum over i, j of exp(scale (negative_j - positive_i))) / scale, a scalar.

    positive: (n,) similarities of duplicates, negative: (m,) of explicit non-duplicates, whoever
    their anchors are: every duplicate is to be more alike than every non-duplicate, which
    is what one cut-off for all asks of them (CoSENT, Su 2022, https://kexue.fm/archives/8847).
    Divided by the scale it is a cosine, as the margin losses are. 0 where either is empty.
    """
    differences = scale * (negative[None, :] - positive[:, None]).reshape(-1)
    return torch.cat([differences.new_zeros(1), differences]).logsumexp(0) / scale
