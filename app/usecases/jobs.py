"""Jobs: work in the background, one after another, that outlives its request and the process.

The database holds the queue and every state, so a job that was acknowledged is never lost: one that
ran when the process ended runs again at the next start.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

from app.domain.errors import DejaError, JobNotFound, NotReady, Overloaded, StorageFailed
from app.domain.jobs import Job, JobState
from app.domain.ports import AnchorStore, WriteTransaction
from app.priority import step_back
from app.usecases.register import new_id
from app.usecases.writer import Writer, Writing

log = logging.getLogger("deja.jobs")

WAITING = 16  # jobs that may wait, beside the one that runs
KEPT = 32  # ended jobs that are kept, with their results
KEPT_FOR = timedelta(days=7)
ATTEMPTS = 3  # starts of a job in whose middle the process ended
LINES_TOGETHER = 200
BYTES_TOGETHER = 256 * 1024

STEPS_BACK = 10  # of niceness, as bulk work
LONGEST_PAUSE = 0.05
SWEEP_SECONDS = 600.0
RETRY_SECONDS = 1.0

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is.

    fraction: of the whole, 0 to 1. step: what is being done; done, total: how much of it.
    """

    fraction: float
    step: str
    done: int
    total: int


class Abandoned(Exception):
    """The job was cancelled, its collection deleted, or the service stops."""


class Work(Protocol):
    """One kind of job."""

    @property
    def shares(self) -> Mapping[str, float]:
        """Return the steps in their order, with the share of the whole time each takes."""
        ...

    def __call__(self, job: Job, running: Running) -> Mapping[str, Any]:
        """Do the job; return its summary. Lines of the result go to `running.emit`."""
        ...


class Running:
    """A job that runs: it says how far it is, writes its result, and hears when to end."""

    def __init__(self, job: Job, work: Work, jobs: Jobs) -> None:
        self.job = job
        self.abandoned = False
        self.progress = Progress(0.0, next(iter(work.shares)), 0, 0)
        self._shares = work.shares
        self._jobs = jobs
        self._lines: list[str] = []
        self._bytes = 0
        self._written = 0
        self._since = time.monotonic()

    def step(self, name: str, done: int, total: int) -> None:
        """Say how far a step is, give way to those who wait. Raises Abandoned."""
        before = 0.0
        for step, share in self._shares.items():
            if step == name:
                before += share * (done / total if total else 1.0)
                break
            before += share
        self.progress = Progress(min(before, 1.0), name, done, total)
        self.pause()

    def pause(self) -> None:
        """Give way to those who wait for an answer. Raises Abandoned."""
        if self.abandoned:
            raise Abandoned
        if self._jobs.busy():
            # As long as it worked, so it takes half a core at most from those who wait.
            time.sleep(min(time.monotonic() - self._since, LONGEST_PAUSE))
        self._since = time.monotonic()

    def emit(self, line: str) -> None:
        """Add a line to the result. Raises Abandoned."""
        self._lines.append(line)
        self._bytes += len(line)
        if len(self._lines) >= LINES_TOGETHER or self._bytes >= BYTES_TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Store the lines that were added. Raises Abandoned."""
        lines, after = self._lines, self._written
        self._lines, self._bytes, self._written = [], 0, after + len(lines)

        def command(writing: Writing) -> None:
            _still_running(writing.rows, self.job.id)
            writing.rows.add_result(self.job.id, after, lines)

        self._jobs.write(command)


class Jobs:
    """Runs jobs in a thread of its own.

    kinds: what can be done, by the kind of a job.
    busy: whether somebody waits for an answer.
    """

    def __init__(
        self,
        store: AnchorStore,
        writer: Writer,
        kinds: Mapping[str, Work],
        *,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self.busy = busy
        self._store = store
        self._writer = writer
        self._kinds = kinds
        self._running: Running | None = None
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name="deja-jobs", daemon=True)

    def start(self) -> None:
        """Go on with what an earlier process left, then take new jobs; the writer has started."""
        self._thread.start()

    def close(self) -> None:
        """Stop; a job in the middle is left to the next start. The writer must still run."""
        self._stopping = True
        self._wake.set()
        running = self._running
        if running is not None:
            running.abandoned = True
        if self._thread.is_alive():
            self._thread.join()

    def create(self, collection: str, kind: str, options: Mapping[str, Any]) -> Future[Job]:
        """Return the job once it is stored: whatever happens then, it will be run or reported.

        The future raises CollectionNotFound, and Overloaded where too many wait.
        """

        def command(writing: Writing) -> Job:
            rows = writing.rows
            found = rows.collection(collection)
            waiting = sum(job.state is JobState.QUEUED for job in rows.jobs())
            if waiting >= WAITING:
                raise Overloaded(f"{waiting} jobs are waiting; try again", retry_after=10)
            job = Job(new_id(), found.key, collection, kind, options, datetime.now(UTC))
            rows.put_job(job)
            return job

        return self._then(self._writer.submit(command), lambda _job: self._wake.set())

    def cancel(self, job_id: str) -> Future[Job]:
        """End a job that waits or runs; forget one that has ended, and its result.

        The future gives the job as it was before, and raises JobNotFound.
        """

        def command(writing: Writing) -> Job:
            rows = writing.rows
            job = rows.job(job_id)
            if job.state.ended:
                rows.forget_job(job_id)
            else:
                rows.put_job(replace(job, state=JobState.CANCELLED, finished_at=datetime.now(UTC)))
                rows.drop_result(job_id)
            return job

        def abandon(job: Job) -> None:
            running = self._running
            if running is not None and running.job.id == job.id:
                running.abandoned = True

        return self._then(self._writer.submit(command), abandon)

    def progress(self, job: Job) -> Progress | None:
        """Return how far a job is, None for one that ended without a result."""
        running = self._running
        if job.state is JobState.RUNNING and running is not None and running.job.id == job.id:
            return running.progress
        if job.state is JobState.DONE:
            return Progress(1.0, "done", 0, 0)
        return None if job.state.ended else Progress(0.0, job.state.value, 0, 0)

    def write(self, command: Callable[[Writing], _T]) -> _T:
        """Return what a command gives once it is durable, however long the writer's queue is."""
        while True:
            try:
                return self._writer.submit(command).result()
            except Overloaded:
                time.sleep(LONGEST_PAUSE)

    @staticmethod
    def _then(answer: Future[Job], then: Callable[[Job], None]) -> Future[Job]:
        def done(settled: Future[Job]) -> None:
            if not settled.cancelled() and settled.exception() is None:
                then(settled.result())

        answer.add_done_callback(done)
        return answer

    def _loop(self) -> None:
        step_back(STEPS_BACK)
        recovered = False
        while not self._stopping:
            try:
                if not recovered:
                    self._patiently(_recover)
                    recovered = True
                self._next()
            except Exception:
                # Without this thread every later job would wait for ever.
                log.exception("jobs wait for what they need; trying again")
                self._rest(RETRY_SECONDS)

    def _next(self) -> None:
        """Run the job that has waited longest, or wait for one."""
        self._patiently(_sweep)
        job = next((job for job in self._store.jobs() if job.state is JobState.QUEUED), None)
        if job is None:
            self._rest(SWEEP_SECONDS)
        else:
            self._run(job)

    def _rest(self, seconds: float) -> None:
        self._wake.wait(seconds)
        self._wake.clear()

    def _run(self, queued: Job) -> None:
        def begin(writing: Writing) -> Job:
            job = writing.rows.job(queued.id)
            if job.state is not JobState.QUEUED:
                raise Abandoned
            job = replace(
                job,
                state=JobState.RUNNING,
                attempts=job.attempts + 1,
                started_at=datetime.now(UTC),
            )
            writing.rows.drop_result(job.id)
            writing.rows.put_job(job)
            return job

        try:
            job = self.write(begin)
        except (Abandoned, JobNotFound):
            return
        except (StorageFailed, NotReady) as error:
            log.warning("job %s waits: %s", queued.id, error)
            self._rest(RETRY_SECONDS)
            return
        started = time.monotonic()
        try:
            ended = self._worked(job)
            if ended.state.ended:
                ended = replace(ended, finished_at=datetime.now(UTC))
            self._patiently(lambda rows: _end(rows, ended))
        finally:
            self._running = None
        log.info("job %s: %s in %.1f s", job.id, ended.state, time.monotonic() - started)

    def _worked(self, job: Job) -> Job:
        """Return a job as it is once its work has ended, in whatever way."""
        work = self._kinds.get(job.kind)
        if work is None:  # a later release asked for it
            detail = f"this release of the service has no jobs of the kind {job.kind!r}"
            return replace(job, state=JobState.FAILED, detail=detail)
        try:
            running = self._running = Running(job, work, self)
            running.abandoned = self._stopping
            summary = work(job, running)
            running.flush()
        except (Abandoned, JobNotFound):
            # Cancelled, the state says so already; else the next start begins it anew.
            return replace(job, state=JobState.QUEUED, attempts=job.attempts - 1, started_at=None)
        except DejaError as error:
            return replace(job, state=JobState.FAILED, detail=str(error))
        except Exception:
            log.exception("job %s failed", job.id)
            detail = f"an unforeseen error; the log has it under job {job.id}"
            return replace(job, state=JobState.FAILED, detail=detail)
        return replace(job, state=JobState.DONE, summary=dict(summary))

    def _patiently(self, change: Callable[[WriteTransaction], None]) -> None:
        """Make a change, trying again while the database refuses."""
        while True:
            try:
                return self.write(lambda writing: change(writing.rows))
            except StorageFailed as error:
                log.warning("the state of a job is not stored yet: %s", error)
                if self._stopping:
                    return None
                time.sleep(RETRY_SECONDS)
            except NotReady:
                return None


def _still_running(rows: WriteTransaction, job_id: str) -> None:
    """Raise Abandoned if a job was cancelled or went with its collection."""
    try:
        state = rows.job(job_id).state
    except JobNotFound:
        raise Abandoned from None
    if state is not JobState.RUNNING:
        raise Abandoned


def _end(rows: WriteTransaction, ended: Job) -> None:
    with suppress(Abandoned):
        _still_running(rows, ended.id)
        if ended.state is not JobState.DONE:
            rows.drop_result(ended.id)
        rows.put_job(ended)


def _recover(rows: WriteTransaction) -> None:
    """Queue again what ran when the last process ended, unless it ended each time."""
    for job in rows.jobs():
        if job.state is not JobState.RUNNING:
            continue
        if job.attempts < ATTEMPTS:
            rows.put_job(replace(job, state=JobState.QUEUED, started_at=None))
            continue
        detail = (
            f"interrupted: the service ended {job.attempts} times while this job ran; "
            "look into its log for the reason, then ask for the job again"
        )
        failed = replace(job, state=JobState.FAILED, detail=detail, finished_at=datetime.now(UTC))
        rows.drop_result(job.id)
        rows.put_job(failed)


def _sweep(rows: WriteTransaction) -> None:
    """Forget ended jobs that are too old, and the oldest of too many."""
    ended = [job for job in rows.jobs() if job.state.ended]
    before = datetime.now(UTC) - KEPT_FOR
    for place, job in enumerate(reversed(ended)):
        if place >= KEPT or (job.finished_at is not None and job.finished_at < before):
            rows.forget_job(job.id)
