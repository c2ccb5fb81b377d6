"""Finding the anchors that say what a text is, over stores in memory and doctored views."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from app.domain.anchors import Change, Filter
from app.domain.errors import CollectionNotFound
from app.domain.labels import FALLBACK
from app.index.memory import MemoryIndex
from app.storage.memory import MemoryAnchorStore
from app.usecases.label import Label, LabelAsked
from app.usecases.labelled import Labelled
from app.usecases.writer import Writer, Writing
from tests.unit.fakes import DIMENSION, WordEncoder


class World:
    """A store, an index and a writer in memory."""

    def __init__(self) -> None:
        self.encoder = WordEncoder()
        self.store = MemoryAnchorStore(self.encoder.fingerprint)
        self.index = MemoryIndex(DIMENSION)
        self.writer = Writer(
            self.store, self.index, on_failure=lambda error: pytest.fail(str(error))
        )
        self.writer.start()

    def put(self, *anchors: tuple[str, str | None]) -> None:
        """Store anchors: text and label."""

        def command(writing: Writing) -> None:
            count = writing.rows.count(1)[0]
            drafts = [
                (f"a{count + place}", self.encoder.draft(text, None, label))
                for place, (text, label) in enumerate(anchors)
            ]
            writing.record(1, writing.rows.put(1, drafts))

        self.writer.submit(command).result(10)

    def label(self, **options: int | tuple[int, ...]) -> Label:
        """Return the use case over this world."""
        labelled = Labelled(self.store, FALLBACK.weights.sharpness, **options)  # type: ignore[arg-type]
        return Label(self.encoder, self.store, self.index, FALLBACK.weights, labelled)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.writer.close()


def test_an_empty_collection_knows_no_label(world: World) -> None:
    """None is certain, and nothing is listed; so it is where no anchor has a label."""
    for _ in range(2):
        answer = world.label()("default", LabelAsked("where is my parcel"))
        assert (answer.label, answer.probability, answer.none) == (None, 1.0, 1.0)
        assert list(answer.labels) == []
        world.put(("where is it", None))


def test_one_anchor_makes_a_label_known_at_once(world: World) -> None:
    """The nearest label wins, with the anchor that says so."""
    world.put(("where is my parcel", "delivery"), ("reset my password", "account"))
    answer = world.label()("default", LabelAsked("where is my parcel now"))
    assert answer.label == "delivery"
    assert answer.labels[0].anchor.text == "where is my parcel"
    assert [found.label for found in answer.labels] == ["delivery", "account"]
    total = sum(found.probability for found in answer.labels) + answer.none
    assert total == pytest.approx(1.0)
    assert answer.probability == answer.labels[0].probability > 0.5


def test_more_anchors_of_a_label_make_it_likelier(world: World) -> None:
    """A second one that is nearer, seen by the next question."""
    world.put(("where is my parcel", "delivery"), ("reset my password", "account"))
    asked = LabelAsked("has my package come")
    before = world.label()("default", asked)
    world.put(("has my package arrived", "delivery"))
    after = world.label()("default", asked)
    (chance,) = [found.probability for found in before.labels if found.label == "delivery"]
    assert after.labels[0].label == "delivery"
    assert after.labels[0].probability > chance


def test_the_text_itself_among_the_anchors_leaves_no_doubt(world: World) -> None:
    """Its label has probability 1; where anchors of the text disagree, each has its share."""
    world.put(("Where is it", "delivery"), ("where is my parcel", "other"))
    answer = world.label()("default", LabelAsked("WHERE is it?"))
    assert (answer.label, answer.probability, answer.none) == ("delivery", 1.0, 0.0)
    assert len(answer.labels) == 1
    world.put(("where is it!", "lost"), ("where is it", "lost"))
    shares = world.label()("default", LabelAsked("where is it"))
    assert [(one.label, round(one.probability, 3)) for one in shares.labels] == [
        ("lost", 0.667),
        ("delivery", 0.333),
    ]


def test_a_label_with_many_anchors_does_not_crowd_out_another(world: World) -> None:
    """500 anchors of one label lie nearer than the only one of another: both are weighed, and the
    many weigh no more than the five nearest.
    """
    world.put(*[(f"where is my parcel {number}", "delivery") for number in range(500)])
    world.put(("where was your package", "lost"), ("unrelated words here", None))
    answer = world.label(widening=(16, 32))("default", LabelAsked("where is my parcel then"))
    assert [found.label for found in answer.labels] == ["delivery", "lost"]
    few = World()
    few.put(*[(f"where is my parcel {number}", "delivery") for number in range(500)])
    few.writer.close()
    nearest = world.index.view(1).search(
        world.encoder.encode(["where is my parcel then"]).vectors[0], 5
    )
    texts = [world.store.by_seq([seq])[seq].text for seq in nearest.seqs.tolist()]
    small = World()
    small.put(*[(text, "delivery") for text in texts], ("where was your package", "lost"))
    same = small.label()("default", LabelAsked("where is my parcel then"))
    small.writer.close()
    assert answer.none == pytest.approx(same.none, abs=1e-6)
    assert answer.labels[1].probability == pytest.approx(same.labels[1].probability, abs=1e-6)


def test_labelled_anchors_are_found_behind_many_without_a_label(world: World) -> None:
    """However many nearer ones say nothing."""
    world.put(*[(f"where is my parcel {number}", None) for number in range(300)])
    world.put(("where was your package", "lost"))
    answer = world.label(widening=(16, 32))("default", LabelAsked("where is my parcel"))
    assert [found.label for found in answer.labels] == ["lost"]


def test_beyond_what_is_looked_at_one_by_one_the_search_widens(world: World) -> None:
    """Where there are too many labelled anchors for that, the nearest so many are taken."""
    world.put(*[(f"where is my parcel {number}", "delivery") for number in range(100)])
    world.put(("where was your package", "lost"))
    asked = LabelAsked("where is my parcel")
    wide = world.label(narrow=50, widening=(8, 101))("default", asked)
    assert [found.label for found in wide.labels] == ["delivery", "lost"]
    tight = world.label(narrow=50, widening=(8, 16))("default", asked)
    assert [found.label for found in tight.labels] == ["delivery"]


def test_a_filter_narrows_the_anchors(world: World) -> None:
    """A label that no anchor has leaves nothing."""
    world.put(("where is my parcel", "delivery"), ("reset my password", "account"))
    only = world.label()("default", LabelAsked("where is it", where=Filter("account")))
    assert [found.label for found in only.labels] == ["account"]
    nothing = world.label()("default", LabelAsked("where is it", where=Filter("unknown")))
    assert (nothing.label, nothing.none, list(nothing.labels)) == (None, 1.0, [])
    other = LabelAsked("where is my parcel", where=Filter("account"))
    assert [found.label for found in world.label()("default", other).labels] == ["account"]


def test_a_wide_filter_is_answered_by_what_is_near(world: World) -> None:
    """Up to `narrow` anchors each is looked at; of more the nearest, never all of a collection."""
    world.put(*[(f"where is my parcel {number}", "delivery") for number in range(100)])
    world.put(*[(f"reset my password {number}", "account") for number in range(100)])
    world.put(("where was your package", "lost"))
    limits: list[int | None] = []
    read = world.store.labelled

    def labelled(
        collection: int, where: Filter, *, limit: int | None, after: int
    ) -> tuple[dict[int, str], list[Change]]:
        limits.append(limit)
        return read(collection, where, limit=limit, after=after)

    world.store.labelled = labelled  # type: ignore[method-assign]

    def labels(where: Filter, *widening: int) -> list[str]:
        asked = LabelAsked("where is my parcel 7 then", where=where)
        found = world.label(narrow=50, widening=widening)("default", asked)
        return [one.label for one in found.labels]

    assert labels(Filter("lost"), 8) == ["lost"]
    assert labels(Filter("delivery"), 8, 201) == ["delivery"]
    assert labels(Filter("account"), 8) == ["account"]  # none is near: any so many
    assert limits == [51] * 3


def test_a_wide_filter_gives_what_looking_at_each_gives(world: World) -> None:
    """The five nearest anchors of the label count either way."""
    world.put(*[(f"where is my parcel {number}", "delivery") for number in range(100)])
    world.put(*[(f"is my parcel lost {number}", "lost") for number in range(100)])
    asked = LabelAsked("is my parcel 7 lost", where=Filter("delivery"))
    wide = world.label(narrow=50, widening=(8, 64, 200))("default", asked)
    each = world.label()("default", asked)
    assert wide.labels[0].anchor == each.labels[0].anchor
    assert wide.none == pytest.approx(each.none, abs=1e-6)


def test_labels_are_listed_up_to_the_limit_and_given_from_the_least_probability_on(
    world: World,
) -> None:
    """What is not listed still has its share."""
    world.put(("where is my parcel", "delivery"), ("reset my password", "account"))
    asked = "where is my parcel now"
    one = world.label()("default", LabelAsked(asked, limit=1))
    both = world.label()("default", LabelAsked(asked))
    assert list(one.labels) == list(both.labels)[:1]
    strict = world.label()("default", LabelAsked(asked, least=1.0))
    assert strict.label is None
    assert strict.probability == strict.none
    assert list(strict.labels) == list(both.labels)


def test_an_unknown_collection_is_said(world: World) -> None:
    """And does not spoil the others of a batch."""
    first, second = world.label().many([("none", LabelAsked("x")), ("default", LabelAsked("x"))])
    assert isinstance(first, CollectionNotFound)
    assert not isinstance(second, Exception)
    assert np.isclose(second.none, 1.0)
