"""What every store promises about jobs and about reads of one moment."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from app.domain.anchors import CollectionSettings, Draft, EncodedDraft, Filter, encoded_draft
from app.domain.errors import JobNotFound
from app.domain.jobs import Job, JobState
from app.domain.ports import AnchorStore
from app.storage.sqlite import SqliteAnchorStore

EVERYTHING = Filter()
BEGAN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def job(store: AnchorStore, number: int = 1, collection: str = "default") -> Job:
    key = store.collection(collection).key
    options = {"filter": {"label": "é"}, "min_size": 2}
    at = BEGAN + timedelta(minutes=number)
    return Job(f"job-{number}", key, collection, "clusters", options, at)


def put(store: AnchorStore, *jobs: Job) -> None:
    with store.write() as rows:
        for one in jobs:
            rows.put_job(one)


def test_a_job_is_read_back_whole(store: AnchorStore) -> None:
    """New, and in every later state; a later state replaces the one before."""
    new = job(store)
    put(store, new)
    assert store.job("job-1") == new
    ended = replace(
        new,
        state=JobState.FAILED,
        attempts=2,
        started_at=BEGAN + timedelta(hours=1),
        finished_at=BEGAN + timedelta(hours=2),
        detail="the disk is full",
        summary={"anchors": 3, "nested": {"é": [1.5, None]}},
    )
    put(store, ended)
    assert store.job("job-1") == ended
    assert store.jobs() == [ended]


def test_jobs_come_oldest_first(store: AnchorStore) -> None:
    """By when they were made, whatever their ids and the order of storing."""
    jobs = [job(store, number) for number in (3, 1, 10, 2)]
    put(store, *jobs)
    assert [one.id for one in store.jobs()] == ["job-1", "job-2", "job-3", "job-10"]


def test_an_unknown_job(store: AnchorStore) -> None:
    """It is not found; forgetting it, or its result, changes nothing."""
    with pytest.raises(JobNotFound):
        store.job("job-1")
    with store.write() as rows:
        rows.forget_job("job-1")
        rows.drop_result("job-1")
    assert store.result("job-1", 0, 10) == []


def test_a_result_is_read_in_pieces(store: AnchorStore) -> None:
    """In the order of its lines, however they were added; of its own job only."""
    put(store, job(store, 1), job(store, 2))
    lines = [f'{{"line": "{number} é"}}' for number in range(7)]
    with store.write() as rows:
        rows.add_result("job-1", 0, lines[:3])
        rows.add_result("job-1", 3, [])
        rows.add_result("job-2", 0, ["other"])
    with store.write() as rows:
        rows.add_result("job-1", 3, lines[3:])
        assert rows.result("job-1", 2, 2) == lines[2:4]
    assert store.result("job-1", 0, 100) == lines
    assert store.result("job-1", 5, 1) == [lines[5]]
    assert store.result("job-1", 7, 5) == []
    with store.write() as rows:
        rows.drop_result("job-1")
    assert store.result("job-1", 0, 100) == []
    assert store.result("job-2", 0, 100) == ["other"]


def test_what_is_rolled_back_was_never_there(store: AnchorStore) -> None:
    """A state and lines of a transaction that failed leave no trace."""
    put(store, job(store))
    with suppress(ValueError), store.write() as rows:
        rows.put_job(replace(job(store), state=JobState.DONE))
        rows.add_result("job-1", 0, ["line"])
        raise ValueError
    assert store.job("job-1").state is JobState.QUEUED
    assert store.result("job-1", 0, 10) == []


def test_jobs_go_with_their_collection(store: AnchorStore) -> None:
    """At once; a new collection of the same name does not bring them back."""
    with store.write() as rows:
        rows.put_collection("other", CollectionSettings())
    put(store, job(store, 1), job(store, 2, "other"))
    with store.write() as rows:
        rows.add_result("job-2", 0, ["line"] * 5)
        rows.delete_collection(rows.collection("other").key)
        rows.put_collection("other", CollectionSettings())
    assert [one.id for one in store.jobs()] == ["job-1"]
    with pytest.raises(JobNotFound):
        store.job("job-2")
    with store.write() as rows:
        rounds = 1
        while rows.purge(2):
            rounds += 1
            assert rounds < 50
    assert store.result("job-2", 0, 10) == []
    assert store.job("job-1") == job(store, 1)


def test_purge_removes_the_lines_of_forgotten_jobs(store: AnchorStore) -> None:
    """Bit by bit, and no others."""
    put(store, job(store, 1), job(store, 2))
    with store.write() as rows:
        rows.add_result("job-1", 0, ["a"] * 5)
        rows.add_result("job-2", 0, ["b"] * 5)
        rows.forget_job("job-1")
    with store.write() as rows:
        while rows.purge(2):
            pass
    assert store.result("job-1", 0, 10) == []
    assert store.result("job-2", 0, 10) == ["b"] * 5


def test_a_database_without_jobs_gets_the_tables(tmp_path: Path) -> None:
    """One that an earlier release made opens as it is, and holds jobs from then on."""
    path = tmp_path / "deja.db"
    store = SqliteAnchorStore(path, "encoder-1")
    with store.write() as rows:
        rows.put(1, [("a", draft("kept"))])
    store.close()
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE jobs")
        database.execute("DROP TABLE job_results")
    database.close()
    again = SqliteAnchorStore(path, "encoder-1")
    put(again, job(again))
    assert again.jobs() == [job(again)]
    assert again.by_id(1, ["a"])["a"].text == "kept"
    again.close()


def draft(text: str) -> EncodedDraft:
    vector = np.ones(4) / 2
    return encoded_draft(Draft(text), vector, truncated=False)


def test_reads_of_one_moment_see_no_later_write(store: AnchorStore) -> None:
    """Whatever is written while they are open, from the first read on."""
    with store.write() as rows:
        rows.put(1, [("a", draft("one")), ("b", draft("two"))])
    with store.read() as rows:
        (first, second), _ = rows.select(1, EVERYTHING, limit=None, after=0)
        with store.write() as other:
            other.put(1, [("a", draft("changed")), ("c", draft("three"))])
            other.delete(1, "b")
        found = rows.by_seq([int(first), int(second)])
        assert [anchor.text for anchor in found.values()] == ["one", "two"]
        assert rows.count(1) == (2, 0)
        assert sorted(rows.by_id(1, ["a", "b", "c"])) == ["a", "b"]
    assert [anchor.text for anchor in store.page(1, label=None, after=None, limit=9)] == [
        "changed",
        "three",
    ]
