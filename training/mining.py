"""Hard negatives and neighbouring groups, found among all texts with the current encoder.

A near neighbour that nobody labelled a duplicate is often one all the same. So a neighbour only
counts as a negative where it is less similar to the anchor than the anchor's positive is, by a
margin: NV-Retriever's positive-aware mining (Moreira et al. 2024, arXiv:2407.15831), the variant
with an absolute margin. The more alike a pair's own texts are, the more it can be told; a pair
whose texts are far apart drops most of its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

# Above it, comparing each text with each takes minutes on two cores: an inverted file compares it
# with the nearest lists' only.
_EXACT_TEXTS = 50_000
_LISTS_SEARCHED = 64
_TEXTS_TO_TRAIN_A_LIST = 40
_QUERIES_A_BLOCK = 4096
_EXAMPLES = 20


@dataclass(frozen=True, slots=True)
class Suspect:
    """A neighbour that was dropped: places of two texts, and cosines of the anchor with both."""

    anchor: int
    candidate: int
    similarity: float
    positive_similarity: float


@dataclass(frozen=True, slots=True)
class MiningReport:
    """What became of the neighbours of all rows: looked_at = kept + dropped.

    without: rows left without a negative; examples: the most similar of what was dropped, each
    two texts once.
    """

    looked_at: int
    kept: int
    dropped: int
    without: int
    examples: tuple[Suspect, ...]


@dataclass(frozen=True, slots=True)
class Mined:
    """A negative for each row: (n,) int64 places of texts, -1 for none; and how it went."""

    negatives: NDArray[np.int64]
    report: MiningReport


def mine(
    vectors: NDArray[np.float32],
    groups: NDArray[np.int64],
    anchors: NDArray[np.int64],
    positives: NDArray[np.int64],
    *,
    k: int,
    margin: float,
) -> Mined:
    """Return the nearest text outside the group that is not likely to be a duplicate, for each row.

    Of the k texts nearest to the anchor outside its group, those with a similarity above
    s(A,P) - margin are dropped; of the rest the nearest is the negative. Exact up to 50,000 texts;
    above, of an approximate index, so that a neighbour may be missed.

    vectors: (t, dim) float32, unit length; groups: (t,) the group of each text; anchors,
    positives: (n,) places of texts, of one group in each row; margin: a difference of cosines.
    """
    negatives = np.full(len(anchors), -1, dtype=np.int64)
    asked, row_of = np.unique(anchors, return_inverse=True)
    near, similarity = _outside(vectors, groups, asked, k)
    positive = np.einsum("ij,ij->i", vectors[anchors], vectors[positives])
    near, similarity = near[row_of], similarity[row_of]
    found = near >= 0
    suspect = found & (similarity > (positive - margin)[:, None])
    fit = found & ~suspect
    has = fit.any(axis=1)
    negatives[has] = near[has, fit[has].argmax(axis=1)]
    report = MiningReport(
        looked_at=int(found.sum()),
        kept=int(fit.sum()),
        dropped=int(suspect.sum()),
        without=int((~has).sum()),
        examples=_examples(anchors, positive, near, similarity, suspect),
    )
    return Mined(negatives, report)


def nearest_groups(
    vectors: NDArray[np.float32], groups: NDArray[np.int64], k: int
) -> NDArray[np.int64]:
    """Return the k nearest other groups of each group, (max(groups) + 1, k), -1 pads; best first.

    A group stands where the mean of its texts points to. One of a single text has no pair of
    duplicates, so it is no neighbour and has none. Exact up to 50,000 groups, then approximate.

    vectors: (t, dim) float32, unit length; groups: (t,) the group of each text.
    """
    sizes = np.bincount(groups)
    near = np.full((len(sizes), k), -1, dtype=np.int64)
    several = np.flatnonzero(sizes > 1)
    if len(several) == 0:
        return near
    number = np.full(len(sizes), -1, dtype=np.int64)
    number[several] = np.arange(len(several))
    inside = number[groups] >= 0
    sums = np.zeros((len(several), vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, number[groups[inside]], vectors[inside])
    faiss.normalize_L2(sums)
    each = np.arange(len(several))
    found, _ = _outside(sums, each, each, k)
    near[several] = np.where(found >= 0, several[found], -1)
    return near


def _outside(
    vectors: NDArray[np.float32], groups: NDArray[np.int64], asked: NDArray[np.int64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the k texts nearest to each of `asked` outside its group, and their cosines.

    Both (len(asked), k), nearest first; -1 where there are no more.
    """
    near = np.full((len(asked), k), -1, dtype=np.int64)
    similarity = np.zeros((len(asked), k), dtype=np.float32)
    if len(asked) == 0:
        return near, similarity
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    index = _index(vectors)
    for block, depth in _blocks(np.bincount(groups)[groups[asked]] + k, len(vectors)):
        cosines, places = index.search(vectors[asked[block]], depth)
        outside = (places >= 0) & (groups[places] != groups[asked[block], None])
        first = np.argsort(~outside, axis=1, kind="stable")[:, :k]
        width = first.shape[1]
        chosen = np.take_along_axis(places, first, axis=1)
        near[block, :width] = np.where(np.take_along_axis(outside, first, axis=1), chosen, -1)
        similarity[block, :width] = np.take_along_axis(cosines, first, axis=1)
    return near, similarity


def _index(vectors: NDArray[np.float32]) -> Any:
    """Return an index of the inner products with all vectors."""
    count, dimension = vectors.shape
    flat = faiss.IndexFlatIP(dimension)
    if count > _EXACT_TEXTS:
        lists = round(4 * count**0.5)
        index = faiss.IndexIVFFlat(flat, dimension, lists, faiss.METRIC_INNER_PRODUCT)
        index.cp.max_points_per_centroid = _TEXTS_TO_TRAIN_A_LIST
        index.nprobe = _LISTS_SEARCHED
        index.train(vectors)
    else:
        index = flat
    index.add(vectors)
    return index


def _blocks(depths: NDArray[np.int64], most: int) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Give the places of queries, some thousands at a time, and how deep to search for them.

    A group's own texts are found first, so a query needs k and as many as its group has; those of
    like depth go together, as one large group would else deepen the search of all.
    """
    order = np.argsort(depths, kind="stable")
    for start in range(0, len(order), _QUERIES_A_BLOCK):
        block = order[start : start + _QUERIES_A_BLOCK]
        yield block, min(int(depths[block].max()), most)


def _examples(
    anchors: NDArray[np.int64],
    positive: NDArray[np.float32],
    near: NDArray[np.int64],
    similarity: NDArray[np.float32],
    suspect: NDArray[np.bool_],
) -> tuple[Suspect, ...]:
    """Return the most similar of what was dropped, each two texts once."""
    rows, columns = np.nonzero(suspect)
    order = np.argsort(-similarity[rows, columns], kind="stable")
    told: dict[frozenset[int], Suspect] = {}
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if len(told) == _EXAMPLES:
            break
        anchor, candidate = int(anchors[row]), int(near[row, column])
        one = Suspect(anchor, candidate, float(similarity[row, column]), float(positive[row]))
        told.setdefault(frozenset((anchor, candidate)), one)
    return tuple(told.values())
