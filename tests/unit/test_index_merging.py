"""Merging: when `FaissIndex` folds a tail into a segment, and what goes on meanwhile."""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from app.domain.anchors import Change
from app.index.faiss_index import FaissIndex
from tests.unit.index_parts import (
    QUESTIONS,
    SOON,
    Gate,
    adding,
    deleting,
    folders,
    same_answers,
    settle,
    vectors,
)


def test_a_quiet_collection_is_merged_sooner(open_index: Callable[..., FaissIndex]) -> None:
    """Rows too few to merge while more come are merged once none does."""
    index = open_index(exact_below=100, merge_most=1000, quiet_after=2.0)
    index.rebuild(1, [(np.arange(1, 1001), vectors(1000))], 1000)
    assert index.wait_idle(SOON)
    index.apply(1, adding(1001, 60))
    for seq in range(1061, 1101):  # two seconds, in which it is never quiet for one
        time.sleep(0.05)
        index.apply(1, adding(seq, 1))
        assert index.view(1).loose == seq - 1000
    assert index.wait_idle(SOON)
    assert index.view(1).loose == 0
    assert len(index.view(1)) == 1100


def test_a_large_collection_waits_for_more_before_it_is_merged_in_quiet(
    open_index: Callable[..., FaissIndex],
) -> None:
    """With 2,570 rows five are a 512th: four stay, however quiet it is, and five do not."""
    index = open_index(exact_below=100, merge_least=1, merge_most=1000, quiet_after=0.2)
    index.rebuild(1, [(np.arange(1, 2571), vectors(2570))], 2570)
    assert index.wait_idle(SOON)
    index.apply(1, adding(2571, 4))
    started = time.monotonic()
    assert index.wait_idle(SOON)
    assert time.monotonic() - started < 0.2  # it did not even wait
    assert index.view(1).loose == 4
    settle(index, adding(2575, 1))
    assert index.view(1).loose == 0


def test_who_waits_is_told_that_nothing_is_left(open_index: Callable[..., FaissIndex]) -> None:
    """A collection that is dropped while it waits for quiet is no longer waited for."""
    index = open_index(exact_below=1000, merge_most=1000, quiet_after=3600.0)
    index.rebuild(1, [(np.arange(1, 801), vectors(800))], 800)
    assert index.wait_idle(SOON)
    index.apply(1, adding(801, 60))
    assert not index.wait_idle(0.05)
    threading.Timer(0.1, index.drop, [1]).start()
    assert index.wait_idle(SOON)


def test_a_full_tail_becomes_a_segment(open_index: Callable[..., FaissIndex]) -> None:
    """Once enough rows are loose they are merged, and every answer stays the same."""
    index = open_index()
    changes = adding(1, 60) + deleting(61, range(1, 11))
    settle(index, changes[:49])
    assert (len(index.view(1).segment), index.view(1).loose) == (0, 49)
    held = index.view(1)
    settle(index, changes[49:])
    view = index.view(1)
    assert (view.segment.kind, len(view.segment), view.loose, view.seq) == ("flat", 50, 0, 70)
    assert (len(held), held.loose) == (49, 49)
    assert same_answers(index, changes)


def test_dead_rows_are_merged_away(open_index: Callable[..., FaissIndex]) -> None:
    """Deletions alone lead to a merge, too, down to a segment without rows."""
    index = open_index()
    settle(index, adding(1, 60))
    settle(index, deleting(61, range(1, 61)))
    view = index.view(1)
    assert (len(view), len(view.segment), view.loose) == (0, 0, 0)
    assert index.saved_seq(1) == 120


def test_a_large_collection_gets_a_graph(open_index: Callable[..., FaissIndex]) -> None:
    """From `exact_below` vectors on the segment is a graph; below, it is searched exhaustively."""
    index = open_index(exact_below=300)
    changes = adding(1, 300)
    settle(index, changes[:299])
    assert index.view(1).segment.kind == "flat"
    settle(index, changes[299:])
    assert (index.view(1).segment.kind, index.view(1).loose) == ("hnsw", 0)
    assert same_answers(index, changes)


def test_a_graph_is_extended_while_few_of_its_rows_are_dead(
    open_index: Callable[..., FaissIndex],
) -> None:
    """A merge adds to a copy of the graph and leaves dead rows in it, which no answer shows."""
    index = open_index(exact_below=300)
    changes = adding(1, 400)
    settle(index, changes)
    before = index.view(1)
    changes += deleting(401, range(1, 41)) + adding(441, 60)
    settle(index, changes[400:])
    view = index.view(1)
    assert (len(view.segment), view.dead, len(view.tail)) == (460, 40, 0)
    assert len(before.segment) == 400
    assert same_answers(index, changes)


def test_tombstones_do_not_count_again(
    open_index: Callable[..., FaissIndex], tmp_path: Path
) -> None:
    """Dead rows that a merge left in a graph are not due for another merge by themselves."""
    index = open_index(exact_below=300)
    changes = adding(1, 400)
    settle(index, changes)
    changes += deleting(401, range(1, 61))
    settle(index, changes[400:])
    segment = index.view(1).segment
    assert (index.view(1).dead, index.view(1).loose, index.saved_seq(1)) == (60, 0, 460)
    changes += deleting(461, range(61, 70))
    settle(index, changes[460:])
    assert index.view(1).segment is segment
    assert (index.view(1).dead, index.view(1).loose, index.saved_seq(1)) == (69, 9, 460)
    assert [path.name for path in folders(tmp_path)] == ["00000000000000000460-000002"]
    assert same_answers(index, changes)


def test_a_graph_with_many_dead_rows_is_built_anew(open_index: Callable[..., FaissIndex]) -> None:
    """A fifth of dead rows is too much: the new graph holds the live ones only."""
    index = open_index(exact_below=300)
    changes = adding(1, 400)
    settle(index, changes)
    changes += deleting(401, range(1, 81))
    settle(index, changes[400:])
    view = index.view(1)
    assert (view.segment.kind, len(view.segment), view.dead) == ("hnsw", 320, 0)
    assert same_answers(index, changes)


def test_a_graph_too_small_by_now_is_searched_exhaustively(
    open_index: Callable[..., FaissIndex],
) -> None:
    """As soon as a collection has shrunk below `exact_below`, its answers are exact."""
    index = open_index(exact_below=300, merge_least=1000, merge_most=1000)
    changes = adding(1, 300)
    settle(index, changes)
    changes += deleting(301, range(1, 51))
    settle(index, changes[300:])
    view = index.view(1)
    assert (view.segment.kind, view.dead, len(view)) == ("hnsw", 50, 250)
    assert same_answers(index, changes)


def test_copies_do_not_break_a_graph(open_index: Callable[..., FaissIndex], tmp_path: Path) -> None:
    """Rows with one vector share a node, so a graph full of copies finds what it should."""
    rows = vectors(40).repeat(20, axis=0)[np.random.default_rng(5).permutation(800)]
    rows = np.concatenate([rows, vectors(200, seed=6)])
    changes = [Change(seq, None, row) for seq, row in enumerate(rows, 1)]
    index = open_index(exact_below=300)
    settle(index, changes[:900])
    assert (len(index.view(1).segment), index.view(1).segment.nodes) == (900, 140)
    changes += [*deleting(1001, range(1, 31)), Change(1031, None, rows[0])]
    settle(index, changes[900:])
    assert (len(index.view(1).segment), index.view(1).segment.nodes) == (1001, 240)
    assert same_answers(index, changes, k=50)

    later = open_index(exact_below=300)
    assert later.restore(1) == 1031
    assert later.view(1).segment.nodes == 240
    assert same_answers(later, changes, k=50)
    assert (folders(tmp_path)[0] / "nodes.npy").is_file()


def test_a_node_dies_with_its_last_row(open_index: Callable[..., FaissIndex]) -> None:
    """Of rows that share a node the others are found until the last of them is deleted."""
    rows = vectors(300)
    rows[[10, 20]] = rows[0]
    changes = [Change(seq, None, row) for seq, row in enumerate(rows, 1)]
    index = open_index(exact_below=100)
    settle(index, changes)
    question = rows[0].astype(np.float32)
    found = [index.view(1).search(question, 3).seqs.tolist()]
    for seq, removed in enumerate([1, 21, 11], 301):
        index.apply(1, [Change(seq, removed, None)])
        found.append(index.view(1).search(question, 3).seqs.tolist())
    second, third = (seq for seq in index.view(1).search(question, 2).seqs.tolist())
    assert found[:3] == [[1, 11, 21], [11, 21, second], [11, second, third]]
    assert found[3][:2] == [second, third]


def test_rebuild_serves_at_once_and_becomes_a_graph(open_index: Callable[..., FaissIndex]) -> None:
    """A rebuilt collection of any size is served exactly, and turned into a graph afterwards."""
    gate = Gate()
    index = open_index(exact_below=300, pace=gate)
    changes = adding(1, 500)
    rows = np.stack([change.vector for change in changes if change.vector is not None])
    index.rebuild(1, [(np.arange(1, 501), rows)], 500)
    assert index.view(1).segment.kind == "flat"
    assert same_answers(index, changes)
    gate.opened.set()
    assert index.wait_idle(SOON)
    assert index.view(1).segment.kind == "hnsw"
    assert index.saved_seq(1) == 500
    assert same_answers(index, changes)


@pytest.mark.skipif(sys.platform != "linux", reason="niceness is a thread's own on Linux alone")
def test_merging_steps_back(open_index: Callable[..., FaissIndex]) -> None:
    """The system gives the processor to those who wait for an answer first."""
    seen: set[int] = set()

    def pace() -> None:
        seen.add(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    index = open_index(pace=pace)
    index.apply(1, adding(1, 60))
    assert index.wait_idle(SOON)
    assert seen == {min(os.getpriority(os.PRIO_PROCESS, 0) + 5, 19)}


def test_a_rebuild_is_saved_before_its_graph_is_built(
    open_index: Callable[..., FaissIndex],
) -> None:
    """A stop while the graph of a rebuilt collection is built costs no other rebuild."""
    seen: set[tuple[str, int | None]] = set()
    index: FaissIndex

    def pace() -> None:
        seen.add((index.view(1).segment.kind, index.saved_seq(1)))

    index = open_index(exact_below=300, pace=pace)
    index.rebuild(1, [(np.arange(1, 501), vectors(500))], 600)
    assert index.wait_idle(SOON)
    # Saved as it was rebuilt, then the graph was built, then that was saved.
    assert seen == {("flat", None), ("flat", 600), ("hnsw", 600)}


def test_changes_during_a_merge_are_kept(open_index: Callable[..., FaissIndex]) -> None:
    """What is written while a merge runs is seen at once and still there when it is done."""
    gate = Gate()
    index = open_index(pace=gate)
    changes = adding(1, 60)
    index.apply(1, changes)
    assert gate.reached.wait(SOON)
    later = adding(61, 300) + deleting(361, range(1, 31)) + deleting(391, range(100, 110))
    for change in later:
        index.apply(1, [change])
    assert same_answers(index, changes + later)
    gate.opened.set()
    assert index.wait_idle(SOON)
    assert index.view(1).loose < 100
    assert index.view(1).seq == 400
    assert same_answers(index, changes + later)


def test_small_collections_do_not_wait_for_a_large_one(
    open_index: Callable[..., FaissIndex],
) -> None:
    """Between two steps of a graph, the small collections that are due are merged and saved."""
    steps: list[int] = []
    index: FaissIndex

    def pace() -> None:
        steps.append(len(index.view(2).segment))
        if len(steps) == 1:
            index.apply(2, adding(1001, 60))

    index = open_index(exact_below=300, pace=pace)
    settle(index, adding(1, 1000))
    assert len(index.view(1).segment) == 1000
    assert steps[0] == 0
    assert 60 in steps[1:-3]
    assert index.saved_seq(2) == 1060


def test_a_drop_during_a_merge_is_final(
    open_index: Callable[..., FaissIndex], tmp_path: Path
) -> None:
    """A collection dropped while it is merged does not come back, nor do its files."""
    gate = Gate()
    index = open_index(pace=gate)
    index.apply(1, adding(1, 60))
    assert gate.reached.wait(SOON)
    index.drop(1)
    gate.opened.set()
    assert index.wait_idle(SOON)
    assert len(index.view(1)) == 0
    assert folders(tmp_path) == []


def test_a_rebuild_during_a_merge_wins(open_index: Callable[..., FaissIndex]) -> None:
    """A merge that began before a rebuild does not put the old vectors back."""
    gate = Gate()
    index = open_index(pace=gate)
    index.apply(1, adding(1, 60))
    assert gate.reached.wait(SOON)
    index.rebuild(1, [(np.array([7]), vectors(1))], 60)
    gate.opened.set()
    assert index.wait_idle(SOON)
    assert index.view(1).search(QUESTIONS[0], 5).seqs.tolist() == [7]
    assert index.saved_seq(1) == 60


def test_a_failing_merge_leaves_the_index_serving(
    open_index: Callable[..., FaissIndex], caplog: pytest.LogCaptureFixture
) -> None:
    """A merge that fails is logged and tried again; until then the old view answers."""
    failures = [MemoryError("no room")]

    def pace() -> None:
        if failures:
            raise failures.pop()

    index = open_index(pace=pace, retry_after=0.0)
    changes = adding(1, 60)
    with caplog.at_level(logging.ERROR, "deja.index"):
        settle(index, changes)
    assert [record.getMessage() for record in caplog.records] == [
        "collection 1: not merged, tried again in 0 s"
    ]
    assert index.view(1).loose == 0
    assert same_answers(index, changes)


def test_lookups_go_on_while_merges_run(open_index: Callable[..., FaissIndex]) -> None:
    """A row that is never removed is found by every search, whatever is merged meanwhile."""
    index = open_index(exact_below=1000)
    index.apply(1, adding(1, 1, seed=99))
    missed: list[list[int]] = []
    done = threading.Event()

    def look_up() -> None:
        while not done.is_set():
            seqs = index.view(1).search(QUESTIONS[0], 3).seqs.tolist()
            if 1 not in seqs:
                missed.append(seqs)

    threads = [threading.Thread(target=look_up) for _ in range(2)]
    for thread in threads:
        thread.start()
    for first in range(2, 3000, 30):
        index.apply(1, adding(first, 20) + deleting(first + 20, range(first, first + 10)))
    assert index.wait_idle(SOON)
    done.set()
    for thread in threads:
        thread.join()
    assert missed == []
    assert len(index.view(1)) == 1001
