"""Rows with the same vector, which share one node of a graph.

A graph of copies falls apart: a node's neighbours are then its copies, and no path leads away from
them (recall@10 was 0.83 where half of the rows were a hundred copies each of a hundred vectors).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SCAN = 8192  # rows
# Components looked at. Dense vectors that agree in so many agree in all; of others that do so
# only the first shares its node with its copies.
_TOLD_APART_BY = 64


class Twins:
    """Which node each row has, and which rows each node has.

    node_of: (rows,) int64.
    """

    __slots__ = ("_rows", "_starts", "node_of")

    def __init__(self, node_of: NDArray[np.int64]) -> None:
        self.node_of = node_of
        self._rows = np.argsort(node_of, kind="stable")
        self._starts = np.searchsorted(node_of[self._rows], np.arange(node_of.max() + 2))

    def rows_of(self, node: int) -> NDArray[np.int64]:
        """Return the rows of a node, ascending."""
        return self._rows[self._starts[node] : self._starts[node + 1]]

    def split(self, nodes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows of those of `nodes` that have one each, and the nodes that have more."""
        starts = self._starts[nodes]
        single = self._starts[nodes + 1] - starts == 1
        return self._rows[starts[single]], nodes[~single]


class Finder:
    """Finds the node that has a vector already, while a graph grows."""

    def __init__(self, vectors: NDArray[np.float16]) -> None:
        """Begin with the vectors of the nodes that exist, (nodes, dim)."""
        keys = [hashes(vectors[start : start + _SCAN]) for start in range(0, len(vectors), _SCAN)]
        known = np.concatenate([np.empty(0, np.uint64), *keys])
        self._order = np.argsort(known)
        self._known = known[self._order]
        self._later: dict[int, int] = {}

    def assign(
        self, rows: NDArray[np.float16], vectors: NDArray[np.float16]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the node of each row, and which of the rows need a new one.

        rows: (n, dim), each of which gets the next node unless another has its vector.
        vectors: (nodes, dim), of the nodes there are.
        """
        keys = hashes(rows)
        nodes = np.empty(len(rows), np.int64)
        fresh: list[int] = []
        places = np.searchsorted(self._known, keys)
        for row, (key, place) in enumerate(zip(keys.tolist(), places.tolist(), strict=True)):
            node = self._later.get(key)
            if node is None and place < len(self._known) and int(self._known[place]) == key:
                node = int(self._order[place])
            if node is not None:
                there = node - len(vectors)
                vector = vectors[node] if there < 0 else rows[fresh[there]]
                if np.array_equal(vector, rows[row]):
                    nodes[row] = node
                    continue
            nodes[row] = len(vectors) + len(fresh)
            self._later.setdefault(key, int(nodes[row]))
            fresh.append(row)
        return nodes, np.array(fresh, np.int64)


def hashes(vectors: NDArray[np.float16]) -> NDArray[np.uint64]:
    """Return a number for each vector, equal for equal ones and else most likely different."""
    vectors = vectors[:, :_TOLD_APART_BY]
    # Four components at a time where that comes out even: it is the sum that takes the time.
    width = np.uint16 if vectors.shape[1] % 4 else np.uint64
    words = np.ascontiguousarray(vectors).view(width).astype(np.uint64, copy=False)
    factors = np.random.default_rng(0).integers(0, 2**64, words.shape[1], np.uint64)
    sums: NDArray[np.uint64] = (words * (factors | np.uint64(1))).sum(axis=1, dtype=np.uint64)
    return sums
