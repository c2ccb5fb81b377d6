"""What every `AnchorStore` promises, run over each implementation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.domain.anchors import (
    DEFAULT_COLLECTION,
    CollectionSettings,
)
from app.domain.errors import CollectionNotFound
from app.domain.ports import AnchorReader, AnchorStore, Found, Remembered
from app.domain.text import fingerprint
from app.storage.memory import MemoryAnchorStore
from app.storage.sqlite import SqliteAnchorStore
from tests.contract.conftest import DIMENSION, default, draft, put

Reopen = Callable[[AnchorStore, str], AnchorStore]


def memory(_folder: Path) -> tuple[AnchorStore, Reopen]:
    def reopen(store: AnchorStore, encoder: str) -> AnchorStore:
        assert isinstance(store, MemoryAnchorStore)
        return store.reopened(encoder)

    return MemoryAnchorStore("encoder-1"), reopen


def sqlite(folder: Path) -> tuple[AnchorStore, Reopen]:
    def reopen(store: AnchorStore, encoder: str) -> AnchorStore:
        store.close()
        return SqliteAnchorStore(folder / "deja.db", encoder)

    return SqliteAnchorStore(folder / "deja.db", "encoder-1"), reopen


class Box:
    """A store under test, which can be closed and opened again."""

    def __init__(self, store: AnchorStore, reopen: Reopen) -> None:
        self.store = store
        self._reopen = reopen

    def reopen(self, encoder: str = "encoder-1") -> AnchorStore:
        """Return the store as the next start would find it."""
        self.store = self._reopen(self.store, encoder)
        return self.store


@pytest.fixture(params=[memory, sqlite])
def box(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Box]:
    made = Box(*request.param(tmp_path))
    yield made
    made.store.close()


@pytest.fixture
def store(box: Box) -> AnchorStore:
    return box.store


def test_a_new_store_has_the_default_collection_and_nothing_in_it(store: AnchorStore) -> None:
    """`default` always exists."""
    assert [found.name for found in store.collections()] == ["default"]
    assert store.count(default(store)) == (0, 0)
    assert store.last_seq() == 0


def test_what_is_put_is_read_back_whole(store: AnchorStore) -> None:
    """Every field of an anchor survives, nested metadata and odd characters included."""
    metadata = {"lang": "en", "n": 1, "nested": {"a": [1, None, "é\u0000☃"]}}
    encoded = draft("  Où est\n“ça” 🤔?", "été/ß", metadata)
    with store.write() as rows:
        (change,) = rows.put(default(store), [("faq-1", encoded)])
    anchor = store.by_id(default(store), ["faq-1"])["faq-1"]
    assert (anchor.seq, anchor.id, anchor.text) == (change.seq, "faq-1", "  Où est\n“ça” 🤔?")
    assert (anchor.label, anchor.metadata) == ("été/ß", metadata)
    assert (anchor.fingerprint, anchor.truncated) == (encoded.fingerprint, False)
    assert anchor.created_at == anchor.updated_at
    assert anchor.created_at.tzinfo is not None


def test_seqs_rise_by_one_and_an_update_names_the_version_it_removes(store: AnchorStore) -> None:
    """The change log numbers every insert, update and delete."""
    assert put(store, a="first", b="second") == [1, 2]
    with store.write() as rows:
        (update,) = rows.put(default(store), [("a", draft("changed"))])
        deletion = rows.delete(default(store), "b")
        assert deletion is not None
    assert (update.seq, update.removed) == (3, 1)
    assert (deletion.seq, deletion.removed, deletion.vector) == (4, 2, None)
    assert store.last_seq() == 4
    assert list(store.by_seq([1, 2, 3, 4])) == [3]


def test_an_update_keeps_when_it_was_created(store: AnchorStore) -> None:
    """Only `updated_at` moves."""
    put(store, a="first")
    before = store.by_id(default(store), ["a"])["a"]
    put(store, a="second")
    after = store.by_id(default(store), ["a"])["a"]
    assert after.created_at == before.created_at
    assert after.updated_at > before.updated_at


def test_deleting_what_is_not_there_changes_nothing(store: AnchorStore) -> None:
    """No change is logged for it."""
    with store.write() as rows:
        assert rows.delete(default(store), "nobody") is None
    assert store.last_seq() == 0


def test_a_transaction_that_raises_leaves_no_trace(store: AnchorStore) -> None:
    """Nothing of it is stored, and its seqs are used again."""

    def fail() -> None:
        with store.write() as rows:
            rows.put(default(store), [("a", draft("first"))])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert store.by_id(default(store), ["a"]) == {}
    assert store.last_seq() == 0
    assert put(store, b="second") == [1]


def test_a_savepoint_undoes_only_its_own(store: AnchorStore) -> None:
    """Earlier and later writes of the transaction stay."""
    key = default(store)

    def fail(rows: Any) -> None:
        with rows.savepoint():
            rows.put(key, [("b", draft("second")), ("a", draft("overwritten"))])
            raise RuntimeError

    with store.write() as rows:
        rows.put(key, [("a", draft("first"))])
        with pytest.raises(RuntimeError):
            fail(rows)
        assert rows.by_id(key, ["b"]) == {}
        (change,) = rows.put(key, [("c", draft("third"))])
    assert change.seq == 2
    found = store.by_id(key, ["a", "b", "c"])
    assert {i: anchor.text for i, anchor in found.items()} == {"a": "first", "c": "third"}


def test_ids_just_made_need_not_be_looked_for(store: AnchorStore) -> None:
    """Beside ids that are given, which replace what stands under them."""
    key = default(store)
    put(store, a="first")
    with store.write() as rows:
        changes = rows.put(key, [("a", draft("other")), ("b", draft("second"))], {"b"})
    assert [(change.seq, change.removed) for change in changes] == [(2, 1), (3, None)]
    assert store.last_seq() == 3
    assert store.count(key) == (2, 0)


def test_a_transaction_sees_its_own_writes_and_readers_do_not(store: AnchorStore) -> None:
    """What is staged shows inside, and outside only after the commit."""
    key = default(store)
    with store.write() as rows:
        (change,) = rows.put(key, [("a", draft("first", "age"))])
        assert rows.by_id(key, ["a"])["a"].text == "first"
        assert list(rows.by_seq([change.seq])) == [1]
        assert [a.id for a in rows.by_fingerprint(key, fingerprint("FIRST"))] == ["a"]
        assert store.by_id(key, ["a"]) == {}
    assert store.by_id(key, ["a"])["a"].text == "first"


def test_more_ids_than_a_statement_takes_are_found(store: AnchorStore) -> None:
    """Reads by id and by seq are split where the database has a limit."""
    key = default(store)
    with store.write() as rows:
        changes = rows.put(key, [(f"a{i}", draft(f"text {i}")) for i in range(2_500)])
    assert len(store.by_id(key, [f"a{i}" for i in range(2_500)])) == 2_500
    assert len(store.by_seq([change.seq for change in changes])) == 2_500


def test_equal_canonical_texts_are_found_by_fingerprint(store: AnchorStore) -> None:
    """The oldest version comes first; other collections do not show."""
    put(store, a="How old are you?", b="how OLD are  you", c="Who are you?")
    with store.write() as rows:
        rows.put_collection("other", CollectionSettings())
        rows.put(rows.collection("other").key, [("d", draft("How old are you"))])
    found = store.by_fingerprint(default(store), fingerprint("HOW OLD ARE YOU!"))
    assert [anchor.id for anchor in found] == ["a", "b"]


NONE: frozenset[int] = frozenset()


def found_in(
    rows: AnchorReader,
    seqs: list[int],
    texts: list[str],
    near: frozenset[int] = NONE,
    since: int = 0,
) -> Found:
    """Return what `found` reads in the default collection, which is there."""
    marks = [fingerprint(text) for text in texts]
    found = rows.found(rows.collection(DEFAULT_COLLECTION).key, seqs, marks, near, since)
    assert found is not None
    return found


def test_found_joins_versions_and_equal_texts(store: AnchorStore) -> None:
    """Whole, and only what still stands; odd characters survive."""
    key = default(store)
    odd = {"nested": {"a": [1, None, "é\u0000☃"]}, "q": """'"\\"""}
    with store.write() as rows:
        rows.put(key, [("a", draft("Who?", "x", odd)), ("b", draft("who")), ("c", draft("nul\0l"))])
        rows.put(key, [("d", draft("gone"))])
        rows.delete(key, "d")
        inside = found_in(rows, [3, 4], ["WHO"])
    found = found_in(store, [3, 4, 2, 99], ["WHO"], since=store.last_seq())
    by_id = store.by_id(key, ["a", "b", "c"])
    assert found.anchors == inside.anchors == {anchor.seq: anchor for anchor in by_id.values()}
    assert by_id["a"].metadata == odd
    assert found_in(store, [], ["nothing"]) == Found({}, NONE)


@pytest.mark.parametrize("copies", [2, 101])
def test_found_takes_several_texts(store: AnchorStore, copies: int) -> None:
    """Of one collection, the hundred oldest of each."""
    key = default(store)
    with store.write() as rows:
        rows.put(key, [(f"a{place}", draft("Who?")) for place in range(copies)])
        rows.put(key, [("b", draft("What?")), ("c", draft("Why?"))])
        rows.put_collection("other", CollectionSettings())
        rows.put(rows.collection("other").key, [("b", draft("What?"))])
    near = frozenset([store.by_id(key, ["c"])["c"].seq])
    found = found_in(store, [], ["what", "who", "where"], near, store.last_seq())
    oldest = [f"a{place}" for place in range(min(copies, 100))]
    assert {anchor.id for anchor in found.anchors.values()} == {"b", *oldest}
    assert found.gone == NONE


def test_found_tells_which_candidates_are_gone(store: AnchorStore) -> None:
    """Replaced or deleted, whether the log still tells of it or was pruned."""
    key = default(store)
    with store.write() as rows:
        rows.put(key, [(name, draft(name)) for name in "abc"])
    a, b, c = (store.by_id(key, [name])[name].seq for name in "abc")
    since = store.last_seq()
    candidates = frozenset([a, b, c])
    with store.write() as rows:
        rows.put(key, [("a", draft("other"))])
        rows.delete(key, "b")
        assert found_in(rows, [c], [], candidates, since).gone == {a, b}
    expected = Found(store.by_seq([c]), frozenset([a, b]))
    assert found_in(store, [c], [], candidates, since) == expected
    with store.write() as rows:
        rows.prune(key, store.last_seq())
    assert found_in(store, [c], [], candidates, since) == expected
    later = found_in(store, [c], [], frozenset([c]), store.last_seq())
    assert later == Found(store.by_seq([c]), NONE)


def test_found_follows_a_log_of_any_length(store: AnchorStore) -> None:
    """Thousands of removals since then hide none."""
    key = default(store)
    with store.write() as rows:
        rows.put(key, [(f"a{place}", draft("Who?")) for place in range(2_001)])
        rows.put(key, [("b", draft("What?"))])
    kept = store.by_id(key, ["b"])["b"].seq
    last = store.by_id(key, ["a2000"])["a2000"].seq
    since = store.last_seq()
    with store.write() as rows:
        rows.put(key, [(f"a{place}", draft("When?")) for place in range(2_001)])
    assert found_in(store, [], [], frozenset([kept, last]), since).gone == {last}


def test_found_reads_equal_texts_among_candidates(store: AnchorStore) -> None:
    """Also beyond the hundred oldest."""
    key = default(store)
    with store.write() as rows:
        rows.put(key, [(f"a{place}", draft("Who?")) for place in range(101)])
        rows.put(key, [("b", draft("What?"))])
    last, other = store.by_id(key, ["a100"])["a100"].seq, store.by_id(key, ["b"])["b"].seq
    found = found_in(store, [], ["who"], frozenset([other, last]), store.last_seq())
    assert len(found.anchors) == 101
    assert last in found.anchors
    assert other not in found.anchors


def test_found_says_that_a_collection_is_deleted(store: AnchorStore) -> None:
    """Its rows go later and in pieces, which no answer may show."""
    key = default(store)
    with store.write() as rows:
        rows.put(key, [("a", draft("a"))])
    since = store.last_seq()
    with store.write() as rows:
        rows.delete_collection(key)
    for near in (NONE, frozenset([1])):
        assert store.found(key, [1], [fingerprint("a")], near, since) is None
    with store.read() as reading:
        assert reading.found(key, [1], [], NONE, since) is None


def test_pages_follow_the_order_of_ids(store: AnchorStore) -> None:
    """A page begins after a given id, and can be narrowed to a label."""
    key = default(store)
    with store.write() as rows:
        rows.put(key, [(i, draft(i, "even" if n % 2 == 0 else None)) for n, i in enumerate("dcba")])

    def ids(**options: Any) -> list[str]:
        defaults: dict[str, Any] = {"label": None, "after": None, "limit": 10}
        return [anchor.id for anchor in store.page(key, **{**defaults, **options})]

    assert ids() == ["a", "b", "c", "d"]
    assert ids(limit=2) == ["a", "b"]
    assert ids(after="b", limit=1) == ["c"]
    assert ids(label="even") == ["b", "d"]
    assert ids(after="d") == []


def test_counts_are_of_anchors_and_of_distinct_labels(store: AnchorStore) -> None:
    """Anchors without a label add no label."""
    key = default(store)
    with store.write() as rows:
        rows.put(key, [("a", draft("1", "x")), ("b", draft("2", "x")), ("c", draft("3"))])
    assert store.count(key) == (3, 1)


def test_collections_are_separate_and_their_keys_are_never_used_again(store: AnchorStore) -> None:
    """A deleted collection is gone at once; a new one of the same name starts empty."""
    with store.write() as rows:
        assert rows.put_collection("other", CollectionSettings())
        old = rows.collection("other").key
        rows.put(old, [("a", draft("first"))])
        rows.put(default(store), [("a", draft("second"))])
    with store.write() as rows:
        rows.delete_collection(old)
    with pytest.raises(CollectionNotFound):
        store.collection("other")
    with store.write() as rows:
        assert rows.put_collection("other", CollectionSettings())
        assert rows.collection("other").key > old
    assert store.count(store.collection("other").key) == (0, 0)
    assert store.by_id(default(store), ["a"])["a"].text == "second"


def test_settings_are_replaced_as_a_whole(store: AnchorStore) -> None:
    """Putting an existing collection creates nothing and keeps its anchors."""
    settings = CollectionSettings(duplicate_at=0.9, review_recall=0.5)
    put(store, a="first")
    with store.write() as rows:
        assert not rows.put_collection("default", settings)
        assert store.collection("default").settings == CollectionSettings()
    found = store.collection("default")
    assert found.settings == settings
    assert found.updated_at > found.created_at
    assert store.count(found.key) == (1, 0)


def test_a_transaction_sees_the_collections_it_changes(store: AnchorStore) -> None:
    """Although they were read before; and what is rolled back changes nothing."""
    settings = CollectionSettings(duplicate_at=0.9)
    assert store.collection("default").settings == CollectionSettings()

    def fail() -> None:
        with store.write() as rows:
            rows.put_collection("default", settings)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with store.write() as rows:
        assert rows.collection("default").settings == CollectionSettings()
        rows.put_collection("default", settings)
        assert rows.collection("default").settings == settings
        rows.delete_collection(rows.collection("default").key)
        with pytest.raises(CollectionNotFound):
            rows.collection("default")
    assert store.known("default") is None
    with store.write() as rows, pytest.raises(CollectionNotFound):
        rows.collection("default")


def test_a_savepoint_undoes_a_change_of_a_collection(store: AnchorStore) -> None:
    """Within the same transaction it is the old one again."""
    settings = CollectionSettings(duplicate_at=0.9)
    assert store.known("default") in (None, store.collection("default"))

    def fail(rows: Any) -> None:
        with rows.savepoint():
            rows.put_collection("default", settings)
            raise RuntimeError

    with store.write() as rows:
        with pytest.raises(RuntimeError):
            fail(rows)
        assert rows.collection("default").settings == CollectionSettings()


def test_purge_removes_the_rows_of_deleted_collections_bit_by_bit(store: AnchorStore) -> None:
    """It says when more remains, and touches nothing that can be reached."""
    put(store, a="stays")
    with store.write() as rows:
        rows.put_collection("other", CollectionSettings())
        key = rows.collection("other").key
        changes = rows.put(key, [(str(i), draft(f"t{i}", "x", {"k": i})) for i in range(5)])
        rows.delete_collection(key)
    with store.write() as rows:
        assert rows.purge(3)
        rounds = 1
        while rows.purge(3):
            rounds += 1
            assert rounds < 50
    assert store.by_seq([change.seq for change in changes]) == {}
    assert store.count(default(store)) == (1, 0)


def test_the_log_gives_what_followed_a_seq(store: AnchorStore) -> None:
    """Versions that are gone again come without their vector."""
    put(store, a="first", b="second")
    put(store, a="changed")
    with store.write() as rows:
        rows.delete(default(store), "b")
    changes = store.changes(default(store), 0)
    assert changes is not None
    assert [(c.seq, c.removed) for c in changes] == [(1, None), (2, None), (3, 1), (4, 2)]
    assert [c.vector is None for c in changes] == [True, True, False, True]
    after = store.changes(default(store), 3)
    assert after is not None
    assert [c.seq for c in after] == [4]


def test_a_pruned_log_says_that_it_no_longer_reaches_back(store: AnchorStore) -> None:
    """None is not an empty list: something was missed."""
    put(store, a="first", b="second", c="third")
    with store.write() as rows:
        rows.prune(default(store), 2)
    assert store.changes(default(store), 1) is None
    after = store.changes(default(store), 2)
    assert after is not None
    assert [c.seq for c in after] == [3]


def test_a_new_collection_has_missed_nothing_before_it(store: AnchorStore) -> None:
    """Its log starts where it was made."""
    put(store, a="first")
    with store.write() as rows:
        rows.put_collection("other", CollectionSettings())
    assert store.changes(store.collection("other").key, store.last_seq()) == []


def test_all_vectors_of_a_collection_come_in_ascending_seq(store: AnchorStore) -> None:
    """They are the float16 that were put, of living versions only."""
    put(store, a="first", b="second", c="third")
    put(store, a="changed")
    batches = list(store.vectors(default(store)))
    seqs = np.concatenate([batch[0] for batch in batches])
    vectors = np.concatenate([batch[1] for batch in batches])
    assert seqs.tolist() == [2, 3, 4]
    assert vectors.dtype == np.float16
    expected = np.stack([draft(text).vector for text in ("second", "third", "changed")])
    assert np.array_equal(vectors, expected)


def test_export_gives_every_anchor_in_the_order_of_ids(store: AnchorStore) -> None:
    """Batches join to the whole collection, as it stood when the export began."""
    put(store, c="3", a="1", b="2")
    batches = store.export(default(store))
    first = next(batches)
    put(store, d="4", b="changed")
    rest = [anchor for batch in batches for anchor in batch]
    assert [(a.id, a.text) for a in [*first, *rest]] == [("a", "1"), ("b", "2"), ("c", "3")]


def test_another_encoder_finds_all_vectors_stale_until_they_are_replaced(box: Box) -> None:
    """Vectors carry the stamp of their encoder, and are given out only to it."""
    put(box.store, a="first", b="second")
    assert box.store.count_stale() == 0
    store = box.reopen("encoder-2")
    assert store.count_stale() == 2
    assert list(store.vectors(default(store))) == []
    assert store.stale(1) == [(1, "first")]
    store.replace_vectors([1], np.ones((1, DIMENSION), dtype=np.float16), [True])
    assert store.stale(5) == [(2, "second")]
    assert store.by_id(default(store), ["a"])["a"].truncated
    ((seqs, vectors),) = list(store.vectors(default(store)))
    assert seqs.tolist() == [1]
    assert vectors.tolist() == [[1, 1, 1, 1]]
    assert store.last_seq() == 2


def test_everything_is_there_after_reopening(box: Box) -> None:
    """Anchors, log, identity and the next seq."""
    put(box.store, a="first")
    identity = box.store.identity
    store = box.reopen()
    assert store.identity == identity
    assert store.by_id(default(store), ["a"])["a"].text == "first"
    assert put(store, b="second") == [2]


def test_an_answer_is_remembered_under_its_key_and_collection(store: AnchorStore) -> None:
    """The latest answer counts; another collection has keys of its own."""
    key = default(store)
    with store.write() as rows:
        assert rows.recall(key, "k") is None
        rows.remember(key, "k", Remembered(b"request", "answer"))
        rows.remember(key, "k", Remembered(b"request", "later answer"))
        rows.put_collection("other", CollectionSettings())
        assert rows.recall(key, "k") == Remembered(b"request", "later answer")
        assert rows.recall(rows.collection("other").key, "k") is None


def test_same_content_compares_all_that_a_client_gives() -> None:
    """Order of keys and 1 against 1.0 do not make a difference, a label does."""
    encoded = draft("first", "x", {"a": 1, "b": 2})
    store = MemoryAnchorStore("encoder-1")
    with store.write() as rows:
        rows.put(1, [("a", encoded)])
    anchor = store.by_id(1, ["a"])["a"]
    assert anchor.same_content(replace(encoded.draft, metadata={"b": 2.0, "a": 1}))
    assert not anchor.same_content(replace(encoded.draft, label=None))
    assert not anchor.same_content(replace(encoded.draft, text="First"))
    assert not anchor.same_content(replace(encoded.draft, metadata={"a": 1}))
