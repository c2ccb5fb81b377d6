"""What each step of a run trains on, as a function of the step alone.

So a run that was killed goes on exactly where its checkpoint left it, and each of several
processes takes its slice of one and the same global batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from training.batches import GroupBatches
from training.errors import TrainingError
from training.pairs import Pairs

# How the rows of a batch become tensors: sentence-transformers' own collator.
Collate = Callable[[list[dict[str, Any]]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """Unlabelled texts, and a teacher's unit vectors of them, (n, dim) float16."""

    texts: Sequence[str]
    vectors: NDArray[np.float16]


class StepBatches(Dataset[dict[str, Any]]):
    """The collated batch of every step: columns anchor, positive, negative, unlabelled.

    `label` is (n, 2) int64: the group of the pair, and of its explicit negative or -1. The
    explicit negative is a labelled non-duplicate of any text of the pair's group, or a mined one
    of the anchor; where both sides of a pair can be the anchor, chance decides.
    """

    def __init__(
        self,
        pairs: Pairs,
        groups: NDArray[np.int64],
        *,
        batch: int,
        seed: int,
        epochs: float = 1.0,
        steps: int = 0,
        accumulate: int = 1,
        collate: Collate,
        labelled_negatives: bool = True,
        lone_negatives: bool = False,
        hard: float = 0.0,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        """Prepare the batches of a run over the duplicates of `pairs`.

        groups: (len(pairs.texts),) the group of each text; lone_negatives: a labelled
        non-duplicate of texts that have no duplicate takes part as well, as the triplet of one of
        them, itself and the other: the positive is as near as can be, so that all the loss does is
        to push the non-duplicate beyond the margin; steps: of the optimiser, 0 for as many as
        `epochs` passes take; accumulate: batches of each such step; rank, processes: which slice
        of every batch this process takes.
        Raises TrainingError where a batch has fewer pairs than there are processes.
        """
        self._texts = pairs.texts
        self._groups = groups
        # What comes once an epoch: both sides of each duplicate pair, places in `texts`, (n, 2).
        self.sides = np.stack([pairs.left[pairs.labels], pairs.right[pairs.labels]], axis=1)
        self._labelled = _negatives(pairs, groups) if labelled_negatives else {}
        if labelled_negatives and lone_negatives:
            self.sides = np.concatenate([self.sides, _lone(pairs)])
        self._pair_groups = groups[self.sides[:, 0]]
        self._mined: NDArray[np.int64] | None = None
        self._collate = collate
        self._unlabelled: Unlabelled | None = None
        self._unlabelled_a_step = 0
        self._seed = seed
        self._batch = batch
        self._hard = hard
        self._slice = (rank, processes)
        self._batches = GroupBatches(self._pair_groups, batch, seed=seed)
        if len(self._pair_groups) // len(self._batches) < processes:
            raise TrainingError(
                f"a batch of {len(self._pair_groups) // len(self._batches)} pairs cannot be shared "
                f"by {processes} processes; give a larger --batch, more pairs or fewer processes"
            )
        # Whole steps: of one with fewer batches than the others, the trainer loses count.
        wanted = steps or math.ceil(epochs * len(self._batches) / accumulate)
        self._length = wanted * accumulate
        self._epoch: tuple[int, list[list[int]]] | None = None

    @property
    def steps_an_epoch(self) -> int:
        """The number of batches in which every pair comes once."""
        return len(self._batches)

    def epoch_start(self, step: int) -> int:
        """Return the first step of the epoch in which a step falls."""
        return step - step % len(self._batches)

    def unlabelled(self, unlabelled: Unlabelled, a_step: int) -> None:
        """Let every batch carry `a_step` unlabelled texts as well."""
        self._unlabelled = unlabelled
        self._unlabelled_a_step = a_step

    def mined(
        self, negatives: NDArray[np.int64] | None, neighbours: NDArray[np.int64] | None = None
    ) -> None:
        """Take mined negatives from the next step on, and neighbouring groups from the next epoch.

        negatives: (n, 2), for each side of each duplicate pair a place in the texts, or -1;
        neighbours: (groups, k) the nearest other groups of each, -1 pads.
        """
        self._mined = negatives
        if neighbours is not None and self._hard > 0:
            self._batches = GroupBatches(
                self._pair_groups,
                self._batch,
                seed=self._seed,
                neighbours=neighbours,
                hard=self._hard,
            )

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, step: int) -> dict[str, Any]:
        """Return this process's share of the batch of a step, collated."""
        rows = self.rows(step)
        rank, processes = self._slice
        share = np.array_split(np.arange(len(rows)), processes)[rank]
        batch = self._collate([rows[place] for place in share])
        if self._unlabelled is not None:
            count = self._unlabelled_a_step
            places = np.arange(step * count, (step + 1) * count) % len(self._unlabelled.texts)
            places = np.array_split(places, processes)[rank]
            texts = [{"unlabelled": self._unlabelled.texts[place]} for place in places.tolist()]
            batch.update(self._collate(texts))
            vectors = self._unlabelled.vectors[places].astype(np.float32)
            batch["unlabelled_teacher"] = torch.from_numpy(vectors)
        return batch

    def rows(self, step: int) -> list[dict[str, Any]]:
        """Return the rows of the global batch of a step: texts by column, and their `label`."""
        batches = self.hold_epoch(step)
        rng = np.random.default_rng((self._seed, step))
        return [self._row(pair, rng) for pair in batches[step % len(batches)]]

    def hold_epoch(self, step: int) -> list[list[int]]:
        """Return the batches of the epoch in which a step falls, and keep to them until its end."""
        epoch = step // len(self._batches)
        if self._epoch is None or self._epoch[0] != epoch:
            self._batches.set_epoch(epoch)
            self._epoch = (epoch, list(self._batches))
        return self._epoch[1]

    def _row(self, pair: int, rng: np.random.Generator) -> dict[str, Any]:
        side = int(rng.integers(2))
        choices = self._choices(pair, side)
        if len(choices) == 0:
            side = 1 - side
            choices = self._choices(pair, side)
        anchor, positive = self.sides[pair, side], self.sides[pair, 1 - side]
        negative = int(rng.choice(choices)) if len(choices) else -1
        row = {"anchor": self._texts[anchor], "positive": self._texts[positive]}
        if self._labelled or self._mined is not None:
            row["negative"] = self._texts[negative] if negative >= 0 else ""
        group = int(self._groups[negative]) if negative >= 0 else -1
        return {**row, "label": [int(self._pair_groups[pair]), group]}

    def _choices(self, pair: int, side: int) -> Sequence[int]:
        """Return the explicit negatives of a side; a mined one weighs as much as a labelled one."""
        choices = self._labelled.get(int(self._pair_groups[pair]), [])
        if self._mined is not None and self._mined[pair, side] >= 0:
            return [*choices, int(self._mined[pair, side])]
        return choices


def _lone(pairs: Pairs) -> NDArray[np.int64]:
    """Return (n, 2) twice the same text, for each labelled non-duplicate without any duplicate.

    Of the two texts the one that comes first; where several pairs share it, it comes once.
    """
    duplicated = np.zeros(len(pairs.texts), dtype=np.bool_)
    duplicated[pairs.left[pairs.labels]] = duplicated[pairs.right[pairs.labels]] = True
    lone = ~pairs.labels & ~duplicated[pairs.left] & ~duplicated[pairs.right]
    texts = np.unique(pairs.left[lone])
    return np.stack([texts, texts], axis=1)


def _negatives(pairs: Pairs, groups: NDArray[np.int64]) -> dict[int, list[int]]:
    """Return the labelled non-duplicates of each group that has any, each once, in their order.

    What is no duplicate of a question is none of the question's duplicates either. Few texts have
    both a duplicate and a labelled non-duplicate of their own, so most pairs would go without.
    """
    found: dict[int, dict[int, None]] = {}
    apart = ~pairs.labels
    for one, other in (
        (pairs.left[apart], pairs.right[apart]),
        (pairs.right[apart], pairs.left[apart]),
    ):
        for group, text in zip(groups[one].tolist(), other.tolist(), strict=True):
            found.setdefault(group, {})[text] = None
    return {group: list(texts) for group, texts in found.items()}
