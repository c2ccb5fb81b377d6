"""The graph of questions that labelled pairs make: its groups, its contradictions, its splits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from training.errors import TrainingError
from training.pairs import Dropped, Pairs


def groups(pairs: Pairs) -> NDArray[np.int64]:
    """Return the group of each text, (texts,), numbered from 0 by first appearance.

    Groups are the connected components of the duplicates: a text is a duplicate of whatever is a
    duplicate of its duplicate. A text without a duplicate is a group of its own.
    """
    return _connected(len(pairs.texts), pairs.left[pairs.labels], pairs.right[pairs.labels])


def components(pairs: Pairs) -> NDArray[np.int64]:
    """Return the component of each text, (texts,), in the graph of all pairs, numbered likewise."""
    return _connected(len(pairs.texts), pairs.left, pairs.right)


def drop_contradictions(pairs: Pairs) -> Pairs:
    """Return the pairs without the non-duplicates whose texts are of one group.

    They are listed in `dropped`, with their places in the files. Groups stay as they were, since
    only duplicates make them.
    """
    group = groups(pairs)
    contradicted = ~pairs.labels & (group[pairs.left] == group[pairs.right])
    dropped = []
    for pair in np.flatnonzero(contradicted).tolist():
        path, line = pairs.origin(pair)
        texts = pairs.texts[pairs.left[pair]], pairs.texts[pairs.right[pair]]
        dropped.append(Dropped("contradiction", path, line, texts))
    return replace(pairs.take(~contradicted), dropped=(*pairs.dropped, *dropped))


def split(pairs: Pairs, shares: Mapping[str, float], *, seed: int) -> dict[str, Pairs]:
    """Return the pairs in parts, of which no text nor any pair linked to it is in two.

    Whole components of the graph of all pairs, non-duplicates included, go to one part or the
    other: the largest first, those of equal size shuffled, each to the part that it leaves least
    full. So every part gets its share of small and of large components, and is at its share of
    pairs to within the size of the last ones, unless one component is larger than the share.
    Parts keep the order of the pairs; `dropped` stays with the whole.

    shares: of the pairs that each part gets; together 1.
    Raises TrainingError where the shares are not, or a part would be empty.
    """
    if not all(share > 0 for share in shares.values()) or not math.isclose(
        sum(shares.values()), 1.0
    ):
        raise TrainingError(f"the shares {dict(shares)} must be above 0 and 1 together")
    component = components(pairs)[pairs.left]
    sizes = np.bincount(component)
    shuffled = np.random.default_rng(seed).permutation(len(sizes))
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    wanted = [share * len(pairs) for share in shares.values()]
    held = [0] * len(wanted)
    part_of = np.empty(len(sizes), dtype=np.int64)
    for place, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        part = min(range(len(wanted)), key=lambda each: (held[each] + size) / wanted[each])
        held[part] += size
        part_of[place] = part
    parts = part_of[component]
    for name, count in zip(shares, held, strict=True):
        if count == 0:
            raise TrainingError(
                f"{len(pairs)} pairs in {len(sizes)} linked pieces leave nothing for the part "
                f"{name!r}; give more pairs or a larger share"
            )
    return {
        name: replace(pairs.take(parts == place), dropped=()) for place, name in enumerate(shares)
    }


def _connected(size: int, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the connected component of each of `size` nodes, numbered by first appearance."""
    edges = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(size, size))
    _, found = connected_components(edges, directed=False)
    _, first, place = np.unique(found, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[place]
