"""What people say about matches."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from app.api.dependencies import (
    AnchorIdInPath,
    CollectionName,
    ReadyRuntime,
    encode,
    known_collection,
    write,
)
from app.api.feedback_schemas import (
    FeedbackGivenOut,
    FeedbackIn,
    FeedbackOut,
    FeedbackPageOut,
    feedback_given_out,
    feedback_out,
    pair_line,
)
from app.api.paging import read_cursor, write_cursor
from app.api.schemas import PAGE_LIMIT
from app.api.streaming import ExportResponse, export_response, ndjson
from app.domain.errors import FeedbackNotFound
from app.domain.feedback import Feedback, FeedbackStatus
from app.usecases.feedback import Given
from app.usecases.writer import Writing

router = APIRouter(prefix="/v1/collections/{collection}", tags=["feedback"])


@router.post(
    "/feedback",
    response_model=FeedbackGivenOut,
    responses={201: {"model": FeedbackGivenOut, "description": "The pair had no verdict before."}},
)
async def give_feedback(
    collection: CollectionName, body: FeedbackIn, runtime: ReadyRuntime, response: Response
) -> FeedbackGivenOut:
    """Store whether a question and an anchor ask the same; of one pair, the latest verdict."""
    await known_collection(runtime, collection)  # before the work of encoding
    encoded = await encode(runtime, [body.question])
    given = Given(
        body.question, encoded.vectors[0], body.anchor_id, duplicate=body.verdict == "duplicate"
    )

    def command(writing: Writing) -> tuple[FeedbackStatus, Feedback]:
        return runtime.give_feedback(writing, collection, given)

    status, stored = await write(runtime, command)
    response.status_code = 201 if status is FeedbackStatus.CREATED else 200
    return feedback_given_out(status, stored)


@router.get("/feedback", response_model=FeedbackPageOut)
async def list_feedback(
    collection: CollectionName,
    runtime: ReadyRuntime,
    cursor: Annotated[str | None, Query(max_length=512)] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT)] = 100,
) -> Response:
    """Return a page of feedback, the oldest first."""
    after = None if cursor is None else read_cursor(cursor)

    def read() -> str:
        key = runtime.store.collection(collection).key
        found = runtime.store.feedback.page(key, after=after, limit=limit + 1)
        page = found[:limit]
        following = write_cursor(page[-1].id) if len(found) > limit else None
        shown = [feedback_out(one) for one in page]
        return FeedbackPageOut(feedback=shown, next_cursor=following).model_dump_json()

    return Response(await run_in_threadpool(read), media_type="application/json")


@router.get(
    "/feedback:export",
    response_class=ExportResponse,
    responses=ndjson("All feedback of one moment, a labelled pair a line."),
)
async def export_feedback(collection: CollectionName, runtime: ReadyRuntime) -> StreamingResponse:
    """Stream all feedback of one moment as labelled pairs: text1, text2, label."""
    key = (await known_collection(runtime, collection)).key
    return export_response(runtime.exports, lambda: runtime.store.feedback.export(key), pair_line)


@router.get("/feedback/{feedback_id}")
async def get_feedback(
    collection: CollectionName, feedback_id: AnchorIdInPath, runtime: ReadyRuntime
) -> FeedbackOut:
    """Return one verdict."""

    def read() -> Feedback | None:
        key = runtime.store.collection(collection).key
        return runtime.store.feedback.get(key, feedback_id)

    found = await run_in_threadpool(read)
    if found is None:
        raise FeedbackNotFound(collection, feedback_id)
    return feedback_out(found)


@router.delete("/feedback/{feedback_id}", status_code=204)
async def withdraw_feedback(
    collection: CollectionName, feedback_id: AnchorIdInPath, runtime: ReadyRuntime
) -> Response:
    """Withdraw one verdict."""

    def command(writing: Writing) -> bool:
        key = writing.rows.collection(collection).key
        return writing.rows.feedback.delete(key, feedback_id)

    if not await write(runtime, command):
        raise FeedbackNotFound(collection, feedback_id)
    return Response(status_code=204)
