"""What every store promises of reading labels, run over each implementation."""

from __future__ import annotations

import numpy as np

from app.domain.anchors import CollectionSettings, Draft, Filter, encoded_draft
from app.domain.ports import AnchorStore


def put(store: AnchorStore, *anchors: tuple[str, str | None, str], name: str = "default") -> int:
    """Put anchors (id, label, language); return the collection's key."""
    vector = np.array([1.0, 0.0])
    drafts = [
        (i, encoded_draft(Draft(i, i, label, {"lang": lang}), vector, truncated=False))
        for i, label, lang in anchors
    ]
    with store.write() as rows:
        key = rows.collection(name).key
        rows.put(key, drafts)
    return key


def test_labels_come_by_seq_and_versions_that_are_gone_do_not(store: AnchorStore) -> None:
    """None of an anchor without one; an update takes the old version away."""
    put(store, ("a", "x", "en"), ("b", None, "en"))
    put(store, ("a", "y", "en"))
    assert store.labels_of([1, 2, 3, 4]) == {2: None, 3: "y"}
    assert store.labels_of([]) == {}


def test_labelled_anchors_are_those_with_a_label_that_the_filter_admits(
    store: AnchorStore,
) -> None:
    """Of one collection; with the changes after a seq, as `select` gives them."""
    with store.write() as rows:
        rows.put_collection("other", CollectionSettings())
    key = put(store, ("a", "x", "en"), ("b", None, "en"), ("c", "y", "de"))
    put(store, ("a", "z", "en"), name="other")
    everything, changes = store.labelled(key, Filter(), limit=None, after=2)
    assert everything == {1: "x", 3: "y"}
    assert [change.seq for change in changes] == [3]
    for where, expected in (
        (Filter("x"), {1: "x"}),
        (Filter(metadata={"lang": "de"}), {3: "y"}),
        (Filter("x", {"lang": "de"}), {}),
        (Filter("unknown"), {}),
    ):
        assert store.labelled(key, where, limit=None, after=0)[0] == expected
    assert len(store.labelled(key, Filter(), limit=1, after=0)[0]) == 1
