"""What filters admit is kept from lookup to lookup, and is as true as reading it anew."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.domain.anchors import Change, Filter
from app.domain.ports import Hits, SelectedSince
from app.index.memory import MemoryIndex
from app.storage.memory import MemoryAnchorStore
from app.usecases import filtered as module
from app.usecases.filtered import Filtered
from app.usecases.writer import Writer, Writing
from tests.unit.fakes import DIMENSION, WordEncoder


class CountingStore(MemoryAnchorStore):
    """Says which filters were read out of it, and how."""

    def __init__(self, encoder: str) -> None:
        super().__init__(encoder)
        self.asked: list[tuple[str, str | None]] = []

    def select(
        self, collection: int, where: Filter, *, limit: int | None, after: int
    ) -> tuple[NDArray[np.int64], list[Change]]:
        """Note whether all was asked for."""
        self.asked.append(("some" if limit else "all", where.label))
        return super().select(collection, where, limit=limit, after=after)

    def select_since(
        self, collection: int, where: Filter, since: int, *, limit: int, after: int
    ) -> SelectedSince | None:
        """Note it."""
        self.asked.append(("since", where.label))
        return super().select_since(collection, where, since, limit=limit, after=after)

    def by_seq(self, seqs: Any) -> Any:
        """Note how many."""
        self.asked.append(("read", str(len(seqs))))
        return super().by_seq(seqs)

    def told(self) -> list[tuple[str, str | None]]:
        """Return what was asked since the last time."""
        asked, self.asked = self.asked, []
        return asked


class World:
    """A store, an index and a writer in memory."""

    def __init__(self) -> None:
        self.encoder = WordEncoder()
        self.store = CountingStore(self.encoder.fingerprint)
        self.index = MemoryIndex(DIMENSION)
        self.writer = Writer(
            self.store, self.index, on_failure=lambda error: pytest.fail(str(error))
        )
        self.writer.start()

    def put(self, *anchors: tuple[str, str, str]) -> None:
        """Store anchors: id, text, label."""

        def command(writing: Writing) -> None:
            drafts = [(a[0], self.encoder.draft(a[1], a[0], a[2])) for a in anchors]
            writing.record(1, writing.rows.put(1, drafts))

        self.writer.submit(command).result(10)

    def delete(self, anchor_id: str) -> None:
        """Delete an anchor."""

        def command(writing: Writing) -> None:
            change = writing.rows.delete(1, anchor_id)
            assert change is not None
            writing.record(1, [change])

        self.writer.submit(command).result(10)

    def near(self, filtered: Filtered, label: str, question: str, wanted: int = 5) -> list[str]:
        """Return the ids of the nearest anchors of a label."""
        vector = self.encoder.encode([question]).vectors[0]
        found = filtered(1, self.index.view(1), Filter(label), vector, wanted)
        assert found is not None
        return self.ids(found[0])

    def ids(self, hits: Hits) -> list[str]:
        """Return the ids of hits."""
        anchors = MemoryAnchorStore.by_seq(self.store, hits.seqs.tolist())
        return [anchors[seq].id for seq in hits.seqs.tolist()]

    def expected(self, label: str, question: str, wanted: int = 5) -> list[str]:
        """Return what looking at every anchor finds."""
        vector = self.encoder.encode([question]).vectors[0]
        hits = self.index.view(1).search(vector, len(self.index.view(1)))
        anchors = MemoryAnchorStore.by_seq(self.store, hits.seqs.tolist())
        admitted = [anchors[seq] for seq in hits.seqs.tolist() if anchors[seq].label == label]
        return [anchor.id for anchor in admitted[:wanted]]


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    colours = ("red", "green", "blue", "black", "pink")
    made.put(
        *[
            (f"a{n:03}", f"{colours[n % 5]} {colours[n % 3]} {n}", ("x", "y", "z")[n % 3])
            for n in range(300)
        ]
    )
    made.store.told()
    yield made
    made.writer.close()


def test_a_narrow_filter_is_read_once_and_followed(world: World) -> None:
    """Whatever is written in between shows in the next answer, and nothing is read anew."""
    filtered = Filtered(world.store)
    question = "red green 3"
    assert world.near(filtered, "x", question) == world.expected("x", question)
    assert world.store.told() == [("some", "x")]
    world.put(("new", question, "x"), ("other", question, "y"))
    assert world.near(filtered, "x", question)[0] == "new"
    world.put(("new", question, "y"))
    assert "new" not in world.near(filtered, "x", question)
    world.put(("new", "entirely elsewhere", "x"), ("a000", question, "x"))
    assert world.near(filtered, "x", question)[0] == "a000"
    world.delete("a000")
    assert world.near(filtered, "x", question) == world.expected("x", question)
    assert world.store.told() == [("since", "x")] * 4
    assert world.near(filtered, "y", question) == world.expected("y", question)
    assert world.store.told() == [("some", "y")]


def test_a_wide_filter_is_read_whole_only_where_the_nearest_do_not_do(world: World) -> None:
    """Where they do, a few nearest are read each time; what is known whole reads none."""
    filtered = Filtered(world.store, narrow=20, widening=(40, 250))
    question = "red green 3"
    for _ in range(2):
        assert world.near(filtered, "x", question) == world.expected("x", question)
    assert world.store.told() == [("some", "x"), ("read", "40"), ("read", "40")]
    for _ in range(2):
        assert world.near(filtered, "x", question, 50) == world.expected("x", question, 50)
    assert world.store.told() == [("read", "40"), ("all", "x"), ("since", "x")]
    assert world.near(filtered, "x", question) == world.expected("x", question)
    assert world.store.told() == [("since", "x")]


def test_more_than_the_log_is_followed_for_is_read_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import in between is no reason to go through it change by change."""
    monkeypatch.setattr(module, "_FOLLOWED", 10)
    filtered = Filtered(world.store)
    question = "red green 3"
    world.near(filtered, "x", question)
    world.put(*[(f"b{n}", f"red green {n}", "x") for n in range(11)])
    world.store.told()
    assert world.near(filtered, "x", question) == world.expected("x", question)
    assert world.store.told() == [("since", "x"), ("all", "x")]
    assert world.near(filtered, "x", question) == world.expected("x", question)
    assert world.store.told() == [("since", "x")]


def test_what_was_asked_for_last_is_kept(world: World) -> None:
    """Up to a limit of all filters together."""
    selections = module.Selections(world.store, limit=350)
    view = world.index.view(1)
    for label in ("x", "y", "x", "z", "x"):
        selections.few(1, view, Filter(label), 1_000)
    assert world.store.told() == [
        ("some", "x"),
        ("some", "y"),
        ("since", "x"),
        ("some", "z"),
        ("since", "x"),
    ]
    selections.few(1, view, Filter("y"), 1_000)
    assert world.store.told() == [("some", "y")]


def test_what_is_too_large_to_keep_takes_no_others_place(world: World) -> None:
    """That it is wide is kept of it, so that nothing is selected for nothing the next time."""
    world.put(*[(f"w{n}", f"red {n}", "w") for n in range(350)])
    filtered = Filtered(world.store, narrow=150, widening=(40, 250))
    filtered._selections._limit = 400
    world.near(filtered, "x", "red green 3")
    world.near(filtered, "y", "red green 3")
    world.store.told()
    assert world.near(filtered, "w", "pink 2") == world.expected("w", "pink 2")
    world.store.told()
    world.near(filtered, "x", "red green 3")
    world.near(filtered, "y", "red green 3")
    world.near(filtered, "w", "red 5")
    assert world.store.told() == [("since", "x"), ("since", "y"), ("read", "40")]


@pytest.mark.parametrize("widening", [(), (8, 40)], ids=["looking at each", "of the nearest"])
def test_what_the_log_no_longer_tells_makes_no_answer(
    world: World, widening: tuple[int, ...]
) -> None:
    """A view from before what was pruned, or of a dropped collection: a fresh one has to be taken.

    Else the answer would hold what came last and lack what came before it.
    """
    filtered = Filtered(world.store, narrow=5, widening=widening)
    old = world.index.view(1)
    question = "red green 3"
    vector = world.encoder.encode([question]).vectors[0]
    world.put(("near", question, "x"))

    def prune(writing: Writing) -> None:
        writing.rows.prune(1, world.store.last_seq())

    world.writer.submit(prune).result(10)
    world.put(("late", question, "x"))
    for view, wanted in ((old, 8), (MemoryIndex(DIMENSION).view(1), 1)):
        assert filtered(1, view, Filter("x"), vector, wanted) is None
    assert world.near(filtered, "x", question) == world.expected("x", question)


@pytest.mark.parametrize("options", [{}, {"narrow": 0, "widening": (4, 64)}], ids=["few", "many"])
def test_answers_are_of_one_moment_while_others_write(
    world: World, options: dict[str, Any]
) -> None:
    """Eight anchors are always replaced together: an answer holds eight of one writing."""
    filtered = Filtered(world.store, **options)
    names = [f"m{n}" for n in range(8)]
    vector = world.encoder.encode(["moment"]).vectors[0]
    world.put(*[(name, "moment -1", "moment") for name in names])

    def write() -> None:
        for moment in range(60):
            world.put(*[(name, f"moment {moment}", "moment") for name in names])

    def ask() -> int:
        answered = 0
        for _ in range(200):
            view = world.index.view(1)
            found = filtered(1, view, Filter("moment"), vector, 8)
            if found is None:
                continue
            answered += 1
            seqs = np.sort(found[0].seqs)
            assert np.array_equal(seqs, seqs[0] + np.arange(8))
            assert seqs[-1] >= view.seq
        return answered

    with ThreadPoolExecutor(4) as pool:
        writing = pool.submit(write)
        asking = [pool.submit(ask) for _ in range(3)]
        writing.result(60)
        assert all(one.result(60) > 190 for one in asking)
    assert sorted(world.near(filtered, "moment", "moment", 8)) == names
