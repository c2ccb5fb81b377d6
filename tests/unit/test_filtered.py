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
    """Up to a limit of all filters together; one larger than that is not kept at all."""
    selections = module.Selections(world.store, limit=350)
    view = world.index.view(1)
    for label in ("x", "y", "x", "z", "x"):
        selections.few(1, view, Filter(label), 1_000)
    assert world.store.told() == [
        ("some", "x"), ("some", "y"), ("since", "x"), ("some", "z"), ("since", "x")
    ]  # fmt: skip
    selections.few(1, view, Filter("y"), 1_000)
    assert world.store.told() == [("some", "y")]
    small = module.Selections(world.store, limit=150)
    for _ in range(2):
        small.few(1, view, Filter("x"), 1_000)
    assert world.store.told() == [("some", "x")] * 2


def test_answers_are_of_one_moment_while_others_write(world: World) -> None:
    """Every anchor of the label carries its moment: an answer never mixes two of them."""
    filtered = Filtered(world.store)
    names = [f"m{n}" for n in range(8)]

    def write() -> None:
        for moment in range(60):
            world.put(*[(name, f"moment {moment}", "moment") for name in names])

    def ask() -> set[int]:
        vector = world.encoder.encode(["moment"]).vectors[0]
        sizes = set()
        for _ in range(200):
            found = filtered(1, world.index.view(1), Filter("moment"), vector, 100)
            if found is not None:
                sizes.add(len(found[0].seqs))
        return sizes

    world.put(*[(name, "moment -1", "moment") for name in names])
    with ThreadPoolExecutor(4) as pool:
        writing = pool.submit(write)
        asking = [pool.submit(ask) for _ in range(3)]
        writing.result(60)
        assert {size for one in asking for size in one.result(60)} == {8}
