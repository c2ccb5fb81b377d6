"""What every store promises of feedback, run over each implementation."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.domain.anchors import CollectionSettings
from app.domain.cut_offs import Correction
from app.domain.feedback import Feedback, FeedbackCounts, pair_of
from app.domain.ports import AnchorStore, WriteTransaction
from app.domain.text import fingerprint
from app.storage.sqlite import SqliteAnchorStore
from tests.contract.conftest import sqlite

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)


def feedback(name: str, *, duplicate: bool = True, conflicts: int = 0) -> Feedback:
    question, text = f"Où est\n{name} 🤔?", f"\u0000{name}"
    return Feedback(
        id=name,
        pair=pair_of(fingerprint(question), fingerprint(text)),
        question=question,
        anchor_id=f"anchor-{name}",
        anchor_text=text,
        duplicate=duplicate,
        similarity=0.1 + 0.2,
        probability=1 / 3,
        encoder="deja-en-1",
        conflicts=conflicts,
        created_at=NOW,
        updated_at=NOW + timedelta(microseconds=1),
    )


def default(store: AnchorStore) -> int:
    return store.collection("default").key


def put(store: AnchorStore, *given: Feedback, collection: int | None = None) -> None:
    with store.write() as rows:
        for one in given:
            rows.feedback.put(default(store) if collection is None else collection, one)


def test_what_is_put_is_read_back_whole(store: AnchorStore) -> None:
    """Every field survives, by id, by pair, in a page and in an export."""
    given = feedback("a", conflicts=3)
    put(store, given)
    key = default(store)
    assert store.feedback.get(key, "a") == given
    assert store.feedback.page(key, after=None, limit=10) == [given]
    assert list(store.feedback.export(key)) == [[given]]
    with store.write() as rows:
        assert rows.feedback.of_pair(key, given.pair) == given
        assert rows.feedback.of_pair(key, b"?" * 32) is None
    assert store.feedback.get(key, "b") is None


def test_the_same_id_again_replaces(store: AnchorStore) -> None:
    """One row an id; the counts follow."""
    put(store, feedback("a"), feedback("b"))
    changed = replace(feedback("a"), duplicate=False, conflicts=2)
    put(store, changed)
    key = default(store)
    assert store.feedback.get(key, "a") == changed
    assert store.feedback.count(key) == FeedbackCounts(duplicate=1, distinct=1, conflicts=2)


def test_pages_follow_the_ids(store: AnchorStore) -> None:
    """From the first id greater than the one given."""
    put(store, *(feedback(name) for name in "dbace"))
    key = default(store)
    first = store.feedback.page(key, after=None, limit=2)
    rest = store.feedback.page(key, after="b", limit=9)
    assert [one.id for one in first] == ["a", "b"]
    assert [one.id for one in rest] == ["c", "d", "e"]
    assert [one.id for part in store.feedback.export(key) for one in part] == list("abcde")


def test_deleting_says_whether_there_was_one(store: AnchorStore) -> None:
    """And it is gone from the counts."""
    put(store, feedback("a"))
    key = default(store)
    with store.write() as rows:
        assert rows.feedback.delete(key, "a")
        assert not rows.feedback.delete(key, "a")
    assert store.feedback.count(key) == FeedbackCounts(0, 0, 0)


def test_what_a_savepoint_undoes_is_gone(store: AnchorStore) -> None:
    """Inside the transaction it is seen until then."""
    key = default(store)

    def refused(rows: WriteTransaction) -> None:
        with rows.savepoint():
            rows.feedback.put(key, feedback("a"))
            assert rows.feedback.get(key, "a") is not None
            raise RuntimeError

    with store.write() as rows:
        with pytest.raises(RuntimeError):
            refused(rows)
        rows.feedback.put(key, feedback("b"))
    assert [one.id for one in store.feedback.page(key, after=None, limit=9)] == ["b"]


def test_collections_keep_their_feedback_apart(store: AnchorStore) -> None:
    """The same id and the same pair may stand in each; a deleted collection takes its own along."""
    with store.write() as rows:
        rows.put_collection("other", CollectionSettings())
    other = store.collection("other").key
    put(store, feedback("a"))
    put(store, replace(feedback("a"), duplicate=False), collection=other)
    assert store.feedback.count(other) == FeedbackCounts(0, 1, 0)
    with store.write() as rows:
        rows.delete_collection(other)
    with store.write() as rows:
        while rows.purge(1):
            pass
    assert store.feedback.page(other, after=None, limit=9) == []
    assert store.feedback.count(default(store)) == FeedbackCounts(1, 0, 0)


def test_feedback_survives_a_new_start(tmp_path: Path) -> None:
    """What was committed is in the file."""
    store = sqlite(tmp_path)
    put(store, feedback("a"))
    store.close()
    again = sqlite(tmp_path)
    assert again.feedback.get(default(again), "a") == feedback("a")
    again.close()


def test_a_correction_holds_for_the_encoder_it_was_fitted_for(tmp_path: Path) -> None:
    """Another encoder's start sees it in the books, and judges without it."""
    store = sqlite(tmp_path)
    with store.write() as rows:
        rows.put_correction(default(store), Correction(-0.5, 1.25), (7, 3))
    store.close()
    other = SqliteAnchorStore(tmp_path / "deja.db", "encoder-2")
    assert other.collection("default").correction == Correction()
    fitted = other.correction(default(other))
    assert fitted is not None
    assert (fitted.encoder, fitted.duplicate, fitted.distinct) == ("encoder-1", 7, 3)
    other.close()
    again = sqlite(tmp_path)
    assert again.collection("default").correction == Correction(-0.5, 1.25)
    again.close()


def test_a_correction_holds_under_the_base_rate_it_was_stored_under(store: AnchorStore) -> None:
    """Under another it is in the books, and nobody judges by it."""
    learned = Correction(-0.5, 1.25)
    settings = CollectionSettings(base_rate=0.1)
    with store.write() as rows:
        rows.put_correction(default(store), learned, (7, 3))
        rows.put_collection("default", settings)
        assert rows.collection("default").correction == Correction()
    assert [one.correction for one in store.collections()] == [Correction()]
    with store.write() as rows:
        rows.put_correction(default(store), learned, (7, 3))
    assert store.collection("default").correction == learned
    fitted = store.correction(default(store))
    assert fitted is not None
    assert fitted.base_rate == 0.1
    assert fitted.outdated_by("another", 0.1) == "encoder"
    assert fitted.outdated_by(fitted.encoder, None) == "base_rate"
    assert fitted.outdated_by(fitted.encoder, 0.1) is None


def test_a_correction_is_set_replaced_and_taken_away(store: AnchorStore) -> None:
    """The collection carries it, new settings leave it, and it is gone with the collection."""
    key = default(store)
    before = store.collection("default")
    assert (before.correction, store.correction(key)) == (Correction(), None)
    for correction in (Correction(1.0, 2.0), Correction(-0.5, 1.25)):
        with store.write() as rows:
            rows.put_correction(key, correction, (1, 2))
            assert rows.collection("default").correction == correction
        assert store.collection("default").correction == correction
        with store.read() as reads:
            assert reads.collection("default").correction == correction
            assert [one.correction for one in reads.collections()] == [correction]
    with store.write() as rows:
        rows.put_collection("default", CollectionSettings(duplicate_at=0.9))
    assert store.collection("default").correction == Correction(-0.5, 1.25)
    assert [one.correction for one in store.collections()] == [Correction(-0.5, 1.25)]
    with store.write() as rows:
        rows.put_correction(key, None, (0, 0))
    assert store.collection("default").correction == Correction()
    assert store.correction(key) is None


def test_a_deleted_collection_takes_its_correction_along(store: AnchorStore) -> None:
    """Nothing of it is left after the purge."""
    with store.write() as rows:
        rows.put_collection("other", CollectionSettings())
    key = store.collection("other").key
    with store.write() as rows:
        rows.put_correction(key, Correction(1.0, 2.0), (1, 2))
    with store.write() as rows:
        rows.delete_collection(key)
    with store.write() as rows:
        while rows.purge(1):
            pass
    assert store.correction(key) is None
