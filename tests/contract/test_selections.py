"""What every `AnchorStore` promises of filters, run over each implementation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from app.domain.anchors import CollectionSettings, EncodedDraft, Filter
from app.domain.ports import AnchorStore, WriteTransaction
from tests.contract.conftest import default, draft


def test_filters_select_by_label_and_metadata(store: AnchorStore) -> None:
    """All parts must hold; 1 equals 1.0, but neither True nor "1"; absent is not null."""
    key = default(store)
    rows_in: list[tuple[str, EncodedDraft]] = [
        ("a", draft("one", "x", {"lang": "en", "n": 1})),
        ("b", draft("two", "x", {"lang": "de", "n": True})),
        ("c", draft("three", "y", {"lang": "en", "n": "1", "gone": None})),
        ("d", draft("four", None, {"n": 1.0, "deep": {"lang": "en"}})),
    ]
    with store.write() as rows:
        rows.put(key, rows_in)

    def ids(where: Filter, limit: int | None = None) -> list[str]:
        seqs, changes = store.select(key, where, limit=limit, after=2)
        assert [change.seq for change in changes] == [3, 4]
        by_seq = store.by_seq(seqs.tolist())
        assert all(where.admits(anchor) for anchor in by_seq.values())
        return [by_seq[seq].id for seq in seqs.tolist()]

    assert ids(Filter("x")) == ["a", "b"]
    assert ids(Filter(None, {"lang": "en"})) == ["a", "c"]
    assert ids(Filter("x", {"lang": "en"})) == ["a"]
    assert ids(Filter(None, {"lang": "en", "n": "1"})) == ["c"]
    assert ids(Filter(None, {"n": 1})) == ["a", "d"]
    assert ids(Filter(None, {"n": True})) == ["b"]
    assert ids(Filter(None, {"gone": None})) == ["c"]
    assert ids(Filter("nothing")) == []
    assert len(ids(Filter(), 3)) == 3
    assert store.select(key, Filter("nothing"), limit=1, after=4)[0].dtype == np.int64


@pytest.mark.parametrize(
    "where",
    [Filter("x"), Filter(None, {"lang": "en"}), Filter("x", {"lang": "en"}), Filter()],
    ids=["label", "metadata", "both", "all"],
)
def test_what_came_and_went_makes_a_selection_one_of_now(store: AnchorStore, where: Filter) -> None:
    """Whatever moment it is of: updates, deletions, and what came and went in between."""
    key = default(store)
    with store.write() as rows:
        rows.put_collection("other", CollectionSettings())
    other = store.collection("other").key
    moments = [(0, store.select(key, where, limit=None, after=0)[0])]
    steps: list[Callable[[WriteTransaction], object]] = [
        lambda rows: rows.put(key, [(n, draft(n, "x", {"lang": "en"})) for n in "abc"]),
        lambda rows: rows.put(other, [("a", draft("one", "x", {"lang": "en"}))]),
        lambda rows: rows.put(key, [("a", draft("a", "y", {"lang": "en"}))]),
        lambda rows: rows.put(key, [("b", draft("new", "x", {"lang": "de"}))]),
        lambda rows: rows.delete(key, "c"),
        lambda rows: rows.put(key, [("d", draft("d", "x", {"lang": "en"}))]),
        lambda rows: rows.delete(key, "d"),
        lambda rows: rows.put(key, [("e", draft("e", "x", {"lang": "en"})), ("f", draft("f"))]),
    ]
    for step in steps:
        with store.write() as rows:
            step(rows)
        now, _ = store.select(key, where, limit=None, after=0)
        for seq, seqs in moments:
            since = store.select_since(key, where, seq, limit=100, after=2)
            assert since is not None
            left = set(seqs.tolist()) - set(since.gone.tolist())
            assert sorted(left | set(since.come.tolist())) == now.tolist()
            expected = store.changes(key, 2)
            assert expected is not None
            assert [change.seq for change in since.newer] == [change.seq for change in expected]
        moments.append((store.last_seq(), now))


def test_a_selection_too_old_or_too_far_behind_is_made_anew(store: AnchorStore) -> None:
    """Where the log was pruned, where too much changed, where the collection is unknown."""
    key = default(store)
    with store.write() as rows:
        rows.put(key, [(f"a{n}", draft(f"text {n}", "x")) for n in range(5)])
        rows.prune(key, 2)
    where = Filter("x")
    assert store.select_since(key, where, 1, limit=10, after=5) is None
    assert store.select_since(key, where, 2, limit=2, after=5) is None
    assert store.select_since(key + 1, where, 5, limit=10, after=5) is None
    since = store.select_since(key, where, 2, limit=3, after=4)
    assert since is not None
    assert (since.come.tolist(), since.gone.tolist()) == ([3, 4, 5], [])
    assert [change.seq for change in since.newer] == [5]
    nothing = store.select_since(key, where, 5, limit=0, after=5)
    assert nothing is not None
    assert (nothing.come.tolist(), nothing.gone.tolist(), nothing.newer) == ([], [], [])
    assert {nothing.come.dtype, nothing.gone.dtype} == {np.dtype(np.int64)}


def test_a_filter_forgets_what_an_anchor_was_before(store: AnchorStore) -> None:
    """Updates and deletions take their metadata with them."""
    key = default(store)
    with store.write() as rows:
        rows.put(key, [("a", draft("one", "x", {"lang": "en"})), ("b", draft("two", "x"))])
        rows.put(key, [("a", draft("one", "x", {"lang": "de"}))])
        rows.delete(key, "b")

    def seqs(where: Filter) -> list[int]:
        found: list[int] = store.select(key, where, limit=None, after=0)[0].tolist()
        return found

    assert seqs(Filter(None, {"lang": "en"})) == []
    assert seqs(Filter(None, {"lang": "de"})) == [3]
    assert seqs(Filter("x")) == [3]
