"""Work that takes longer than a request: asked for once, watched, cancelled, and read when done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol


class JobState(StrEnum):
    """How far a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Return whether nothing will change any more."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of work on a collection.

    collection: its key. collection_name: its name when the job was made.
    kind: what is done. options: how, in plain JSON.
    attempts: how often it was started; more than once where the process ended in the middle.
    detail: why it failed.
    summary: what came out, in plain JSON; the lines of the result are kept apart.
    """

    id: str
    collection: int
    collection_name: str
    kind: str
    options: Mapping[str, Any]
    created_at: datetime
    state: JobState = JobState.QUEUED
    attempts: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None
    detail: str | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)


class JobReads(Protocol):
    """Jobs of collections that exist; what belonged to a deleted one is gone with it."""

    def job(self, job_id: str) -> Job:
        """Return a job. Raises JobNotFound."""
        ...

    def jobs(self) -> list[Job]:
        """Return every job, the oldest first."""
        ...

    def result(self, job_id: str, after: int, limit: int) -> list[str]:
        """Return lines of a job's result, `limit` at most, from the one numbered `after` on."""
        ...


class JobWrites(JobReads, Protocol):
    """Changes to jobs, part of a write transaction."""

    def put_job(self, job: Job) -> None:
        """Store a new job, or the new state of one."""
        ...

    def add_result(self, job_id: str, after: int, lines: Sequence[str]) -> None:
        """Store lines of a result, numbered from `after` on."""
        ...

    def drop_result(self, job_id: str) -> None:
        """Forget the lines of a result."""
        ...

    def forget_job(self, job_id: str) -> None:
        """Forget a job at once; the lines of its result go with `purge`."""
        ...
