from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.domain.anchors import CollectionSettings
from app.domain.errors import CollectionNotFound, JobNotFound, Overloaded, StorageFailed, TooLarge
from app.domain.jobs import Job, JobState
from app.index.memory import MemoryIndex
from app.storage.memory import MemoryAnchorStore
from app.usecases import jobs as module
from app.usecases.jobs import Abandoned, Jobs, Running
from app.usecases.writer import Writer, Writing

SECONDS = 10.0


@dataclass
class Steps:
    """Work of ten steps, each of which waits until it may go on; then two lines."""

    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    entered: threading.Event = field(default_factory=threading.Event)
    abandoned: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None
    shares: Mapping[str, float] = field(default_factory=lambda: {"counting": 0.8, "telling": 0.2})
    niceness: int | None = None

    def __call__(self, job: Job, running: Running) -> Mapping[str, Any]:
        """Do the work."""
        if sys.platform == "linux":
            self.niceness = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        self.entered.set()
        try:
            for done in range(10):
                running.step("counting", done, 10)
                while not self.go.acquire(timeout=0.01):
                    running.pause()
            if self.error:
                raise self.error
            running.step("telling", 0, 2)
            running.emit(f"first of {job.id}")
            running.emit("second")
        except Abandoned:
            self.abandoned.set()
            raise
        return {"lines": 2}

    def finish(self) -> None:
        """Let every step of one job go on."""
        self.go.release(10)


class Store(MemoryAnchorStore):
    """A store whose writes and reads can be made to fail."""

    refusing = False
    unreadable = False

    def jobs(self) -> list[Job]:
        """Return every job."""
        if self.unreadable:
            raise OSError("the disk is gone")
        return super().jobs()

    @contextmanager
    def write(self) -> Iterator[Any]:
        """Open a write transaction."""
        with super().write() as rows:
            yield rows
            if self.refusing:
                raise StorageFailed("the disk is full")


class Bench:
    """A store, its writer, and jobs over them, which can be started again."""

    def __init__(self) -> None:
        self.store = Store("encoder")
        self.work = Steps()
        self.busy = False
        self._open()

    def _open(self) -> None:
        self.writer = Writer(self.store, MemoryIndex(4), on_failure=lambda _error: None)
        self.writer.start()
        self.jobs = Jobs(self.store, self.writer, {"steps": self.work}, busy=lambda: self.busy)
        self.jobs.start()

    def create(self, collection: str = "default") -> Job:
        """Return a new job."""
        return self.jobs.create(collection, "steps", {"a": 1}).result(SECONDS)

    def close(self) -> None:
        """Stop in good order."""
        self.jobs.close()
        self.writer.close()

    def restart(self) -> None:
        """Begin again on what is stored, as after a clean stop."""
        self.close()
        self._open()

    def put(self, *jobs: Job) -> None:
        """Store states, as an earlier process would have left them."""

        def command(writing: Writing) -> None:
            for job in jobs:
                writing.rows.put_job(job)

        self.writer.submit(command).result(SECONDS)

    def until(self, job: Job, state: JobState) -> Job:
        """Wait for a state; return the job."""
        eventually(lambda: self.store.job(job.id).state is state)
        return self.store.job(job.id)


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def test_a_job_runs_and_keeps_its_result(bench: Bench) -> None:
    """Queued, running, done; its lines are there once it is done."""
    bench.work.finish()
    job = bench.create()
    assert (job.state, job.attempts, job.collection_name) == (JobState.QUEUED, 0, "default")
    done = bench.until(job, JobState.DONE)
    assert done.started_at is not None
    assert done.finished_at is not None
    assert job.created_at <= done.started_at <= done.finished_at
    assert (done.attempts, done.summary, done.detail) == (1, {"lines": 2}, None)
    assert bench.store.result(job.id, 0, 9) == [f"first of {job.id}", "second"]


@pytest.mark.skipif(sys.platform != "linux", reason="niceness is a thread's own on Linux alone")
def test_a_job_steps_back(bench: Bench) -> None:
    """The system gives the processor to those who wait for an answer first."""
    bench.work.finish()
    bench.until(bench.create(), JobState.DONE)
    assert bench.work.niceness == min(os.getpriority(os.PRIO_PROCESS, 0) + 10, 19)


def test_progress_is_of_the_whole(bench: Bench) -> None:
    """A step counts for its share; ended jobs are whole, or have none."""
    job = bench.create()
    assert bench.work.entered.wait(SECONDS)
    bench.work.go.release(4)

    def reached() -> bool:
        found = bench.jobs.progress(bench.store.job(job.id))
        return found is not None and found.done == 4

    eventually(reached)
    found = bench.jobs.progress(bench.store.job(job.id))
    assert found is not None
    assert (round(found.fraction, 6), found.step, found.done, found.total) == (
        0.32,
        "counting",
        4,
        10,
    )
    waiting = bench.create()
    found = bench.jobs.progress(bench.store.job(waiting.id))
    assert found is not None
    assert (found.fraction, found.step) == (0.0, "queued")
    bench.work.go.release(6)
    found = bench.jobs.progress(bench.until(job, JobState.DONE))
    assert found is not None
    assert found.fraction == 1.0
    bench.jobs.cancel(waiting.id).result(SECONDS)
    assert bench.jobs.progress(bench.store.job(waiting.id)) is None


def test_a_running_job_is_cancelled_at_its_next_step(bench: Bench) -> None:
    """Its work ends, nothing of its result is kept, and the next job gets its turn."""
    job, following = bench.create(), bench.create()
    assert bench.work.entered.wait(SECONDS)
    bench.jobs.cancel(job.id).result(SECONDS)
    cancelled = bench.store.job(job.id)
    assert cancelled.state is JobState.CANCELLED
    assert cancelled.finished_at is not None
    assert bench.work.abandoned.wait(SECONDS)
    bench.work.finish()
    bench.until(following, JobState.DONE)
    assert bench.store.job(job.id) == cancelled
    assert bench.store.result(job.id, 0, 9) == []


def test_a_waiting_job_that_is_cancelled_never_runs(bench: Bench) -> None:
    """The one before it and the one after it do."""
    jobs = [bench.create() for _ in range(3)]
    bench.jobs.cancel(jobs[1].id).result(SECONDS)
    bench.work.go.release(20)
    bench.until(jobs[0], JobState.DONE)
    bench.until(jobs[2], JobState.DONE)
    assert bench.store.job(jobs[1].id).attempts == 0


def test_cancelling_what_has_ended_forgets_it(bench: Bench) -> None:
    """And what never was, or was forgotten, is not found."""
    bench.work.finish()
    job = bench.create()
    bench.until(job, JobState.DONE)
    bench.jobs.cancel(job.id).result(SECONDS)
    with pytest.raises(JobNotFound):
        bench.store.job(job.id)
    with pytest.raises(JobNotFound):
        bench.jobs.cancel(job.id).result(SECONDS)


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (TooLarge("too many anchors"), "too many anchors"),
        (ValueError("a secret"), "an unforeseen error; the log has it under job {id}"),
    ],
)
def test_a_failure_is_reported(bench: Bench, error: Exception, detail: str) -> None:
    """With its reason where it is one meant for the client; the thread goes on."""
    bench.work.error = error
    bench.work.finish()
    job = bench.create()
    failed = bench.until(job, JobState.FAILED)
    assert failed.detail == detail.format(id=job.id)
    bench.work.error = None
    bench.work.finish()
    bench.until(bench.create(), JobState.DONE)


def test_only_so_many_jobs_wait(bench: Bench) -> None:
    """Beside the one that runs. One more is told to come back, and leaves no trace."""
    bench.until(bench.create(), JobState.RUNNING)
    for _ in range(module.WAITING):
        bench.create()
    with pytest.raises(Overloaded, match="16 jobs are waiting") as refused:
        bench.create()
    assert refused.value.retry_after == 10
    assert len(bench.store.jobs()) == 1 + module.WAITING


def test_an_unknown_collection(bench: Bench) -> None:
    """Nothing is queued for it."""
    with pytest.raises(CollectionNotFound):
        bench.create("nowhere")
    assert bench.store.jobs() == []


def test_a_clean_stop_leaves_the_job_to_the_next_start(bench: Bench) -> None:
    """It ends within a step, counts as no attempt, and runs from its beginning."""
    job = bench.create()
    assert bench.work.entered.wait(SECONDS)
    bench.close()
    left = bench.store.job(job.id)
    assert (left.state, left.attempts, left.started_at) == (JobState.QUEUED, 0, None)
    bench.restart()
    bench.work.finish()
    assert bench.until(job, JobState.DONE).attempts == 1


def test_what_ran_when_the_process_died_runs_again(bench: Bench) -> None:
    """From its beginning: lines that were stored already do not come twice."""
    old = Job("old", 1, "default", "steps", {}, datetime.now(UTC), JobState.RUNNING, 1)
    bench.put(old)
    bench.writer.submit(lambda w: w.rows.add_result("old", 0, ["stale"] * 3)).result(SECONDS)
    bench.restart()
    bench.work.finish()
    assert bench.until(old, JobState.DONE).attempts == 2
    assert bench.store.result("old", 0, 9) == ["first of old", "second"]


def test_a_job_that_ends_the_process_is_given_up(bench: Bench) -> None:
    """After three starts it is reported as failed, with what to do."""
    old = Job("old", 1, "default", "steps", {}, datetime.now(UTC), JobState.RUNNING, 3)
    bench.put(old)
    bench.restart()
    failed = bench.until(old, JobState.FAILED)
    assert failed.detail == (
        "interrupted: the service ended 3 times while this job ran; "
        "look into its log for the reason, then ask for the job again"
    )
    assert not bench.work.entered.is_set()


def test_a_job_whose_collection_is_deleted_ends(bench: Bench) -> None:
    """Nothing of it is kept, and the next one runs."""

    def command(writing: Writing) -> None:
        writing.rows.delete_collection(writing.rows.collection("other").key)

    bench.writer.submit(
        lambda writing: writing.rows.put_collection("other", CollectionSettings())
    ).result(SECONDS)
    job, following = bench.create("other"), bench.create()
    assert bench.work.entered.wait(SECONDS)
    bench.writer.submit(command).result(SECONDS)
    bench.work.go.release(20)
    bench.until(following, JobState.DONE)
    assert [one.id for one in bench.store.jobs()] == [following.id]
    assert bench.store.result(job.id, 0, 9) == []


def test_old_jobs_are_forgotten(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that ended long ago, and the oldest of too many; never one that waits."""
    monkeypatch.setattr(module, "KEPT", 4)
    now = datetime.now(UTC)

    def ended(number: int, days: float) -> Job:
        at = now - timedelta(days=days)
        made = Job(f"old-{number}", 1, "default", "steps", {}, at, JobState.DONE, 1)
        return replace(made, finished_at=at)

    bench.put(*(ended(number, 9 - number) for number in range(7)))  # 9 to 3 days ago
    bench.work.finish()
    job = bench.create()
    bench.until(job, JobState.DONE)
    eventually(lambda: len(bench.store.jobs()) == 4)
    assert [one.id for one in bench.store.jobs()] == ["old-4", "old-5", "old-6", job.id]


def test_a_state_is_stored_once_the_disk_allows_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the database refuses, a job that is done is not forgotten and not run again."""
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    job = bench.create()
    assert bench.work.entered.wait(SECONDS)
    bench.work.error = TooLarge("too much")
    bench.store.refusing = True
    bench.work.finish()
    time.sleep(0.1)
    assert bench.store.job(job.id).state is JobState.RUNNING
    bench.store.refusing = False
    assert bench.until(job, JobState.FAILED).attempts == 1


def test_a_job_of_a_later_release_fails_and_the_next_one_runs(bench: Bench) -> None:
    """Its kind is unknown here: it says so, rather than take the thread with it."""
    later = Job("later", 1, "default", "telepathy", {}, datetime.now(UTC))
    bench.put(later)
    bench.work.finish()
    job = bench.create()
    bench.until(job, JobState.DONE)
    failed = bench.store.job("later")
    assert (failed.state, failed.detail) == (
        JobState.FAILED,
        "this release of the service has no jobs of the kind 'telepathy'",
    )
    assert failed.finished_at is not None


def test_jobs_run_once_they_can_be_read_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A database that cannot be read for a while does not end the thread that runs jobs."""
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    bench.store.unreadable = True
    job = bench.create()
    eventually(lambda: caplog.text.count("the disk is gone") >= 2)
    bench.store.unreadable = False
    bench.work.finish()
    bench.until(job, JobState.DONE)


def test_a_job_gives_way_to_those_who_wait(bench: Bench) -> None:
    """While somebody waits it rests as long as it worked, at each step."""
    bench.busy = True
    running = Running(
        Job("x", 1, "default", "steps", {}, datetime.now(UTC)), bench.work, bench.jobs
    )
    time.sleep(0.03)
    began = time.monotonic()
    running.pause()
    rested = time.monotonic() - began
    assert rested >= 0.03
    bench.busy = False
    time.sleep(0.03)
    began = time.monotonic()
    running.pause()
    assert time.monotonic() - began < 0.03
