"""Jobs and their results in the database."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, Integer, Row, Table, Text, delete, insert, select

from app.domain.errors import JobNotFound
from app.domain.jobs import Job, JobState
from app.storage.rows import to_datetime, to_micros
from app.storage.schema import collections, tables

# Times are microseconds since 1970, UTC.
jobs = Table(
    "jobs",
    tables,
    Column("id", Text, primary_key=True),
    Column("collection", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("options", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("started_at", Integer),
    Column("finished_at", Integer),
    Column("detail", Text),
    Column("summary", Text, nullable=False),
)

job_results = Table(
    "job_results",
    tables,
    Column("job", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("line", Text, nullable=False),
    sqlite_with_rowid=False,
)

# A job of a deleted collection is out of reach, as its anchors are, until `purge` removes it.
_JOBS = select(jobs, collections.c.name).join(
    collections, (collections.c.key == jobs.c.collection) & collections.c.name.is_not(None)
)


class JobReader:
    """Implements `app.domain.jobs.JobReads` on whatever connection the store gives."""

    _connect: Callable[[], AbstractContextManager[Connection]]

    def job(self, job_id: str) -> Job:
        """Return a job. Raises JobNotFound."""
        with self._connect() as connection:
            row = connection.execute(_JOBS.where(jobs.c.id == job_id)).one_or_none()
        if row is None:
            raise JobNotFound(job_id)
        return _to_job(row)

    def jobs(self) -> list[Job]:
        """Return every job, the oldest first."""
        with self._connect() as connection:
            rows = connection.execute(_JOBS.order_by(jobs.c.created_at, jobs.c.id)).all()
        return [_to_job(row) for row in rows]

    def result(self, job_id: str, after: int, limit: int) -> list[str]:
        """Return lines of a job's result, `limit` at most, from the one numbered `after` on."""
        query = (
            select(job_results.c.line)
            .where(job_results.c.job == job_id, job_results.c.number >= after)
            .order_by(job_results.c.number)
            .limit(limit)
        )
        with self._connect() as connection:
            return list(connection.execute(query).scalars())


class JobWriter:
    """Implements the writes of `app.domain.jobs.JobWrites` on a transaction's connection."""

    connection: Connection

    def put_job(self, job: Job) -> None:
        """Store a new job, or the new state of one."""
        self.connection.execute(insert(jobs).prefix_with("OR REPLACE").values(_to_row(job)))

    def add_result(self, job_id: str, after: int, lines: Sequence[str]) -> None:
        """Store lines of a result, numbered from `after` on."""
        if lines:
            rows = [
                {"job": job_id, "number": number, "line": line}
                for number, line in enumerate(lines, after)
            ]
            self.connection.execute(insert(job_results), rows)

    def drop_result(self, job_id: str) -> None:
        """Forget the lines of a result."""
        self.connection.execute(delete(job_results).where(job_results.c.job == job_id))

    def forget_job(self, job_id: str) -> None:
        """Forget a job at once; the lines of its result go with `purge`."""
        self.connection.execute(delete(jobs).where(jobs.c.id == job_id))


def purge_jobs(connection: Connection, rows: int) -> int:
    """Delete up to `rows` jobs of deleted collections and lines of forgotten jobs.

    Return how many; fewer than `rows` means that none remain.
    """
    gone = connection.exec_driver_sql(
        "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE collection NOT IN "
        "(SELECT key FROM collections WHERE name IS NOT NULL) LIMIT ?)",
        (rows,),
    ).rowcount
    lines = connection.exec_driver_sql(
        "DELETE FROM job_results WHERE (job, number) IN (SELECT job, number FROM job_results "
        "WHERE job NOT IN (SELECT id FROM jobs) LIMIT ?)",
        (rows - gone,),
    ).rowcount
    return gone + lines


def _to_row(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "collection": job.collection,
        "kind": job.kind,
        "options": json.dumps(dict(job.options), ensure_ascii=False),
        "state": job.state.value,
        "attempts": job.attempts,
        "created_at": to_micros(job.created_at),
        "started_at": job.started_at and to_micros(job.started_at),
        "finished_at": job.finished_at and to_micros(job.finished_at),
        "detail": job.detail,
        "summary": json.dumps(dict(job.summary), ensure_ascii=False),
    }


def _to_job(row: Row[Any]) -> Job:
    def moment(micros: int | None) -> datetime | None:
        return None if micros is None else to_datetime(micros)

    return Job(
        id=row.id,
        collection=row.collection,
        collection_name=row.name,
        kind=row.kind,
        options=json.loads(row.options),
        created_at=to_datetime(row.created_at),
        state=JobState(row.state),
        attempts=row.attempts,
        started_at=moment(row.started_at),
        finished_at=moment(row.finished_at),
        detail=row.detail,
        summary=json.loads(row.summary),
    )
