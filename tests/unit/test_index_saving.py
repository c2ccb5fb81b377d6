"""Saving and damage: what `FaissIndex` keeps on disk, and what it refuses to read."""

import json
import logging
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.index.background import Collection
from app.index.faiss_index import FaissIndex
from app.index.segment import Pace
from tests.unit.index_parts import SOON, Gate, adding, deleting, folders, same_answers, settle


@pytest.mark.parametrize("exact_below", [1000, 100])
def test_what_is_saved_comes_back(
    open_index: Callable[..., FaissIndex], tmp_path: Path, exact_below: int
) -> None:
    """A later start loads the segment with its dead rows, and replays only what came after."""
    index = open_index(exact_below=exact_below)
    changes = adding(1, 200)
    settle(index, changes)
    changes += deleting(201, range(1, 31)) + adding(231, 20)
    settle(index, changes[200:])
    kind = index.view(1).segment.kind
    changes += adding(251, 10)
    index.apply(1, changes[250:])
    assert index.saved_seq(1) == 250
    assert [path.name for path in folders(tmp_path)] == ["00000000000000000250-000002"]

    later = open_index(exact_below=exact_below)
    assert later.restore(1) == 250
    assert later.saved_seq(1) == 250
    assert later.view(1).segment.kind == kind == ("flat" if exact_below == 1000 else "hnsw")
    assert later.view(1).dead == (0 if exact_below == 1000 else 30)
    assert same_answers(later, changes[:250])
    later.apply(1, changes)
    assert same_answers(later, changes)


def test_closing_saves_a_small_collection(open_index: Callable[..., FaissIndex]) -> None:
    """Closing merges and saves what was never due, so that a start has nothing to replay."""
    index = open_index()
    changes = [*adding(1, 20), *deleting(21, range(1, 6))]
    index.apply(1, changes)
    assert index.saved_seq(1) is None
    index.close()
    later = open_index()
    assert later.restore(1) == 25
    assert same_answers(later, changes)


def test_closing_in_the_middle_of_a_graph(open_index: Callable[..., FaissIndex]) -> None:
    """Closing does not wait for a graph: the step that runs is the last one."""
    steps: list[bool] = []
    gate = Gate()

    def pace() -> None:
        steps.append(gate.reached.is_set())
        gate()

    index = open_index(exact_below=300, pace=pace)
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
    open_index: Callable[..., FaissIndex], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While the folder cannot be written merges go on and answers are right; then it is saved."""
    blocked = tmp_path / "index"
    blocked.write_text("not a folder")
    index = open_index(retry_after=0.05)
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
            settle(index, changes[:60])
            settle(index, changes[60:])
            assert (index.view(1).loose, index.saved_seq(1)) == (0, None)
            assert same_answers(index, changes)
            assert "collection 1: not saved, tried again in 0 s" in caplog.messages
            blocked.unlink()
            assert saved.wait(SOON)
    finally:
        logging.getLogger("deja.index").removeHandler(watch)
    assert index.saved_seq(1) == 120


def test_saving_again_waits_its_turn(
    open_index: Callable[..., FaissIndex], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes everything anew, so it may take a share of the time; closing does not wait."""
    monkeypatch.setattr("app.index.background._SAVING_SHARE", 1e9)
    index = open_index(exact_below=100)
    settle(index, adding(1, 200))
    assert index.saved_seq(1) == 200
    index.apply(1, adding(201, 200))
    assert not index.wait_idle(0.5)
    assert (index.view(1).loose, index.saved_seq(1)) == (0, 200)
    index.close()
    assert index.saved_seq(1) == 400


def test_closing_saves_the_small_before_the_large(
    open_index: Callable[..., FaissIndex], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collection that takes all the time that closing has takes it from no other."""
    monkeypatch.setattr("app.index.faiss_index._CLOSING", 0.3)
    index = open_index(merge_least=10_000, merge_most=10_000)
    index.apply(1, adding(1, 300))
    index.apply(2, adding(301, 10))
    saved: list[int] = []
    save = index._background.save

    def slow(collection: int, state: Collection, pace: Pace) -> None:
        save(collection, state, pace)
        saved.append(collection)
        time.sleep(1.0)

    monkeypatch.setattr(index._background, "save", slow)
    index.close()
    assert saved[0] == 2


# Damage


@pytest.fixture
def saved(open_index: Callable[..., FaissIndex], tmp_path: Path) -> Path:
    """Return the folder of a saved graph with dead rows."""
    index = open_index(exact_below=100)
    settle(index, adding(1, 200))
    settle(index, deleting(201, range(1, 31)) + adding(231, 20))
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
    open_index: Callable[..., FaissIndex],
    saved: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    damage: Callable[[Path], None],
) -> None:
    """A flipped bit, a missing byte or a missing file: one line names it, and it is deleted."""
    damage(saved / name)
    index = open_index()
    assert index.restore(1) is None
    assert index.saved_seq(1) is None
    assert [record.getMessage().split(": ")[0] for record in caplog.records] == [str(saved / name)]
    assert not saved.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"format": 1}', b"\xff", b"null"])
def test_a_damaged_manifest_is_refused(
    open_index: Callable[..., FaissIndex],
    saved: Path,
    caplog: pytest.LogCaptureFixture,
    content: bytes,
) -> None:
    """Whatever a manifest holds, a folder that cannot be used is named and deleted."""
    (saved / "manifest.json").write_bytes(content)
    assert open_index().restore(1) is None
    assert [str(saved) in message for message in caplog.messages] == [True]
    assert not saved.exists()


def test_a_missing_manifest_is_refused(
    open_index: Callable[..., FaissIndex], saved: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder without a manifest was never finished."""
    (saved / "manifest.json").unlink()
    assert open_index().restore(1) is None
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
    open_index: Callable[..., FaissIndex],
    saved: Path,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
    problem: str,
) -> None:
    """A segment of another encoder, database or dimension is not loaded."""
    assert open_index(**options).restore(1) is None
    assert caplog.messages == [
        f"{saved / 'manifest.json'}: {problem}; deleted, the index is rebuilt"
    ]


def test_another_format_is_refused(open_index: Callable[..., FaissIndex], saved: Path) -> None:
    """A segment of a later format is not loaded by this version."""
    path = saved / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    assert open_index().restore(1) is None


def test_the_newest_whole_one_is_loaded(open_index: Callable[..., FaissIndex], saved: Path) -> None:
    """Where the newest segment is damaged, an older one serves, with more to replay."""
    newer = saved.with_name("00000000000000000300-000001")
    shutil.copytree(saved, newer)
    flip(newer / "index.faiss")
    assert open_index().restore(1) == 250


def test_what_was_never_finished_is_removed(
    open_index: Callable[..., FaissIndex], saved: Path, tmp_path: Path
) -> None:
    """The rest of a save that a crash interrupted is neither loaded nor kept."""
    shutil.copytree(saved, saved.with_name(".unfinished-00000000000000000900-000001"))
    assert open_index().restore(1) == 250
    assert folders(tmp_path) == [saved]


def test_retain_deletes_what_an_earlier_process_saved(tmp_path: Path) -> None:
    """The folder of a collection that a crash kept from being dropped goes, others stay."""
    (tmp_path / "7" / "leftover").mkdir(parents=True)
    (tmp_path / "8").mkdir()
    index = FaissIndex(tmp_path, 4, encoder="an encoder", store="a database")
    index.retain({8})
    index.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["8"]
