from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.domain.anchors import Anchor, CollectionSettings, Filter
from app.domain.errors import CollectionNotFound, Unavailable
from app.domain.ports import Hits
from app.domain.verdicts import Verdict
from app.index.memory import MemoryIndex, MemoryView
from app.storage.memory import MemoryAnchorStore
from app.usecases.filtered import Filtered
from app.usecases.lookup import CATCH_UP_SECONDS, Answer, Asked, Lookup
from app.usecases.matching import Judge, Question
from app.usecases.writer import Writer, Writing
from tests.unit.fakes import CALIBRATION, DIMENSION, WordEncoder


class World:
    """A store, an index and a writer in memory."""

    def __init__(self, index: MemoryIndex | None = None) -> None:
        self.encoder = WordEncoder()
        self.store = MemoryAnchorStore(self.encoder.fingerprint)
        self.index = index or MemoryIndex(DIMENSION)
        self.writer = Writer(
            self.store, self.index, on_failure=lambda error: pytest.fail(str(error))
        )
        self.writer.start()

    def put(self, *anchors: tuple[str, str] | tuple[str, str, str]) -> None:
        """Store anchors: id, text and perhaps label."""

        def command(writing: Writing) -> None:
            drafts = [(a[0], self.encoder.draft(a[1], a[0], *a[2:])) for a in anchors]
            writing.record(1, writing.rows.put(1, drafts))

        self.writer.submit(command).result(10)

    def lookup(self, **options: int | tuple[int, ...]) -> Lookup:
        """Return the use case over this world."""
        filtered = Filtered(self.store, **options)  # type: ignore[arg-type]
        return Lookup(self.encoder, self.store, self.index, Judge(CALIBRATION), filtered)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.writer.close()


def ids(answer: Answer) -> list[str]:
    return [match.anchor.id for match in answer.matches]


def test_matches_come_by_probability_then_similarity_then_age(world: World) -> None:
    """Of two equal ones the older is first."""
    world.put(("b", "red green blue"), ("a", "red green blue"), ("c", "red green black"))
    assert ids(world.lookup()("default", Asked("red green blue"))) == ["b", "a", "c"]


def test_an_equal_text_is_found_even_where_its_vector_is_far(world: World) -> None:
    """The database knows it, whatever the index says: here sixty others are nearer."""
    world.put(("same", "Who?"), *[(f"n{i}", "who") for i in range(60)])

    def spoil(writing: Writing) -> None:
        (change,) = writing.rows.put(1, [("same", world.encoder.draft("Who?"))])
        object.__setattr__(change, "vector", -np.ones(DIMENSION, np.float16))
        writing.record(1, [change])

    world.writer.submit(spoil).result(10)
    answer = world.lookup()("default", Asked("who", limit=100))
    assert "same" in ids(answer)
    assert {match.probability for match in answer.matches} == {1.0}


def test_the_overall_verdict_is_the_strongest(world: World) -> None:
    """One duplicate among distinct ones decides."""
    world.put(("far", "entirely other words"), ("near", "red green blue"))
    answer = world.lookup()("default", Asked("red green blue"))
    assert answer.verdict is Verdict.DUPLICATE
    assert [match.verdict for match in answer.matches] == [Verdict.DUPLICATE, Verdict.DISTINCT]


@pytest.mark.parametrize("narrow", [1000, 10])
@pytest.mark.parametrize("label", ["even", "rare", "none"])
def test_narrow_and_wide_filters_give_what_looking_at_all_gives(
    world: World, narrow: int, label: str
) -> None:
    """Whether answered over the rows selected, by widening, or by giving up on widening."""
    world.put(
        *[
            (f"a{i:03}", f"red {i} green {i % 7}", "rare" if i % 90 == 0 else "even")
            for i in range(300)
        ]
    )
    lookup = world.lookup(narrow=narrow, widening=(60, 120))
    every = world.lookup()("default", Asked("red green 3", limit=100, where=Filter(label)))
    expected = _by_hand(world, "red green 3", label)
    assert ids(every) == expected[:100]
    assert (
        ids(lookup("default", Asked("red green 3", limit=7, where=Filter(label)))) == expected[:7]
    )


def _by_hand(world: World, question: str, label: str) -> list[str]:
    vector = world.encoder.encode([question]).vectors[0]
    scored = []
    for seqs, vectors in world.store.vectors(1):
        for seq, stored in zip(seqs.tolist(), vectors, strict=True):
            anchor = world.store.by_seq([seq])[seq]
            if anchor.label == label:
                scored.append((-float(stored.astype(np.float32) @ vector), seq, anchor.id))
    return [anchor_id for _, _, anchor_id in sorted(scored)]


class LaggingIndex(MemoryIndex):
    """An index that publishes nothing until told to: the moment after a commit, made long."""

    def __init__(self) -> None:
        super().__init__(DIMENSION)
        self.asked = threading.Event()
        self._old: MemoryView | None = None

    def hold(self) -> None:
        """Show the view of now from here on."""
        self._old = super().view(1)

    def publish(self) -> None:
        """Show the current view again."""
        self._old = None

    def view(self, collection: int) -> MemoryView:
        """Return the view that is shown."""
        if self._old is not None:
            self.asked.set()
            return self._old
        return super().view(collection)


def answers_once_published(
    lookup: Lookup, index: LaggingIndex, *asked: Asked
) -> list[Answer | Exception]:
    """Return the answers to questions asked while the index lags, which wait until it does not."""
    answers: list[Answer | Exception] = []
    questions = [("default", one) for one in asked]
    asking = threading.Thread(target=lambda: answers.extend(lookup.many(questions)))
    asking.start()
    assert index.asked.wait(10)
    asking.join(0.05)
    assert not answers
    index.publish()
    asking.join(10)
    return answers


def test_a_lookup_never_sees_half_of_a_write() -> None:
    """An update is committed but not yet in the view: the lookup waits for it.

    Without that it would find neither the old text nor the new one.
    """
    index = LaggingIndex()
    world = World(index)
    world.put(("a", "red green blue", "x"))
    index.hold()
    world.put(("a", "yellow pink", "x"))
    (answer,) = answers_once_published(world.lookup(), index, Asked("red green blue"))
    assert isinstance(answer, Answer)
    assert [match.anchor.text for match in answer.matches] == ["yellow pink"]
    world.writer.close()


def test_a_candidate_that_is_not_read_must_stand_too() -> None:
    """The question's own text, farther than what is asked for, is replaced in between.

    Without that the answer would be one that was true at no moment: the second best.
    """
    index = LaggingIndex()
    world = World(index)
    world.put(("near", "hello there there"), ("same", "hello there!"))
    asked = Asked("hello there", limit=1)
    assert ids(world.lookup()("default", asked)) == ["same"]
    index.hold()
    world.put(("same", "hello there buddy"))
    (answer,) = answers_once_published(world.lookup(), index, asked)
    assert answer == world.lookup()("default", asked)
    world.writer.close()


def test_an_equal_text_counts_beyond_the_hundred_oldest(world: World) -> None:
    """A hundred older ones that the filter leaves out do not hide it, whatever the limit."""
    world.put(*[(f"a{place}", "hello there!", "a") for place in range(100)])
    world.put(("near", "hello there there", "b"), ("same", "hello there!", "b"))
    for limit in (1, 2):
        asked = Asked("hello there", limit=limit, where=Filter("b"))
        assert ids(world.lookup()("default", asked))[0] == "same"


def test_what_another_question_reads_changes_no_answer(world: World) -> None:
    """An equal text beyond the hundred oldest counts for whom it is a candidate, for no other."""
    world.put(*[(f"a{place}", "hello there!", "a") for place in range(100)])
    world.put(*[(f"z{place}", "hello there there", "z") for place in range(25)])

    def far(writing: Writing) -> None:
        (change,) = writing.rows.put(1, [("far", world.encoder.draft("hello there?", "far", "z"))])
        object.__setattr__(change, "vector", world.encoder.draft("hello other").vector)
        writing.record(1, [change])

    world.writer.submit(far).result(10)
    few, many = [Asked("hello there", limit=limit, where=Filter("z")) for limit in (1, 100)]
    lookup = world.lookup()
    together = lookup.many([("default", few), ("default", many)])
    assert together == [lookup("default", few), lookup("default", many)]
    assert [isinstance(one, Answer) and ids(one)[0] for one in together] == ["z0", "far"]


def test_a_question_that_has_to_wait_changes_no_other_answer() -> None:
    """One of its candidates is gone from the database and not yet from the view; the other's not.

    Both are answered, each as if alone.
    """
    index = LaggingIndex()
    world = World(index)
    world.put(*[(f"r{place}", "red green") for place in range(40)], ("b", "blue white"))
    world.put(*[(f"b{place}", "blue black") for place in range(40)])
    index.hold()
    world.put(("r3", "yellow pink"))
    lookup = replace(world.lookup(), further=0)
    asked = [Asked(text, limit=5) for text in ("red green", "blue black")]
    answers = answers_once_published(lookup, index, *asked)
    assert answers == [lookup("default", one) for one in asked]
    assert isinstance(answers[0], Answer)
    assert "r3" not in ids(answers[0])
    world.writer.close()


@pytest.mark.parametrize("options", [{}, {"narrow": 0, "widening": ()}])
def test_a_filtered_lookup_needs_no_waiting(options: dict[str, Any]) -> None:
    """The log tells it what the view lacks, however wide the filter is and whoever writes.

    An update, an insert and a deletion are committed and not yet published.
    """
    index = LaggingIndex()
    world = World(index)
    world.put(("a", "red green blue", "x"), ("gone", "red green", "x"), ("b", "red blue", "x"))
    index.hold()
    world.put(("a", "yellow pink", "x"), ("new", "red green black", "x"))

    def delete(writing: Writing) -> None:
        change = writing.rows.delete(1, "gone")
        assert change is not None
        writing.record(1, [change])

    world.writer.submit(delete).result(10)
    asked = Asked("red green blue", where=Filter("x"))
    assert set(ids(world.lookup(**options)("default", asked))) == {"a", "b", "new"}
    world.writer.close()


def test_a_lookup_that_cannot_catch_up_says_so_in_time() -> None:
    """It holds no worker for longer than a few seconds."""
    index = LaggingIndex()
    world = World(index)
    world.put(("a", "red green blue", "x"))
    index.hold()
    world.put(("a", "yellow pink", "x"))
    began = time.monotonic()
    with pytest.raises(Unavailable):
        world.lookup()("default", Asked("red green blue"))
    assert time.monotonic() - began < CATCH_UP_SECONDS + 1
    world.writer.close()


def test_a_question_is_encoded_once_however_often_the_view_lags(world: World) -> None:
    """Encoding is what costs."""
    world.put(("a", "red"))
    world.encoder.calls.clear()
    world.lookup()("default", Asked("blue"))
    assert world.encoder.calls == [["blue"]]


def test_questions_asked_together_are_answered_as_alone(world: World) -> None:
    """Whatever each asks for, in whichever collection, and whoever of them fails."""

    def other(writing: Writing) -> None:
        writing.rows.put_collection("other", CollectionSettings(duplicate_at=0.3))
        key = writing.rows.collection("other").key
        texts = [("o1", "red green blue"), ("o2", "blue red"), ("o3", "black green green")]
        drafts = [(name, world.encoder.draft(text, name, "l1")) for name, text in texts]
        writing.record(key, writing.rows.put(key, drafts))

    world.writer.submit(other).result(10)
    words = ["red", "green", "blue", "black", "white"]
    texts = [" ".join(words[(i * k) % 5] for k in range(1, 5)) for i in range(60)]
    world.put(*[(f"a{i}", text, f"l{i % 3}") for i, text in enumerate(texts)])
    asked = [
        Asked("red green blue"),
        Asked("red green blue", limit=3),
        Asked("blue! red", where=Filter("l1")),
        Asked("green black", min_similarity=0.8, explain=True),
        Asked(texts[7].upper(), limit=1),
        Asked("nothing known", limit=100),
    ]
    questions = [(name, one) for one in asked for name in ("default", "other", "missing")]
    lookup = world.lookup()
    for (name, one), outcome in zip(questions, lookup.many(questions), strict=True):
        if name == "missing":
            assert isinstance(outcome, CollectionNotFound)
        else:
            assert outcome == lookup(name, one)
            assert isinstance(outcome, Answer)
            assert outcome.matches
            assert all((name == "other") == ("o" in found) for found in ids(outcome))


def test_one_question_that_fails_fails_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in judging one of them says nothing of the others."""
    world.put(("a", "red green"))
    judge = world.lookup().judge

    def log_odds(question: Question, _anchor: Anchor, base: float) -> float:
        if question.text == "bad":
            raise RuntimeError("cannot judge this")
        return base

    monkeypatch.setattr(judge, "log_odds", log_odds)
    lookup = replace(world.lookup(), judge=judge)
    judged = Judge.bases

    def bases(self: Judge, question: Question, hits: Hits, scores: list[float]) -> list[float]:
        if question.text == "worse":
            raise RuntimeError("cannot look at this")
        return judged(self, question, hits, scores)

    monkeypatch.setattr(Judge, "bases", bases)
    good, bad, worse, fine = lookup.many(
        [("default", Asked(text)) for text in ("red", "bad", "worse", "green")]
    )
    assert isinstance(bad, RuntimeError)
    assert isinstance(worse, RuntimeError)
    assert isinstance(good, Answer)
    assert isinstance(fine, Answer)
    assert ids(good) == ids(fine) == ["a"]
