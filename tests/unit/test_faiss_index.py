"""Merging, saving and damage: what `FaissIndex` does beyond the port."""

import json
import logging
import math
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.domain.anchors import Change
from app.index.faiss_index import FaissIndex
from app.index.memory import MemoryIndex

DIMENSION = 16
SOON = 20.0  # seconds; a test that needs them has failed


def vectors(count: int, seed: int = 0) -> NDArray[np.float16]:
    """Return random unit vectors, (count, DIMENSION) float16."""
    drawn = np.random.default_rng(seed).standard_normal((count, DIMENSION))
    unit: NDArray[np.float64] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit.astype(np.float16)


QUESTIONS = vectors(20, seed=99).astype(np.float32)


def adding(first: int, count: int, seed: int | None = None) -> list[Change]:
    """Return changes first..first+count-1, each of which adds a vector."""
    rows = vectors(count, seed=first if seed is None else seed)
    return [Change(first + place, None, row) for place, row in enumerate(rows)]


def deleting(first: int, removed: range) -> list[Change]:
    """Return changes from `first` on that delete these versions."""
    return [Change(first + place, seq, None) for place, seq in enumerate(removed)]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., FaissIndex]]:
    """Return a function that opens an index on one folder, with options; all are closed after."""
    indexes: list[FaissIndex] = []

    def open_index(**options: Any) -> FaissIndex:
        settings: dict[str, Any] = {
            "encoder": "an encoder",
            "store": "a database",
            "dimension": DIMENSION,
        }
        settings |= {"folder": tmp_path / "index", "merge_least": 50, "merge_most": 100}
        settings |= {"quiet_after": math.inf}
        indexes.append(FaissIndex(**(settings | options)))
        return indexes[-1]

    yield open_index
    for index in indexes:
        index.close()


class Gate:
    """A pace that stops the background at its first step until it is let through."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self) -> None:
        """Say that the background is here, and wait."""
        self.reached.set()
        self.opened.wait(SOON)


def same_answers(index: FaissIndex, changes: list[Change], k: int = 10) -> bool:
    """Return whether collection 1 answers as if `changes` were all that ever happened to it."""
    expected = MemoryIndex(DIMENSION)
    expected.apply(1, changes)
    return len(index.view(1)) == len(expected.view(1)) and all(
        np.array_equal(
            index.view(1).search(question, k).seqs, expected.view(1).search(question, k).seqs
        )
        for question in QUESTIONS
    )


def folders(root: Path, collection: int = 1) -> list[Path]:
    return sorted((root / "index" / str(collection)).glob("*"))


# Merging


def test_a_quiet_collection_is_merged_sooner(opened: Callable[..., FaissIndex]) -> None:
    """Rows too few to merge while more come are merged once none does."""
    index = opened(exact_below=100, merge_most=1000, quiet_after=1.0)
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


def test_a_full_tail_becomes_a_segment(opened: Callable[..., FaissIndex]) -> None:
    """Once enough rows are loose they are merged, and every answer stays the same."""
    index = opened()
    changes = adding(1, 60) + deleting(61, range(1, 11))
    index.apply(1, changes[:49])
    assert index.wait_idle(SOON)
    assert (len(index.view(1).segment), index.view(1).loose) == (0, 49)
    held = index.view(1)
    index.apply(1, changes[49:])
    assert index.wait_idle(SOON)
    view = index.view(1)
    assert (view.segment.kind, len(view.segment), view.loose, view.seq) == ("flat", 50, 0, 70)
    assert (len(held), held.loose) == (49, 49)
    assert same_answers(index, changes)


def test_dead_rows_are_merged_away(opened: Callable[..., FaissIndex]) -> None:
    """Deletions alone lead to a merge, too, down to a segment without rows."""
    index = opened()
    index.apply(1, adding(1, 60))
    assert index.wait_idle(SOON)
    index.apply(1, deleting(61, range(1, 61)))
    assert index.wait_idle(SOON)
    view = index.view(1)
    assert (len(view), len(view.segment), view.loose) == (0, 0, 0)
    assert index.saved_seq(1) == 120


def test_a_large_collection_gets_a_graph(opened: Callable[..., FaissIndex]) -> None:
    """From `exact_below` vectors on the segment is a graph; below, it is searched exhaustively."""
    index = opened(exact_below=300)
    changes = adding(1, 300)
    index.apply(1, changes[:299])
    assert index.wait_idle(SOON)
    assert index.view(1).segment.kind == "flat"
    index.apply(1, changes[299:])
    assert index.wait_idle(SOON)
    assert (index.view(1).segment.kind, index.view(1).loose) == ("hnsw", 0)
    assert same_answers(index, changes)


def test_a_graph_is_extended_while_few_of_its_rows_are_dead(
    opened: Callable[..., FaissIndex],
) -> None:
    """A merge adds to a copy of the graph and leaves dead rows in it, which no answer shows."""
    index = opened(exact_below=300)
    changes = adding(1, 400)
    index.apply(1, changes)
    assert index.wait_idle(SOON)
    before = index.view(1)
    changes += deleting(401, range(1, 41)) + adding(441, 60)
    index.apply(1, changes[400:])
    assert index.wait_idle(SOON)
    view = index.view(1)
    assert (len(view.segment), view.dead, len(view.tail)) == (460, 40, 0)
    assert len(before.segment) == 400
    assert same_answers(index, changes)


def test_tombstones_do_not_count_again(opened: Callable[..., FaissIndex], tmp_path: Path) -> None:
    """Dead rows that a merge left in a graph are not due for another merge by themselves."""
    index = opened(exact_below=300)
    changes = adding(1, 400)
    index.apply(1, changes)
    assert index.wait_idle(SOON)
    changes += deleting(401, range(1, 61))
    index.apply(1, changes[400:])
    assert index.wait_idle(SOON)
    segment = index.view(1).segment
    assert (index.view(1).dead, index.view(1).loose, index.saved_seq(1)) == (60, 0, 460)
    changes += deleting(461, range(61, 70))
    index.apply(1, changes[460:])
    assert index.wait_idle(SOON)
    assert index.view(1).segment is segment
    assert (index.view(1).dead, index.view(1).loose, index.saved_seq(1)) == (69, 9, 460)
    assert [path.name for path in folders(tmp_path)] == ["00000000000000000460-000002"]
    assert same_answers(index, changes)


def test_a_graph_with_many_dead_rows_is_built_anew(opened: Callable[..., FaissIndex]) -> None:
    """A fifth of dead rows is too much: the new graph holds the live ones only."""
    index = opened(exact_below=300)
    changes = adding(1, 400)
    index.apply(1, changes)
    assert index.wait_idle(SOON)
    changes += deleting(401, range(1, 81))
    index.apply(1, changes[400:])
    assert index.wait_idle(SOON)
    view = index.view(1)
    assert (view.segment.kind, len(view.segment), view.dead) == ("hnsw", 320, 0)
    assert same_answers(index, changes)


def test_a_graph_too_small_by_now_is_searched_exhaustively(
    opened: Callable[..., FaissIndex],
) -> None:
    """As soon as a collection has shrunk below `exact_below`, its answers are exact."""
    index = opened(exact_below=300, merge_least=1000, merge_most=1000)
    changes = adding(1, 300)
    index.apply(1, changes)
    assert index.wait_idle(SOON)
    changes += deleting(301, range(1, 51))
    index.apply(1, changes[300:])
    assert index.wait_idle(SOON)
    view = index.view(1)
    assert (view.segment.kind, view.dead, len(view)) == ("hnsw", 50, 250)
    assert same_answers(index, changes)


def test_copies_do_not_break_a_graph(opened: Callable[..., FaissIndex], tmp_path: Path) -> None:
    """Rows with one vector share a node, so a graph full of copies finds what it should."""
    rows = vectors(40).repeat(20, axis=0)[np.random.default_rng(5).permutation(800)]
    rows = np.concatenate([rows, vectors(200, seed=6)])
    changes = [Change(seq, None, row) for seq, row in enumerate(rows, 1)]
    index = opened(exact_below=300)
    index.apply(1, changes[:900])
    assert index.wait_idle(SOON)
    assert (len(index.view(1).segment), index.view(1).segment.nodes) == (900, 140)
    changes += [*deleting(1001, range(1, 31)), Change(1031, None, rows[0])]
    index.apply(1, changes[900:])
    assert index.wait_idle(SOON)
    assert (len(index.view(1).segment), index.view(1).segment.nodes) == (1001, 240)
    assert same_answers(index, changes, k=50)

    later = opened(exact_below=300)
    assert later.restore(1) == 1031
    assert later.view(1).segment.nodes == 240
    assert same_answers(later, changes, k=50)
    assert (folders(tmp_path)[0] / "nodes.npy").is_file()


def test_a_node_dies_with_its_last_row(opened: Callable[..., FaissIndex]) -> None:
    """Of rows that share a node the others are found until the last of them is deleted."""
    rows = vectors(300)
    rows[[10, 20]] = rows[0]
    changes = [Change(seq, None, row) for seq, row in enumerate(rows, 1)]
    index = opened(exact_below=100)
    index.apply(1, changes)
    assert index.wait_idle(SOON)
    question = rows[0].astype(np.float32)
    found = [index.view(1).search(question, 3).seqs.tolist()]
    for seq, removed in enumerate([1, 21, 11], 301):
        index.apply(1, [Change(seq, removed, None)])
        found.append(index.view(1).search(question, 3).seqs.tolist())
    second, third = (seq for seq in index.view(1).search(question, 2).seqs.tolist())
    assert found[:3] == [[1, 11, 21], [11, 21, second], [11, second, third]]
    assert found[3][:2] == [second, third]


def test_rebuild_serves_at_once_and_becomes_a_graph(opened: Callable[..., FaissIndex]) -> None:
    """A rebuilt collection of any size is served exactly, and turned into a graph afterwards."""
    gate = Gate()
    index = opened(exact_below=300, pace=gate)
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


def test_a_rebuild_is_saved_before_its_graph_is_built(
    opened: Callable[..., FaissIndex],
) -> None:
    """A stop while the graph of a rebuilt collection is built costs no other rebuild."""
    seen: set[tuple[str, int | None]] = set()
    index: FaissIndex

    def pace() -> None:
        seen.add((index.view(1).segment.kind, index.saved_seq(1)))

    index = opened(exact_below=300, pace=pace)
    index.rebuild(1, [(np.arange(1, 501), vectors(500))], 600)
    assert index.wait_idle(SOON)
    # Saved as it was rebuilt, then the graph was built, then that was saved.
    assert seen == {("flat", None), ("flat", 600), ("hnsw", 600)}


def test_changes_during_a_merge_are_kept(opened: Callable[..., FaissIndex]) -> None:
    """What is written while a merge runs is seen at once and still there when it is done."""
    gate = Gate()
    index = opened(pace=gate)
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
    opened: Callable[..., FaissIndex],
) -> None:
    """Between two steps of a graph, the small collections that are due are merged and saved."""
    steps: list[int] = []
    index: FaissIndex

    def pace() -> None:
        steps.append(len(index.view(2).segment))
        if len(steps) == 1:
            index.apply(2, adding(1001, 60))

    index = opened(exact_below=300, pace=pace)
    index.apply(1, adding(1, 1000))
    assert index.wait_idle(SOON)
    assert len(index.view(1).segment) == 1000
    assert steps[0] == 0
    assert 60 in steps[1:-3]
    assert index.saved_seq(2) == 1060


def test_a_drop_during_a_merge_is_final(opened: Callable[..., FaissIndex], tmp_path: Path) -> None:
    """A collection dropped while it is merged does not come back, nor do its files."""
    gate = Gate()
    index = opened(pace=gate)
    index.apply(1, adding(1, 60))
    assert gate.reached.wait(SOON)
    index.drop(1)
    gate.opened.set()
    assert index.wait_idle(SOON)
    assert len(index.view(1)) == 0
    assert folders(tmp_path) == []


def test_a_rebuild_during_a_merge_wins(opened: Callable[..., FaissIndex]) -> None:
    """A merge that began before a rebuild does not put the old vectors back."""
    gate = Gate()
    index = opened(pace=gate)
    index.apply(1, adding(1, 60))
    assert gate.reached.wait(SOON)
    index.rebuild(1, [(np.array([7]), vectors(1))], 60)
    gate.opened.set()
    assert index.wait_idle(SOON)
    assert index.view(1).search(QUESTIONS[0], 5).seqs.tolist() == [7]
    assert index.saved_seq(1) == 60


def test_a_failing_merge_leaves_the_index_serving(
    opened: Callable[..., FaissIndex], caplog: pytest.LogCaptureFixture
) -> None:
    """A merge that fails is logged and tried again; until then the old view answers."""
    failures = [MemoryError("no room")]

    def pace() -> None:
        if failures:
            raise failures.pop()

    index = opened(pace=pace, retry_after=0.0)
    changes = adding(1, 60)
    with caplog.at_level(logging.ERROR, "deja.index"):
        index.apply(1, changes)
        assert index.wait_idle(SOON)
    assert [record.getMessage() for record in caplog.records] == [
        "collection 1: not merged, tried again in 0 s"
    ]
    assert index.view(1).loose == 0
    assert same_answers(index, changes)


def test_lookups_go_on_while_merges_run(opened: Callable[..., FaissIndex]) -> None:
    """A row that is never removed is found by every search, whatever is merged meanwhile."""
    index = opened(exact_below=1000)
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


# Saving


@pytest.mark.parametrize("exact_below", [1000, 100])
def test_what_is_saved_comes_back(
    opened: Callable[..., FaissIndex], tmp_path: Path, exact_below: int
) -> None:
    """A later start loads the segment with its dead rows, and replays only what came after."""
    index = opened(exact_below=exact_below)
    changes = adding(1, 200)
    index.apply(1, changes)
    assert index.wait_idle(SOON)
    changes += deleting(201, range(1, 31)) + adding(231, 20)
    index.apply(1, changes[200:])
    assert index.wait_idle(SOON)
    kind = index.view(1).segment.kind
    changes += adding(251, 10)
    index.apply(1, changes[250:])
    assert index.saved_seq(1) == 250
    assert [path.name for path in folders(tmp_path)] == ["00000000000000000250-000002"]

    later = opened(exact_below=exact_below)
    assert later.restore(1) == 250
    assert later.saved_seq(1) == 250
    assert later.view(1).segment.kind == kind == ("flat" if exact_below == 1000 else "hnsw")
    assert later.view(1).dead == (0 if exact_below == 1000 else 30)
    assert same_answers(later, changes[:250])
    later.apply(1, changes)
    assert same_answers(later, changes)


def test_closing_saves_a_small_collection(opened: Callable[..., FaissIndex]) -> None:
    """Closing merges and saves what was never due, so that a start has nothing to replay."""
    index = opened()
    changes = [*adding(1, 20), *deleting(21, range(1, 6))]
    index.apply(1, changes)
    assert index.saved_seq(1) is None
    index.close()
    later = opened()
    assert later.restore(1) == 25
    assert same_answers(later, changes)


def test_closing_in_the_middle_of_a_graph(opened: Callable[..., FaissIndex]) -> None:
    """Closing does not wait for a graph: the step that runs is the last one."""
    steps: list[bool] = []
    gate = Gate()

    def pace() -> None:
        steps.append(gate.reached.is_set())
        gate()

    index = opened(exact_below=300, pace=pace)
    index.apply(1, adding(1, 2000))
    assert gate.reached.wait(SOON)
    closing = threading.Thread(target=index.close)
    closing.start()
    background = index._background
    with background.changed:
        assert background.changed.wait_for(lambda: background._stopping, SOON)
    gate.opened.set()
    closing.join()
    assert steps == [False]
    assert (index.view(1).segment.kind, index.view(1).loose) == ("flat", 2000)


def test_what_cannot_be_saved_is_tried_again(
    opened: Callable[..., FaissIndex], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While the folder cannot be written merges go on and answers are right; then it is saved."""
    blocked = tmp_path / "index"
    blocked.write_text("not a folder")
    index = opened(retry_after=0.05)
    saved = threading.Event()

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "saved 120 vectors" in record.getMessage():
                saved.set()

    watch = Watch()
    logging.getLogger("deja.index").addHandler(watch)
    try:
        with caplog.at_level(logging.INFO, "deja.index"):
            changes = adding(1, 120)
            index.apply(1, changes[:60])
            assert index.wait_idle(SOON)
            index.apply(1, changes[60:])
            assert index.wait_idle(SOON)
            assert (index.view(1).loose, index.saved_seq(1)) == (0, None)
            assert same_answers(index, changes)
            assert "collection 1: not saved, tried again in 0 s" in caplog.messages
            blocked.unlink()
            assert saved.wait(SOON)
    finally:
        logging.getLogger("deja.index").removeHandler(watch)
    assert index.saved_seq(1) == 120


# Damage


@pytest.fixture
def saved(opened: Callable[..., FaissIndex], tmp_path: Path) -> Path:
    """Return the folder of a saved graph with dead rows."""
    index = opened(exact_below=100)
    index.apply(1, adding(1, 200))
    assert index.wait_idle(SOON)
    index.apply(1, deleting(201, range(1, 31)) + adding(231, 20))
    assert index.wait_idle(SOON)
    index.close()
    (folder,) = folders(tmp_path)
    return folder


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("name", ["index.faiss", "seqs.npy", "alive.npy"])
@pytest.mark.parametrize("damage", [flip, shorten, Path.unlink])
def test_a_damaged_file_is_refused(
    opened: Callable[..., FaissIndex],
    saved: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    damage: Callable[[Path], None],
) -> None:
    """A flipped bit, a missing byte or a missing file: one line names it, and it is deleted."""
    damage(saved / name)
    index = opened()
    assert index.restore(1) is None
    assert index.saved_seq(1) is None
    assert [record.getMessage().split(": ")[0] for record in caplog.records] == [str(saved / name)]
    assert not saved.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"format": 1}', b"\xff", b"null"])
def test_a_damaged_manifest_is_refused(
    opened: Callable[..., FaissIndex],
    saved: Path,
    caplog: pytest.LogCaptureFixture,
    content: bytes,
) -> None:
    """Whatever a manifest holds, a folder that cannot be used is named and deleted."""
    (saved / "manifest.json").write_bytes(content)
    assert opened().restore(1) is None
    assert [str(saved) in message for message in caplog.messages] == [True]
    assert not saved.exists()


def test_a_missing_manifest_is_refused(
    opened: Callable[..., FaissIndex], saved: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder without a manifest was never finished."""
    (saved / "manifest.json").unlink()
    assert opened().restore(1) is None
    assert caplog.messages == [f"{saved / 'manifest.json'}: missing; deleted, the index is rebuilt"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"encoder": "another"}, "its encoder is 'an encoder', not 'another'"),
        ({"store": "another"}, "its store is 'a database', not 'another'"),
        ({"dimension": 8}, "its dimension is 16, not 8"),
    ],
)
def test_what_belongs_to_another_is_refused(
    opened: Callable[..., FaissIndex],
    saved: Path,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
    problem: str,
) -> None:
    """A segment of another encoder, database or dimension is not loaded."""
    assert opened(**options).restore(1) is None
    assert caplog.messages == [
        f"{saved / 'manifest.json'}: {problem}; deleted, the index is rebuilt"
    ]


def test_another_format_is_refused(opened: Callable[..., FaissIndex], saved: Path) -> None:
    """A segment of a later format is not loaded by this version."""
    path = saved / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    assert opened().restore(1) is None


def test_the_newest_whole_one_is_loaded(opened: Callable[..., FaissIndex], saved: Path) -> None:
    """Where the newest segment is damaged, an older one serves, with more to replay."""
    newer = saved.with_name("00000000000000000300-000001")
    shutil.copytree(saved, newer)
    flip(newer / "index.faiss")
    assert opened().restore(1) == 250


def test_what_was_never_finished_is_removed(
    opened: Callable[..., FaissIndex], saved: Path, tmp_path: Path
) -> None:
    """The rest of a save that a crash interrupted is neither loaded nor kept."""
    shutil.copytree(saved, saved.with_name(".unfinished-00000000000000000900-000001"))
    assert opened().restore(1) == 250
    assert folders(tmp_path) == [saved]


def test_retain_deletes_what_an_earlier_process_saved(tmp_path: Path) -> None:
    """The folder of a collection that a crash kept from being dropped goes, others stay."""
    (tmp_path / "7" / "leftover").mkdir(parents=True)
    (tmp_path / "8").mkdir()
    index = FaissIndex(tmp_path, 4, encoder="an encoder", store="a database")
    index.retain({8})
    index.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["8"]
