"""Which rows of a segment are alive, for a view that never changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.index.segment import Segment

Bits = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Alive:
    """The rows of a segment that are alive, and the nodes that have such a row.

    rows, nodes: a bit for each, lowest first; None where all are alive.
    dead, dead_nodes: how many are not.
    """

    segment: Segment
    rows: Bits | None = None
    dead: int = 0
    nodes: Bits | None = None
    dead_nodes: int = 0

    @classmethod
    def of(cls, segment: Segment, rows: Bits | None) -> Alive:
        """Return what these bits, one for each row of the segment, say."""
        if rows is None:
            return cls(segment)
        alive = np.unpackbits(rows, count=len(segment), bitorder="little").astype(np.bool_)
        dead = len(segment) - int(np.count_nonzero(alive))
        if segment.twins is None:
            return cls(segment, rows, dead, rows, dead)
        open_nodes = np.zeros(segment.nodes, np.bool_)
        open_nodes[segment.twins.node_of[alive]] = True
        dead_nodes = segment.nodes - int(np.count_nonzero(open_nodes))
        return cls(segment, rows, dead, np.packbits(open_nodes, bitorder="little"), dead_nodes)

    @property
    def live_nodes(self) -> int:
        """Return how many nodes have a live row."""
        return self.segment.nodes - self.dead_nodes

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether the rows at these positions are alive."""
        if self.rows is None:
            return np.ones(len(positions), np.bool_)
        return _bits_at(self.rows, positions)

    def positions(self, seqs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the position of each of `seqs`, -1 for one that is dead or not here."""
        found = self.segment.positions(seqs)
        held = found >= 0
        held[held] = self(found[held])
        return np.where(held, found, -1)

    def only(self, seqs: NDArray[np.int64]) -> Alive:
        """Return what is left when all rows but these are dead; seqs: distinct."""
        positions = self.positions(seqs)
        positions = positions[positions >= 0]
        rows, chosen = _set(len(self.segment), positions)
        dead = len(self.segment) - chosen
        twins = self.segment.twins
        if twins is None:
            return Alive(self.segment, rows, dead, rows, dead)
        nodes, chosen = _set(self.segment.nodes, twins.node_of[positions])
        return Alive(self.segment, rows, dead, nodes, self.segment.nodes - chosen)

    def without(self, seqs: NDArray[np.int64]) -> Alive:
        """Return what is left when these rows, too, are dead; seqs not alive change nothing."""
        positions = np.unique(self.positions(seqs))
        positions = positions[positions >= 0]
        if not len(positions):
            return self
        rows = _cleared(self.rows, len(self.segment), positions)
        dead = self.dead + len(positions)
        twins = self.segment.twins
        if twins is None:
            return Alive(self.segment, rows, dead, rows, dead)
        gone = np.array(
            [
                node
                for node in np.unique(twins.node_of[positions])
                if not _bits_at(rows, twins.rows_of(node)).any()
            ],
            np.int64,
        )
        nodes = _cleared(self.nodes, self.segment.nodes, gone) if len(gone) else self.nodes
        return Alive(self.segment, rows, dead, nodes, self.dead_nodes + len(gone))

    def rows_of(self, nodes: NDArray[np.int64], most: int) -> NDArray[np.int64]:
        """Return the positions of the live rows of these nodes, the `most` oldest of each.

        nodes: each with a live row.
        """
        twins = self.segment.twins
        if twins is None:
            return nodes
        rows, shared = twins.split(nodes)
        parts = [rows]
        for node in shared:
            positions = twins.rows_of(node)
            parts.append(positions[self(positions)][:most])
        return np.concatenate(parts)

    def extended(self, segment: Segment) -> Alive:
        """Return the same for a segment with more rows after these, which are alive."""
        if self.rows is None:
            return Alive(segment)
        bits = np.ones(len(segment), np.bool_)
        bits[: len(self.segment)] = np.unpackbits(
            self.rows, count=len(self.segment), bitorder="little"
        )
        return Alive.of(segment, np.packbits(bits, bitorder="little"))


def _bits_at(bits: Bits, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (bits[positions >> 3] >> (positions & 7)) & 1 == 1
    return found


def _set(count: int, positions: NDArray[np.int64]) -> tuple[Bits, int]:
    """Return `count` bits of which those at these positions are set, and how many are."""
    chosen = np.zeros(count, np.bool_)
    chosen[positions] = True
    return np.packbits(chosen, bitorder="little"), int(np.count_nonzero(chosen))


def _every(count: int) -> Bits:
    return np.packbits(np.ones(count, np.bool_), bitorder="little")


def _cleared(bits: Bits | None, count: int, positions: NDArray[np.int64]) -> Bits:
    left = _every(count) if bits is None else bits.copy()
    np.bitwise_and.at(left, positions >> 3, ~(np.uint8(1) << (positions & 7).astype(np.uint8)))
    return left
