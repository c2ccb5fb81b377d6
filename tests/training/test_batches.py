"""Batches hold no two pairs of one group, and every pair comes once an epoch."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.batches import GroupBatches

group_lists = st.lists(st.integers(0, 30), min_size=1, max_size=120)


def of_epoch(batches: GroupBatches, epoch: int) -> list[list[int]]:
    batches.set_epoch(epoch)
    return list(batches)


def neighbours_of(count: int, seed: int) -> NDArray[np.int64]:
    """Return three neighbours of each group, some missing, some the group itself."""
    return np.random.default_rng(seed).integers(-1, count, (count, 3))


@given(group_lists, st.integers(1, 40), st.integers(0, 5), st.sampled_from([0.0, 0.3, 1.0]))
@settings(max_examples=300)
def test_no_batch_ever_holds_two_pairs_of_one_group(
    groups: list[int], size: int, epoch: int, hard: float
) -> None:
    """Whatever the groups, the size, the epoch and the mode; and every pair comes exactly once."""
    near = neighbours_of(max(groups) + 1, seed=epoch)
    batches = GroupBatches(np.array(groups), size, seed=7, neighbours=near, hard=hard)
    made = of_epoch(batches, epoch)
    assert len(made) == len(batches)
    largest = max(groups.count(group) for group in groups)
    assert len(batches) == max(math.ceil(len(groups) / size), largest)
    assert sorted(pair for batch in made for pair in batch) == list(range(len(groups)))
    for batch in made:
        inside = [groups[pair] for pair in batch]
        assert len(set(inside)) == len(inside)
    sizes = [len(batch) for batch in made]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= size


@given(group_lists, st.integers(1, 40), st.sampled_from([0.0, 0.5]))
@settings(max_examples=50)
def test_an_epoch_depends_on_the_seed_and_its_number_alone(
    groups: list[int], size: int, hard: float
) -> None:
    """So a run that was killed finds the batches of its epoch again, without those before it."""
    near = neighbours_of(max(groups) + 1, seed=1)
    first = GroupBatches(np.array(groups), size, seed=3, neighbours=near, hard=hard)
    for epoch in range(3):
        of_epoch(first, epoch)
    again = GroupBatches(np.array(groups), size, seed=3, neighbours=near, hard=hard)
    assert of_epoch(first, 3) == of_epoch(again, 3)


def test_epochs_and_seeds_differ() -> None:
    """Another epoch, or another seed, puts the pairs together otherwise."""
    groups = np.arange(100)
    batches = GroupBatches(groups, 10, seed=0)
    others = GroupBatches(groups, 10, seed=1)
    assert of_epoch(batches, 0) != of_epoch(batches, 1)
    assert of_epoch(batches, 0) != of_epoch(others, 0)


def test_hard_batches_hold_neighbouring_groups() -> None:
    """With pairs of groups that are each other's only neighbour, most stand in one batch."""
    groups = np.arange(1_000)
    partner = groups ^ 1
    near = partner[:, None]

    def together(hard: float) -> float:
        batches = GroupBatches(groups, 20, seed=0, neighbours=near, hard=hard)
        found = [set(batch) for batch in of_epoch(batches, 0)]
        return float(np.mean([partner[pair] in batch for batch in found for pair in batch]))

    assert together(0.0) < 0.1
    # Half of the places are filled by a partner, so nearly everyone has one.
    assert together(0.5) > 0.95
    assert 0.4 < together(0.2) < 0.6


def test_a_hundred_thousand_pairs_take_seconds() -> None:
    """The hard mode is the slow one, and it is made anew every epoch."""
    rng = np.random.default_rng(0)
    groups = np.sort(rng.integers(0, 60_000, 100_000))
    near = rng.integers(0, 60_000, (60_000, 16))
    before = time.process_time()
    made = list(GroupBatches(groups, 64, seed=0, neighbours=near, hard=0.5))
    assert sum(map(len, made)) == 100_000
    assert time.process_time() - before < 30


def test_large_groups_do_not_slow_the_hard_mode() -> None:
    """Seventy groups of 1,430 pairs each take seconds, as as many pairs of small groups do."""
    groups = np.repeat(np.arange(70), 1_430)
    near = np.random.default_rng(0).integers(0, 70, (70, 16))
    before = time.process_time()
    made = list(GroupBatches(groups, 64, seed=0, neighbours=near, hard=0.5))
    assert sum(map(len, made)) == 100_100
    assert time.process_time() - before < 30


@pytest.mark.parametrize(("groups", "size"), [([], 4), ([1, 2], 0)])
def test_batches_of_nothing_are_refused(groups: list[int], size: int) -> None:
    """No pairs, or batches of none, are an error at once."""
    with pytest.raises(ValueError, match="cannot make batches"):
        GroupBatches(np.array(groups, dtype=np.int64), size, seed=0)
