"""Groups of duplicates, each around one canonical text.

A chain is no group: A like B and B like C do not make A like C, and a vague text in the middle (a
hub) is like members of several groups that have nothing to do with each other. So

1. every member was itself judged a duplicate of the canonical text;
2. no two members were judged distinct from each other;
3. duplicates of the canonical text that form two groups or more among themselves, linked by it
   alone, do not come together: the largest of these groups stays, the others stay apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A member is held against so many of a group's members, the likeliest of them: each pair costs a
# judgement, and a group of ten thousand has fifty million of them.
HELD_AGAINST = 256


@dataclass(frozen=True, slots=True)
class Near:
    """A text judged to be a duplicate of another.

    place: which text. similarity: cosine, -1 to 1. probability: P(duplicate), 0 to 1.
    """

    place: int
    similarity: float
    probability: float


@dataclass(frozen=True, slots=True)
class Star:
    """A group: a canonical text and its duplicates, the likeliest first."""

    center: int
    members: tuple[Near, ...]


def stars(
    order: Sequence[int],
    near: Callable[[int, NDArray[np.bool_]], Iterable[Near]],
    apart: Callable[[int, Sequence[int]], bool],
    duplicates: Callable[[int, AbstractSet[int]], AbstractSet[int]],
) -> Iterator[Star]:
    """Yield groups of two and more; each text is in one at most.

    Nothing depends on anything but the arguments' values: give places that belong to the texts
    (by their ids, say), and the order in which the texts came makes no difference.

    order: every place, 0 to n - 1, the one that is to be canonical first.
    near: the duplicates of a place among those still free, (n,) bool.
    apart: whether a text is distinct from any of these members.
    duplicates: the duplicates of a place among others, free or not: all, or some where there are.
    """
    free = np.ones(len(order), np.bool_)
    for center in order:
        if not free[center]:
            continue
        free[center] = False
        members: list[Near] = []
        ranked = sorted(near(center, free), key=_likeliest_first)
        for one in _one_group_of(ranked, duplicates):
            if not apart(one.place, [member.place for member in members[:HELD_AGAINST]]):
                free[one.place] = False
                members.append(one)
        if members:
            yield Star(center, tuple(members))


def _likeliest_first(one: Near) -> tuple[float, float, int]:
    return -one.probability, -one.similarity, one.place


def _one_group_of(
    ranked: Sequence[Near], duplicates: Callable[[int, AbstractSet[int]], AbstractSet[int]]
) -> Iterator[Near]:
    """Yield those that are linked to no other, and the largest group of those that are."""
    unseen = {one.place for one in ranked}
    groups: list[set[int]] = []
    for one in ranked:
        if one.place not in unseen:
            continue
        unseen.discard(one.place)
        group, edge = {one.place}, [one.place]
        while edge:
            linked = duplicates(edge.pop(), unseen)
            unseen -= linked
            group |= linked
            edge += linked
        groups.append(group)
    # Of groups of one size, the first has the likeliest member.
    largest = max(groups, key=len, default=set())
    apart = {place for group in groups if len(group) > 1 for place in group} - largest
    return (one for one in ranked if one.place not in apart)


def by_duplicates(counts: Sequence[int]) -> list[int]:
    """Return all places, those with the most duplicates first, then by place."""
    return sorted(range(len(counts)), key=lambda place: (-counts[place], place))
