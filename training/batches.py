"""Batches of duplicate pairs, no two of one group: no question is another's false negative."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

# Pairs of one neighbouring group that are tried before the next group is.
_TRIES = 4


class GroupBatches:
    """The batches of an epoch, as places of pairs; a batch sampler for torch's DataLoader.

    Every pair comes once an epoch, no batch holds two pairs of one group, and the batches are as
    few and as even as that allows: `max(ceil(n / size), pairs of the largest group)`. An epoch
    depends on the seed and its number alone, so any can be made without those before it.

    In the hard mode a share of each batch is filled by groups that are neighbours of a group
    already in it, so that in-batch negatives are hard.
    """

    def __init__(
        self,
        groups: NDArray[np.int64],
        size: int,
        *,
        seed: int,
        neighbours: NDArray[np.int64] | None = None,
        hard: float = 0.0,
    ) -> None:
        """Prepare the batches.

        groups: (n,) the group of each pair; size: pairs of a batch at most; neighbours: (g, k) the
        nearest other groups of each group, nearest first, -1 pads; hard: 0..1, share of a batch
        that neighbours fill.
        Raises ValueError where there are no pairs, or the size is below 1.
        """
        if len(groups) == 0 or size < 1:
            raise ValueError(f"cannot make batches of {size} out of {len(groups)} pairs")
        self._groups = np.asarray(groups)
        self._seed = seed
        self._neighbours = neighbours if hard > 0 else None
        self._hard = hard
        self._epoch = 0
        largest = int(np.bincount(self._groups).max())
        self._count = max(math.ceil(len(groups) / size), largest)

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return self._count

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, whose batches come next."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        """Give the batches of the chosen epoch."""
        rng = np.random.default_rng((self._seed, self._epoch))
        batches = self._dealt(rng)
        if self._neighbours is not None:
            Gathering(self._groups, self._neighbours, batches, rng).gather(self._hard)
        yield from batches

    def _dealt(self, rng: np.random.Generator) -> list[list[int]]:
        """Return even batches: pairs in random order of their groups, dealt one by one.

        The pairs of a group stand together and are no more than there are batches, so each goes
        to another.
        """
        shuffled = rng.permutation(len(self._groups))
        rank = rng.permutation(int(self._groups.max()) + 1)
        order = shuffled[np.argsort(rank[self._groups[shuffled]], kind="stable")]
        return [order[first :: self._count].tolist() for first in rng.permutation(self._count)]


class Gathering:
    """Brings pairs of neighbouring groups into one batch by swapping pairs between batches.

    A swap happens only where neither batch then holds a group twice, so batches stay as valid and
    as even as they were.
    """

    def __init__(
        self,
        groups: NDArray[np.int64],
        neighbours: NDArray[np.int64],
        batches: list[list[int]],
        rng: np.random.Generator,
    ) -> None:
        """Prepare to change `batches` in place."""
        self._group: list[int] = groups.tolist()
        self._neighbours = neighbours
        self._batches = batches
        self._rng = rng
        self._inside = [{self._group[pair] for pair in batch} for batch in batches]
        self._place = {
            pair: (b, i) for b, batch in enumerate(batches) for i, pair in enumerate(batch)
        }
        self._pairs: dict[int, list[int]] = defaultdict(list)
        for pair, group in enumerate(self._group):
            self._pairs[group].append(pair)
        self._settled: set[int] = set()

    def gather(self, share: float) -> None:
        """Fill `share` of each batch with neighbours of pairs in it, as far as there are any."""
        for number in self._rng.permutation(len(self._batches)).tolist():
            wanted = round(share * len(self._batches[number]))
            seeds = deque(self._batches[number])
            while wanted > 0 and seeds:
                seed = seeds.popleft()
                if self._place[seed][0] != number:
                    continue
                for pair in self._near(seed, number):
                    if wanted > 0 and self._bring(pair, number, keep=seed):
                        self._settled |= {seed, pair}
                        seeds.appendleft(pair)
                        wanted -= 1
                        break

    def _near(self, pair: int, number: int) -> Iterator[int]:
        """Give pairs of neighbouring groups that have no neighbours of their own yet.

        Only of groups that the batch lacks, and few of each: of a large group any pair will do.
        """
        for group in self._neighbours[self._group[pair]].tolist():
            if group < 0 or group in self._inside[number]:
                continue
            left = self._pairs[group]
            while left and left[-1] in self._settled:
                left.pop()
            yield from (near for near in left[-_TRIES:] if near not in self._settled)

    def _bring(self, pair: int, number: int, *, keep: int) -> bool:
        """Swap a pair into a batch for one that has not settled; return whether that could be."""
        other, place = self._place[pair]
        group = self._group[pair]
        if other == number or group in self._inside[number]:
            return False
        # From the end, as those at the beginning are the next to be given neighbours.
        for mine, leaving in reversed(list(enumerate(self._batches[number]))):
            if leaving == keep or leaving in self._settled:
                continue
            if self._group[leaving] in self._inside[other]:
                continue
            self._put(number, mine, pair, leaving)
            self._put(other, place, leaving, pair)
            return True
        return False

    def _put(self, number: int, place: int, pair: int, instead: int) -> None:
        self._batches[number][place] = pair
        self._place[pair] = (number, place)
        self._inside[number].remove(self._group[instead])
        self._inside[number].add(self._group[pair])
