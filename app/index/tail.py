"""The rows that no segment holds yet: searched exactly, and cheap to append to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from app.index.kernels import estimates

BLOCK_ROWS = 1024


class Block:
    """Rows that several tails share: each sees only the first so many of them.

    A row, once written, is never written again, so a tail that sees it never changes. What a
    thrown-away tail wrote is used again if the same rows come once more (the writer first stages
    a view, then publishes one made from the same base); other rows go to a copy.
    """

    __slots__ = ("_lock", "_rows", "_written")

    def __init__(self, dimension: int) -> None:
        self._rows = np.empty((BLOCK_ROWS, dimension), np.float32)
        self._written = 0
        self._lock = threading.Lock()

    @property
    def rows(self) -> NDArray[np.float32]:
        """Return all rows, (BLOCK_ROWS, dim) float32; those not yet written hold anything."""
        return self._rows

    def place(self, start: int, rows: NDArray[np.float32]) -> int:
        """Return how many of `rows` stand from `start` on now; 0 where others stand there.

        start: how many rows of this block the caller's tail sees: at most what was written, and
        fewer than there is room for.
        """
        with self._lock:
            known = min(self._written - start, len(rows))
            if not np.array_equal(self._rows[start : start + known], rows[:known]):
                return 0
            end = min(start + len(rows), BLOCK_ROWS)
            self._rows[start + known : end] = rows[known : end - start]
            self._written = max(self._written, end)
            return end - start

    def copy(self, length: int) -> Block:
        """Return a block of its own with the first `length` rows of this one."""
        block = Block(self._rows.shape[1])
        block._rows[:length] = self._rows[:length]
        block._written = length
        return block


@dataclass(frozen=True, slots=True)
class Tail:
    """Rows in the order of their seqs; nothing ever changes in it.

    seqs: (n,) int64, ascending.
    alive: (n,) bool.
    live: how many are alive.
    """

    dimension: int
    blocks: tuple[Block, ...]
    seqs: NDArray[np.int64]
    alive: NDArray[np.bool_]
    live: int

    @classmethod
    def empty(cls, dimension: int) -> Tail:
        """Return a tail without rows."""
        return cls(dimension, (), np.empty(0, np.int64), np.empty(0, np.bool_), 0)

    def __len__(self) -> int:
        """Return how many rows it holds, dead ones included."""
        return len(self.seqs)

    def extended(self, seqs: NDArray[np.int64], vectors: NDArray[np.float16]) -> Tail:
        """Return the tail with more rows. seqs: (n,) ascending. vectors: (n, dim)."""
        rows = vectors.astype(np.float32)
        blocks = list(self.blocks)
        length = len(self)
        while len(rows):
            start = length % BLOCK_ROWS
            if start == 0:
                # A full last block cannot say what comes after it, so a new one begins here.
                blocks.append(Block(self.dimension))
            placed = blocks[-1].place(start, rows)
            if not placed:
                blocks[-1] = blocks[-1].copy(start)
                continue
            length += placed
            rows = rows[placed:]
        return Tail(
            self.dimension,
            tuple(blocks),
            np.concatenate([self.seqs, seqs]),
            np.concatenate([self.alive, np.ones(len(seqs), np.bool_)]),
            self.live + len(seqs),
        )

    def without(self, seqs: NDArray[np.int64]) -> Tail:
        """Return the tail with these rows dead; seqs that it does not hold change nothing."""
        positions = self.positions(seqs)
        positions = positions[positions >= 0]
        if not len(positions):
            return self
        alive = self.alive.copy()
        alive[positions] = False
        return replace(self, alive=alive, live=int(np.count_nonzero(alive)))

    def only(self, seqs: NDArray[np.int64]) -> Tail:
        """Return the tail with all rows but these dead; seqs: distinct."""
        positions = self.positions(seqs)
        positions = positions[positions >= 0]
        alive = np.zeros(len(self), np.bool_)
        alive[positions] = True
        return replace(self, alive=alive, live=len(positions))

    def positions(self, seqs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where each of `seqs` stands, -1 for one that is dead or not here."""
        if not len(self.seqs):
            return np.full(len(seqs), -1, np.int64)
        found = np.minimum(np.searchsorted(self.seqs, seqs), len(self.seqs) - 1)
        held = (self.seqs[found] == seqs) & self.alive[found]
        return np.where(held, found, -1)

    def nearest(self, vector: NDArray[np.float32], k: int, margin: float) -> NDArray[np.int64]:
        """Return the positions of the `k` nearest live rows and of all that tie with the last.

        margin: how much less similar a row may be and still count as a tie.
        """
        if not self.live:
            return np.empty(0, np.int64)
        values = np.empty(len(self), np.float32)
        for number, block in enumerate(self.blocks):
            part = values[number * BLOCK_ROWS : (number + 1) * BLOCK_ROWS]
            part[:] = estimates(block.rows[: len(part)], vector)
        if self.live < len(self):
            values[~self.alive] = -np.inf
        if k >= self.live:
            return np.flatnonzero(self.alive)
        last = min(float(np.partition(values, -k)[-k]), 1.0)
        return np.flatnonzero(values >= last - margin)

    def rows(self, positions: NDArray[np.int64]) -> NDArray[np.float16]:
        """Return the vectors at `positions`, (n, dim) float16."""
        found = np.empty((len(positions), self.dimension), np.float16)
        for number in np.unique(positions // BLOCK_ROWS):
            here = positions // BLOCK_ROWS == number
            found[here] = self.blocks[number].rows[positions[here] % BLOCK_ROWS]
        return found

    def batches(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
        """Yield the live rows, in ascending seq, a block at a time."""
        for start in range(0, len(self), BLOCK_ROWS):
            positions = start + np.flatnonzero(self.alive[start : start + BLOCK_ROWS])
            if len(positions):
                yield self.seqs[positions], self.rows(positions)
