"""Work in the background: asked for here, watched, cancelled, and read when it is done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Path, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from app.api.dependencies import CollectionName, ReadyRuntime
from app.api.job_schemas import ClustersIn, GroupOut, JobOut, JobsOut, job_out
from app.domain.errors import JobNotDone, JobNotFound
from app.domain.jobs import Job, JobReads, JobState
from app.runtime import Runtime
from app.usecases.clusters import KIND

# Lines of a result read at a time; a group of many anchors is one long line.
LINES_TOGETHER = 20

router = APIRouter(prefix="/v1", tags=["jobs"])

JobId = Annotated[str, Path(description="As `POST …/clusters` gave it.")]


@router.post("/collections/{collection}/clusters", status_code=202)
async def find_clusters(
    collection: CollectionName,
    runtime: ReadyRuntime,
    response: Response,
    body: ClustersIn | None = None,
) -> JobOut:
    """Start to find all groups of duplicates inside a collection."""
    options = (body or ClustersIn()).to_options().to_json()
    job = await asyncio.wrap_future(runtime.jobs.create(collection, KIND, options))
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return _out(runtime, job)


@router.get("/jobs")
async def list_jobs(runtime: ReadyRuntime) -> JobsOut:
    """Return every job that is kept, the oldest first."""
    jobs = await run_in_threadpool(runtime.store.jobs)
    return JobsOut(jobs=[_out(runtime, job) for job in jobs])


@router.get("/jobs/{job_id}")
async def get_job(job_id: JobId, runtime: ReadyRuntime) -> JobOut:
    """Return how far a job is."""
    return _out(runtime, await run_in_threadpool(runtime.store.job, job_id))


@router.delete("/jobs/{job_id}", status_code=204)
async def cancel_job(job_id: JobId, runtime: ReadyRuntime) -> Response:
    """Cancel a job that waits or runs; forget one that has ended, with its result."""
    await asyncio.wrap_future(runtime.jobs.cancel(job_id))
    return Response(status_code=204)


@router.get(
    "/jobs/{job_id}/result",
    response_class=StreamingResponse,
    responses={
        200: {
            "model": GroupOut,
            "description": "The groups, one JSON object (GroupOut) a line, the largest first.",
            "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
        }
    },
)
async def get_result(job_id: JobId, runtime: ReadyRuntime) -> StreamingResponse:
    """Stream the result of a job that is done, as NDJSON."""
    job = await run_in_threadpool(runtime.store.job, job_id)
    if job.state is not JobState.DONE:
        raise JobNotDone(job_id, job.state)
    lines = result_lines(runtime.store, job)
    return StreamingResponse(lines, media_type="application/x-ndjson")


async def result_lines(store: JobReads, job: Job) -> AsyncGenerator[str, None]:
    """Yield a result a few lines at a time; nothing stays open between them.

    Raises JobNotFound where it is forgotten meanwhile: the answer breaks off, rather than ending
    as if it were whole.
    """
    after, total = 0, job.summary["groups"]
    while after < total:
        lines = await run_in_threadpool(store.result, job.id, after, LINES_TOGETHER)
        if not lines:
            raise JobNotFound(job.id)
        after += len(lines)
        yield "".join(line + "\n" for line in lines)


def _out(runtime: Runtime, job: Job) -> JobOut:
    return job_out(job, runtime.jobs.progress(job))
