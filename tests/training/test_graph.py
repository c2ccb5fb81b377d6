"""Groups, contradictions and splits, against a union-find of a few lines."""

from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.errors import TrainingError
from training.graph import components, drop_contradictions, groups, split
from training.pairs import Dropped, Pairs, Source

Rows = list[tuple[int, int, bool]]

edges = st.tuples(st.integers(0, 11), st.integers(0, 11), st.booleans())
drawn_rows = st.lists(
    edges.filter(lambda edge: edge[0] != edge[1]),
    min_size=1,
    max_size=24,
    unique_by=lambda edge: (min(edge[:2]), max(edge[:2])),
)


def paired(rows: Rows) -> Pairs:
    """Return pairs of the texts that the numbers name; the line of a pair is its place."""
    texts = list(dict.fromkeys(str(end) for left, right, _ in rows for end in (left, right)))
    return Pairs(
        texts=tuple(texts),
        left=np.array([texts.index(str(left)) for left, _, _ in rows], dtype=np.int64),
        right=np.array([texts.index(str(right)) for _, right, _ in rows], dtype=np.int64),
        labels=np.array([label for _, _, label in rows], dtype=np.bool_),
        natural=np.ones(len(rows), dtype=np.bool_),
        fingerprint="f",
        sources=(Source(Path("rows.tsv"), "f"),),
        origins=np.array([(0, place) for place in range(len(rows))], dtype=np.int64),
    )


def united(texts: tuple[str, ...], links: list[tuple[int, int]]) -> list[int]:
    """Return the set of each text by union-find, sets numbered by first appearance."""
    parent = list(range(len(texts)))

    def root(place: int) -> int:
        while parent[place] != place:
            place = parent[place]
        return place

    for left, right in links:
        parent[root(left)] = root(right)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(place), len(numbers)) for place in range(len(texts))]


def links(pairs: Pairs, *, duplicates_only: bool) -> list[tuple[int, int]]:
    ends = zip(pairs.left.tolist(), pairs.right.tolist(), pairs.labels.tolist(), strict=True)
    return [(left, right) for left, right, label in ends if label or not duplicates_only]


def rows_of(pairs: Pairs) -> list[tuple[str, str, bool, int]]:
    """Return the pairs as text, text, label and line."""
    columns = (pairs.left, pairs.right, pairs.labels, pairs.origins[:, 1])
    return [
        (pairs.texts[left], pairs.texts[right], label, line)
        for left, right, label, line in zip(*(each.tolist() for each in columns), strict=True)
    ]


def test_groups_are_the_components_of_the_duplicates() -> None:
    """Duplicates link a to b to c; a non-duplicate links nothing; d stands alone."""
    pairs = paired([(3, 0, False), (0, 1, True), (2, 1, True), (5, 4, True)])
    assert pairs.texts == ("3", "0", "1", "2", "5", "4")
    found = groups(pairs)
    np.testing.assert_array_equal(found, [0, 1, 1, 1, 2, 2])
    assert found.dtype == np.int64
    np.testing.assert_array_equal(components(pairs), [0, 0, 0, 0, 1, 1])


@given(drawn_rows)
def test_groups_and_components_agree_with_union_find(rows: Rows) -> None:
    """Over any graph, numbers included."""
    pairs = paired(rows)
    assert groups(pairs).tolist() == united(pairs.texts, links(pairs, duplicates_only=True))
    assert components(pairs).tolist() == united(pairs.texts, links(pairs, duplicates_only=False))


def test_a_non_duplicate_inside_a_group_is_dropped_and_listed() -> None:
    """Of 0 = 1 = 2, 0 ≠ 2 is dropped after what was dropped before; 0 ≠ 3 stays."""
    pairs = paired([(0, 1, True), (0, 3, False), (2, 0, False), (1, 2, True)])
    earlier = Dropped("blank", Path("rows.tsv"), 9, ("", "x"))
    found = drop_contradictions(pairs.take(np.arange(4)))
    assert rows_of(found) == [("0", "1", True, 0), ("0", "3", False, 1), ("1", "2", True, 3)]
    assert found.dropped == (Dropped("contradiction", Path("rows.tsv"), 2, ("2", "0")),)
    again = drop_contradictions(
        replace(pairs, dropped=(earlier,), sources=(), origins=np.empty((0, 2), np.int64))
    )
    assert again.dropped == (earlier, Dropped("contradiction", None, None, ("2", "0")))


@given(drawn_rows)
def test_contradictions_are_exactly_those_inside_groups(rows: Rows) -> None:
    """What is kept and what is dropped make the whole, and dropping again drops nothing."""
    pairs = paired(rows)
    group = united(pairs.texts, links(pairs, duplicates_only=True))
    place = {text: number for number, text in enumerate(pairs.texts)}
    kept = drop_contradictions(pairs)
    inside = [
        row for row in rows_of(pairs) if not row[2] and group[place[row[0]]] == group[place[row[1]]]
    ]
    assert [(one.texts, one.line) for one in kept.dropped] == [(row[:2], row[3]) for row in inside]
    assert sorted(rows_of(kept) + inside, key=lambda row: row[3]) == rows_of(pairs)
    assert drop_contradictions(kept).dropped == kept.dropped


@given(
    drawn_rows,
    st.integers(0, 2**32 - 1),
    st.sampled_from([(0.5, 0.5), (0.9, 0.1), (0.6, 0.2, 0.2)]),
)
def test_no_text_is_in_two_parts_and_no_pair_is_lost(
    rows: Rows, seed: int, wanted: tuple[float, ...]
) -> None:
    """Over any graph: parts are unions of components, in the order of the pairs, the same again."""
    pairs = paired(rows)
    shares = dict(zip("abc", wanted, strict=False))
    sizes = Counter(components(pairs)[pairs.left].tolist())
    try:
        parts = split(pairs, shares, seed=seed)
    except TrainingError:
        # Nothing is left for a part only where a component is larger than its share.
        assert min(wanted) * len(pairs) < max(sizes.values())
        return
    assert list(parts) == list(shares)
    texts = [text for part in parts.values() for text in part.texts]
    assert sorted(texts) == sorted(pairs.texts)
    found = [rows_of(part) for part in parts.values()]
    assert all(part == sorted(part, key=lambda row: row[3]) for part in found)
    assert sorted(chain.from_iterable(found), key=lambda row: row[3]) == rows_of(pairs)
    again = split(pairs, shares, seed=seed)
    assert [rows_of(part) for part in again.values()] == found
    # Of two parts none is over its share by a whole component, and of more by little else.
    for name, part in parts.items():
        over = len(part) - shares[name] * len(pairs)
        assert over <= (len(shares) - 1) * shares[name] * max(sizes.values()) + 1e-9


def components_of(*sizes: int) -> Pairs:
    """Return chains of pairs, each of so many, the labels in turn."""
    rows: Rows = []
    start = 0
    for size in sizes:
        rows += [(start + step, start + step + 1, step % 2 == 0) for step in range(size)]
        start += size + 1
    return paired(rows)


def test_parts_have_their_shares_of_small_and_large_components() -> None:
    """Of 40 components of each of three sizes, the tenth gets four of each."""
    sizes = [1] * 40 + [5] * 40 + [2] * 40
    pairs = components_of(*sizes)
    parts = split(pairs, {"train": 0.9, "dev": 0.1}, seed=3)
    dev = Counter(Counter(components(parts["dev"])[parts["dev"].left].tolist()).values())
    assert len(parts["train"]) == 288
    assert len(parts["dev"]) == 32
    assert dev == {5: 4, 2: 4, 1: 4}


def test_another_seed_is_another_split() -> None:
    """Components of equal size are drawn by the seed."""
    pairs = components_of(*[1] * 50)
    one, two = (split(pairs, {"train": 0.8, "dev": 0.2}, seed=seed)["dev"] for seed in (1, 2))
    assert len(one) == len(two) == 10
    assert one.texts != two.texts


def test_a_component_larger_than_a_share_goes_where_it_fits() -> None:
    """The giant is for the largest part, however the parts are ordered."""
    pairs = components_of(*[1] * 20, 60)
    parts = split(pairs, {"dev": 0.2, "train": 0.8}, seed=0)
    assert {name: len(part) for name, part in parts.items()} == {"dev": 16, "train": 64}


@pytest.mark.parametrize("shares", [{"a": 0.5, "b": 0.4}, {"a": 1.0, "b": 0.0}, {}])
def test_shares_that_do_not_make_one_are_refused(shares: dict[str, float]) -> None:
    """Parts of nothing and shares that leave some pairs out are mistakes."""
    with pytest.raises(TrainingError, match="must be above 0 and 1 together"):
        split(components_of(1, 1, 1), shares, seed=0)


def test_too_few_components_to_share_are_refused() -> None:
    """One component cannot be cut."""
    with pytest.raises(TrainingError, match="9 pairs in 1 linked pieces leave nothing for"):
        split(components_of(9), {"train": 0.5, "dev": 0.5}, seed=0)
