"""What goes over the wire about jobs and clusters."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from app.api.schemas import FilterIn, In
from app.domain.anchors import Filter
from app.domain.jobs import Job, JobState
from app.domain.verdicts import Verdict
from app.usecases.clusters import ANCHORS_LIMIT, Options
from app.usecases.jobs import Progress


class ClustersIn(In):
    """Which groups of duplicates are wanted."""

    filter: FilterIn | None = Field(None, description="Only anchors that it admits are grouped.")
    min_size: int = Field(
        2, ge=2, le=ANCHORS_LIMIT, strict=True, description="Anchors a group has at least."
    )
    verdict: Literal["duplicate", "review"] = Field(
        "duplicate", description="What an anchor must at least be of the canonical one."
    )

    def to_options(self) -> Options:
        """Return the use case's options."""
        where = self.filter.to_filter() if self.filter else Filter()
        return Options(where, self.min_size, Verdict(self.verdict))


class ProgressOut(BaseModel):
    """How far a job is."""

    fraction: float = Field(description="Of the whole job, 0 to 1.")
    step: str = Field(description="What is being done.")
    done: int = Field(description="How much of this step is done.")
    total: int = Field(description="How much there is to do in this step.")


class JobOut(BaseModel):
    """A piece of work in the background."""

    id: str
    kind: str
    collection: str
    options: dict[str, Any]
    state: JobState
    progress: ProgressOut | None = Field(description="Null once it ended without a result.")
    attempts: int = Field(description="Starts; more than one where the service ended midway.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    detail: str | None = Field(description="Why it failed, and what to do.")
    summary: dict[str, Any] | None = Field(description="What came out, in figures.")
    result: str | None = Field(description="Where the result is, once it is done.")


class JobsOut(BaseModel):
    """Every job that is kept, the oldest first."""

    jobs: list[JobOut]


class GroupAnchorOut(BaseModel):
    """An anchor of a group."""

    id: str
    text: str
    label: str | None


class GroupMemberOut(GroupAnchorOut):
    """An anchor of a group, compared with the canonical one."""

    similarity: float = Field(description="Cosine, -1 to 1.")
    probability: float = Field(description="Calibrated P(duplicate), 0 to 1.")
    verdict: Verdict


class GroupOut(BaseModel):
    """A group of duplicates: one line of the result of a clusters job."""

    size: int = Field(description="Anchors in it, the canonical one included.")
    canonical: GroupAnchorOut
    members: list[GroupMemberOut] = Field(description="All others, the likeliest first.")


def job_out(job: Job, progress: Progress | None) -> JobOut:
    """Return a job as it is shown."""
    done = job.state is JobState.DONE
    return JobOut(
        id=job.id,
        kind=job.kind,
        collection=job.collection_name,
        options=dict(job.options),
        state=job.state,
        progress=progress
        and ProgressOut(
            fraction=round(progress.fraction, 4),
            step=progress.step,
            done=progress.done,
            total=progress.total,
        ),
        attempts=job.attempts,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        detail=job.detail,
        summary=dict(job.summary) if done else None,
        result=f"/v1/jobs/{job.id}/result" if done else None,
    )
