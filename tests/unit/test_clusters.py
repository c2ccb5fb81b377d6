"""Groups of duplicates: what a group is, and that nothing else decides it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.domain import clusters
from app.domain.anchors import Change, CollectionSettings
from app.domain.evidence.pair import Values
from app.domain.ports import VectorView
from app.domain.text import fingerprint
from app.domain.verdicts import Verdict
from app.index.kernels import float16_index
from app.index.memory import MemoryIndex
from app.index.segment import Segment
from app.index.view import FaissView
from app.usecases import grouping as module
from app.usecases.grouping import (
    Criteria,
    Group,
    Grouping,
    Text,
    Watch,
    firsts,
    only,
)
from app.usecases.matching import Judge
from tests.unit.fakes import CALIBRATION

SETTINGS = CollectionSettings(duplicate_at=0.8, review_at=0.2)
# The cosines at which P is 0.8 and 0.2.
DUPLICATE = (14 + math.log(0.8 / 0.2)) / 20  # 0.77
DISTINCT = (14 + math.log(0.2 / 0.8)) / 20  # 0.63


def criteria_of(
    settings: CollectionSettings = SETTINGS, least: Verdict = Verdict.DUPLICATE
) -> Criteria:
    judge = Judge(CALIBRATION)
    return Criteria(judge, judge.standard(settings), least)


CRITERIA = criteria_of()


@dataclass
class Watching:
    """Hears every step."""

    steps: list[tuple[str, int, int]] = field(default_factory=list)

    def step(self, name: str, done: int, total: int) -> None:
        """Hear a step."""
        self.steps.append((name, done, total))


def at_angles(degrees: Sequence[float]) -> NDArray[np.float16]:
    """Return unit vectors of a plane, (n, 2)."""
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float16)


def view_of(vectors: NDArray[np.float16], order: Sequence[int]) -> tuple[VectorView, list[int]]:
    """Return a view to which the vectors came in an order, and the seq of each."""
    index = MemoryIndex(vectors.shape[1])
    seqs = [0] * len(vectors)
    changes = []
    for seq, place in enumerate(order, 1):
        seqs[place] = seq
        changes.append(Change(seq, None, vectors[place]))
    index.apply(1, changes)
    return index.view(1), seqs


def grouping_of(
    vectors: NDArray[np.float16],
    order: Sequence[int] | None = None,
    texts: Sequence[str] | None = None,
    criteria: Criteria = CRITERIA,
    watch: Watch | None = None,
) -> Grouping:
    """Return the grouping of texts with these vectors, whose rank is their place."""
    view, seqs = view_of(vectors, range(len(vectors)) if order is None else order)
    names = texts or [f"t{place}" for place in range(len(vectors))]
    listed = [Text(seq, name, fingerprint(name)) for seq, name in zip(seqs, names, strict=True)]
    units = np.array([text.seq for text in firsts(listed)], np.int64)
    view = only(view, units, np.sort(np.array(seqs, np.int64)))
    return Grouping(view, listed, criteria, watch or Watching())


def grouped(
    vectors: NDArray[np.float16],
    order: Sequence[int] | None = None,
    texts: Sequence[str] | None = None,
    criteria: Criteria = CRITERIA,
) -> list[Group]:
    """Return their groups."""
    return grouping_of(vectors, order, texts, criteria)()


def places(groups: list[Group]) -> list[list[int]]:
    return [[group.canonical, *(member.place for member in group.members)] for group in groups]


def test_a_group_is_its_canonical_text_and_its_duplicates() -> None:
    """The text with the most duplicates is canonical, the likeliest member comes first."""
    groups = grouped(at_angles([0, 25, 45, 180]))
    assert places(groups) == [[1, 2, 0]]
    first, second = groups[0].members
    assert first.similarity == pytest.approx(np.cos(np.radians(20)), abs=1e-3)
    assert second.similarity == pytest.approx(np.cos(np.radians(25)), abs=1e-3)
    assert first.probability == pytest.approx(1 / (1 + math.exp(14 - 20 * first.similarity)))
    assert {member.verdict for member in groups[0].members} == {Verdict.DUPLICATE}


def test_a_chain_is_no_group() -> None:
    """Each link is a duplicate of the next, the ends are distinct: nothing joins them."""
    angles = [0.0, 30.0, 60.0, 90.0]  # neighbours 0.87, two apart 0.5
    assert places(grouped(at_angles(angles))) == [[1, 0], [2, 3]]


def test_a_hub_joins_no_two_groups_whose_members_are_distinct() -> None:
    """It goes with the likelier side, although it is a duplicate of both."""
    angles = [0, 1, 2, 36, 72, 73, 74]  # the hub in the middle: 0.79 to 0.83 to either side
    hub = np.cos(np.radians([34, 38]))
    across = np.cos(np.radians([70, 74]))
    assert hub.min() > DUPLICATE
    assert across.max() < DISTINCT
    assert places(grouped(at_angles(angles))) == [[3, 2, 1, 0], [4, 5, 6]]


def test_a_hub_joins_no_two_groups_that_only_it_links() -> None:
    """Where members are not plainly distinct, groups stay apart if the hub alone links them."""
    angles = [0, 1, 2, 22, 42, 43]  # across 0.74 to 0.77: neither duplicates nor distinct
    across = np.cos(np.radians([40, 43]))
    assert across.min() > DISTINCT
    assert across.max() < DUPLICATE
    assert places(grouped(at_angles(angles))) == [[3, 2, 1, 0], [4, 5]]


def test_copies_are_one_text() -> None:
    """Equal fingerprints stand together in the group of the first, with certainty."""
    vectors = at_angles([0, 0, 10, 10, 180, 180])
    texts = ["one", "One!", "two", "TWO", "three", "three?"]
    groups = grouped(vectors, texts=texts)
    assert places(groups) == [[0, 1, 2, 3], [4, 5]]
    assert [member.probability for member in groups[0].members[:1]] == [1.0]
    assert groups[0].members[1].similarity == groups[0].members[2].similarity
    assert groups[1].members[0].verdict is Verdict.DUPLICATE


def test_review_gathers_more() -> None:
    """The verdict asked for is the least that joins; nothing below it is in a group."""
    criteria = criteria_of(least=Verdict.REVIEW)
    vectors = at_angles([0, 45, 180])  # 0.71
    assert grouped(vectors) == []
    (group,) = grouped(vectors, criteria=criteria)
    assert [member.verdict for member in group.members] == [Verdict.REVIEW]


@pytest.mark.parametrize(("cut", "expected"), [(1.0, []), (0.0, [[0, 1, 2]])])
def test_cut_offs_at_the_ends(cut: float, expected: list[list[int]]) -> None:
    """At 1 only equal texts are duplicates, at 0 everything is; neither divides by zero."""
    criteria = criteria_of(CollectionSettings(duplicate_at=cut, review_at=0.0))
    found = grouped(at_angles([0, 120, 240]), criteria=criteria)
    assert [sorted(group) for group in places(found)] == expected
    assert places(grouped(at_angles([0, 90]), texts=["a", "A"], criteria=criteria)) == [[0, 1]]


angles = st.lists(st.integers(0, 119).map(lambda step: step * 3.0), min_size=1, max_size=24)


@settings(max_examples=60)
@given(angles, st.randoms(use_true_random=False))
def test_groups_do_not_depend_on_the_order_in_which_texts_came(
    drawn: list[float], random: np.random.RandomState
) -> None:
    """The same texts, registered in any order, in an exact index: the same groups."""
    vectors = at_angles(drawn)
    order = list(range(len(vectors)))
    random.shuffle(order)
    assert grouped(vectors, order) == grouped(vectors)


@settings(max_examples=60)
@given(angles)
def test_groups_keep_their_promises(drawn: list[float]) -> None:
    """Held against every pair: members are duplicates of the canonical, none distinct, each once.

    And nobody is left out who has a duplicate that is left out, too.
    """
    vectors = at_angles(drawn)
    view, seqs = view_of(vectors, range(len(vectors)))
    rows = vectors.astype(np.float32)
    table = np.stack([view.similarities(np.array(seqs), row) for row in rows])

    def verdict(left: int, right: int) -> Verdict:
        if table[left, right] >= DUPLICATE:
            return Verdict.DUPLICATE
        return Verdict.REVIEW if table[left, right] >= DISTINCT else Verdict.DISTINCT

    found = places(grouped(vectors))
    inside = [place for group in found for place in group]
    assert len(inside) == len(set(inside))
    for canonical, *members in found:
        assert {verdict(canonical, member) for member in members} == {Verdict.DUPLICATE}
        assert Verdict.DISTINCT not in {verdict(*pair) for pair in combinations(members, 2)}
    left = set(range(len(vectors))) - set(inside)
    assert not [pair for pair in combinations(left, 2) if verdict(*pair) is Verdict.DUPLICATE]


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at few neighbours, so that a small set is a crowd."""
    monkeypatch.setattr(module, "WIDENING", (1, 2))
    monkeypatch.setattr(module, "TOGETHER", 3)


@pytest.mark.usefixtures("narrow")
def test_a_crowd_is_one_group_all_the_same() -> None:
    """A text with more duplicates than are looked at has all of them in its group."""
    angles = [*np.linspace(0, 10, 12), 180.0]
    (group,) = places(grouped(at_angles(angles)))
    assert sorted(group) == list(range(12))


@pytest.mark.parametrize("exact_below", [10**6, 0])
def test_a_larger_collection_against_all_pairs(exact_below: int) -> None:
    """Every pair above the cut-off is found by an exact view, and 99% of them by a graph."""
    rng = np.random.default_rng(5)
    centers = rng.normal(size=(300, 32))
    rows = np.repeat(centers, 4, axis=0) + rng.normal(scale=0.4, size=(1200, 32))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    vectors = rows.astype(np.float16)
    empty = Segment("flat", float16_index(32), np.empty(0, np.int64))
    view: VectorView = FaissView.over(empty, None, 0, exact_below).apply(
        [Change(seq, None, vector) for seq, vector in enumerate(vectors, 1)]
    )
    view = view.compacted(lambda: None)
    texts = [Text(seq, f"t{seq}", fingerprint(f"t{seq}")) for seq in range(1, 1201)]
    grouping = Grouping(view, texts, CRITERIA, Watching())
    groups = grouping()
    found = {(low, high) for low, near in grouping.edges.items() for high in near if low < high}
    table = vectors.astype(np.float32) @ vectors.astype(np.float32).T
    low, high = np.nonzero(np.triu(table >= DUPLICATE, 1))
    expected = set(zip(low.tolist(), high.tolist(), strict=True))
    assert len(expected) > 1000
    if exact_below:
        assert found == expected
    else:
        assert found <= expected
        assert len(found) >= 0.99 * len(expected)
    assert len(groups) > 200


@dataclass
class Constant:
    """A head that gives every pair one score."""

    score: float

    def scores(
        self, vectors: NDArray[np.float32], others: NDArray[np.floating]
    ) -> NDArray[np.float32]:
        """Return the score for each of `others`."""
        assert vectors.shape == (1, *others.shape[1:])
        return np.full(len(others), self.score, np.float32)


@pytest.mark.parametrize(("score", "expected"), [(3.0, [[0, 1]]), (0.0, [])])
def test_a_head_decides_at_any_cosine(score: float, expected: list[list[int]]) -> None:
    """Whatever it scores: two texts far below the cut-off of the cosine are duplicates by it."""
    judge = Judge(replace(CALIBRATION, head=1.0), Constant(score))
    criteria = Criteria(judge, judge.standard(SETTINGS))
    vectors = at_angles([0, 48, 180])
    assert np.cos(np.radians(48)) == pytest.approx(DUPLICATE - 0.1, abs=2e-3)
    assert places(grouped(vectors, criteria=criteria)) == expected


@dataclass
class Judging(Watching):
    """Counts the pairs whose texts are read between two steps."""

    pairs: int = 0
    longest: int = 0

    def step(self, name: str, done: int, total: int) -> None:
        """Hear a step."""
        Watching.step(self, name, done, total)
        self.longest, self.pairs = max(self.longest, self.pairs), 0

    def criteria(self, number: float) -> Criteria:
        """Return criteria that count. number: what another number in a text weighs."""
        calibration = replace(CALIBRATION, head=1.0, evidence={"numbers": number})
        judge = Judge(calibration, Constant(0.0))
        read = judge.scorer.evidence

        def counted(left: str, right: str) -> Values:
            self.pairs += 1
            return read(left, right)

        judge.scorer.evidence = counted  # type: ignore[method-assign]
        return Criteria(judge, judge.standard(SETTINGS))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at a few neighbours and judge a few pairs at a time."""
    monkeypatch.setattr(module, "WIDENING", (4, 8, 16))
    monkeypatch.setattr(module, "STEP", 16)
    monkeypatch.setattr(clusters, "HELD_AGAINST", 16)


@pytest.mark.usefixtures("small")
def test_texts_that_only_look_alike_are_no_crowd() -> None:
    """Templated texts are near each other by the hundred, and their words keep them apart."""
    watch = Judging()
    count = 60
    texts = [f"How do I install package {number}?" for number in range(count)]
    vectors = at_angles(np.linspace(0, 5, count).tolist())
    grouping = grouping_of(vectors, texts=texts, criteria=watch.criteria(-20.0), watch=watch)
    assert grouping() == []
    assert grouping._crowded == set()  # else each would be held against all others
    assert 16 <= watch.longest <= 16 + 16
    assert [step for step in watch.steps if step[0] == "grouping"] == [("grouping", 0, 0)]


@pytest.mark.usefixtures("small")
def test_a_crowd_is_judged_step_by_step() -> None:
    """Between two steps, at which a job rests or ends, lie no more pairs than said."""
    watch = Judging()
    count = 120
    texts = [f"How do I install package {number}?" for number in range(count)]
    vectors = at_angles(np.linspace(0, 5, count).tolist())
    (group,) = grouping_of(vectors, texts=texts, criteria=watch.criteria(0.0), watch=watch)()
    assert len(group) == count
    assert 16 <= watch.longest <= 16 + 16
    done = [step[1] for step in watch.steps if step[0] == "grouping"]
    assert done == sorted(done)
    assert len(set(done)) > 50  # though all of it is one group
    assert 100 < max(done) <= 120


def test_only_what_can_be_a_duplicate_is_read() -> None:
    """Texts whose vectors say that they are none, whatever the words, cost no reading."""
    watch = Judging()
    vectors = at_angles([0, 60, 120, 180, 240, 300])
    assert grouping_of(vectors, criteria=watch.criteria(-1.0), watch=watch)() == []
    assert (watch.longest, watch.pairs) == (0, 0)


@pytest.mark.parametrize("copies", [1, 4, 301])
def test_copies_do_not_count(copies: int) -> None:
    """The text with the most other duplicates is canonical, and is found, however often it came."""
    angles = [0.0, *[20.0] * copies, 40.0, 41.0]
    names = ["a", *[f"t{'!' * n}" for n in range(copies)], "c", "d"]
    (group,) = places(grouped(at_angles(angles), texts=names))
    assert group[0] == 1
    assert sorted(group) == list(range(copies + 3))


def test_a_text_often_copied_has_the_duplicates_it_has() -> None:
    """Its copies stand in nobody's way, and make it no more canonical than it is."""
    angles = [*[0.0] * 300, 30.0, 31.0, 70.0]
    names = [*[f"t{'!' * n}" for n in range(300)], "b", "c", "d"]
    assert places(grouped(at_angles(angles), texts=names))[0][0] == 301


@pytest.mark.usefixtures("narrow")
def test_in_a_crowd_too_most_duplicates_go_first() -> None:
    """A text with more duplicates than are looked at is not canonical before one with still more.

    The middle one has two neighbours and is one of two for each of the others.
    """
    angles = [0.0, 15.0, 16.0, 17.0, 32.0]
    (group,) = places(grouped(at_angles(angles)))
    assert group[0] == 2
    assert sorted(group) == [0, 1, 2, 3, 4]


def test_progress_reaches_its_end() -> None:
    """Steps count up to their totals, the search first."""
    watch = Watching()
    view, seqs = view_of(at_angles([0, 5, 10, 90, 95, 180] * 30), range(180))
    texts = [Text(seq, f"t{seq}", fingerprint(f"t{seq}")) for seq in seqs]
    Grouping(view, texts, CRITERIA, watch)()
    searching = [step for step in watch.steps if step[0] == "searching"]
    assert (searching[0], searching[-1]) == (("searching", 0, 180), ("searching", 180, 180))
    done = [step[1] for step in searching]
    assert done == sorted(done)
    assert 64 in done
    done = [step[1] for step in watch.steps if step[0] == "grouping"]
    assert done == sorted(done)
    assert {step[2] for step in watch.steps if step[0] == "grouping"} == {180}
