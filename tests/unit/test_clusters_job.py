"""What a clusters job takes of a collection, and what it refuses."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import cast

import pytest

from app.domain.anchors import CollectionSettings, Filter
from app.domain.errors import TooLarge
from app.domain.jobs import Job
from app.index.memory import MemoryIndex
from app.storage.memory import MemoryAnchorStore
from app.usecases import clusters
from app.usecases.clusters import FindClusters, Options
from app.usecases.jobs import Running
from app.usecases.matching import Judge
from tests.unit.fakes import CALIBRATION, DIMENSION, WordEncoder

TEXTS = ["one word", "One word!", "word one", "two things"]


class Emitted:
    """Stands in for a running job: keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def step(self, name: str, done: int, total: int) -> None:
        """Hear a step."""

    def pause(self) -> None:
        """Rest."""

    def emit(self, line: str) -> None:
        """Keep a line."""
        self.lines.append(line)


def groups(where: Filter = Filter()) -> list[list[str]]:  # noqa: B008 - it never changes
    """Return the ids of each group of TEXTS; the first two are labelled `x`."""
    store, index, encoder = MemoryAnchorStore("words-1"), MemoryIndex(DIMENSION), WordEncoder()
    with store.write() as rows:
        rows.put_collection("c", CollectionSettings())
        key = rows.collection("c").key
        drafts = [
            (f"id-{place}", encoder.draft(text, label="x" if place < 2 else None))
            for place, text in enumerate(TEXTS)
        ]
        changes = rows.put(key, drafts)
    index.apply(key, changes)
    work = FindClusters(store, index, Judge(CALIBRATION), "words")
    running = Emitted()
    job = Job("j", key, "c", clusters.KIND, Options(where).to_json(), datetime.now(UTC))
    work(job, cast("Running", running))
    found = map(json.loads, running.lines)
    return [[one["canonical"]["id"], *(m["id"] for m in one["members"])] for one in found]


def test_groups_of_a_collection() -> None:
    """All of it, or what a filter leaves; the others are no neighbours then."""
    assert groups() == [["id-0", "id-1", "id-2"]]
    assert groups(Filter(label="x")) == [["id-0", "id-1"]]


def test_a_collection_is_bounded_in_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts, ids and labels together: one more than the limit is refused, with what to do."""
    held = sum(map(len, TEXTS)) + 4 * len("id-0") + 2 * len("x")
    monkeypatch.setattr(clusters, "CHARACTERS_LIMIT", held)
    assert len(groups()) == 1
    monkeypatch.setattr(clusters, "CHARACTERS_LIMIT", held - 1)
    with pytest.raises(TooLarge, match=rf"^more than {held - 1} characters in 4 of 4 anchors, .*"):
        groups()
    assert groups(Filter(label="x")) == [["id-0", "id-1"]]


def test_a_collection_is_bounded_in_anchors(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than the limit is refused."""
    monkeypatch.setattr(clusters, "ANCHORS_LIMIT", 3)
    with pytest.raises(TooLarge, match=r"^4 anchors, and a job takes 3: narrow it by a filter$"):
        groups()
