"""Registering anchors, and reading them back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from app.api.dependencies import (
    AnchorIdInPath,
    CollectionName,
    ReadyRuntime,
    encode_drafts,
    known_collection,
    write,
)
from app.api.paging import read_cursor, write_cursor
from app.api.schemas import (
    LABEL_LIMIT,
    PAGE_LIMIT,
    AnchorContent,
    AnchorOut,
    AnchorsOut,
    RegisterIn,
    RegisterOut,
    anchor_out,
    registered_out,
)
from app.api.short import ShortRoute
from app.api.streaming import ExportResponse, export_response, ndjson
from app.domain.anchors import Anchor, Draft, Registered, RegisterStatus
from app.domain.errors import AnchorNotFound
from app.usecases.register import Idempotency
from app.usecases.writer import Writing

router = APIRouter(prefix="/v1/collections/{collection}", tags=["anchors"])

IdempotencyKey = Annotated[
    str | None,
    Header(alias="Idempotency-Key", min_length=1, max_length=255, pattern=r"^[!-~]+$"),
]


async def register(
    collection: CollectionName,
    body: RegisterIn,
    runtime: ReadyRuntime,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Register 1 to 1,000 anchors, one-shot: all of them or none."""
    # Before the work of encoding: it may not be there.
    key = (await known_collection(runtime, collection)).key
    drafts = await encode_drafts(runtime, key, [anchor.to_draft() for anchor in body.anchors])
    idempotency = None
    if idempotency_key is not None:
        request = hashlib.sha256(body.model_dump_json().encode()).digest()
        idempotency = Idempotency(idempotency_key, request, _to_answer)

    def command(writing: Writing) -> Sequence[Registered] | str:
        return runtime.register(writing, collection, drafts, body.if_duplicate, idempotency)

    outcome = await write(runtime, command)
    answer = outcome if isinstance(outcome, str) else _to_answer(outcome)
    # Only a request that created something says "created"; its answer begins with the status.
    return Response(answer[3:], int(answer[:3]), media_type="application/json")


router.add_api_route(
    "/anchors",
    register,
    methods=["POST"],
    response_model=RegisterOut,
    responses={201: {"model": RegisterOut, "description": "At least one anchor was created."}},
    route_class_override=ShortRoute,
)


def _to_answer(results: Sequence[Registered]) -> str:
    """Return status and body in one text, so that a repeated request gets both again."""
    created = any(result.status is RegisterStatus.CREATED for result in results)
    body = RegisterOut(results=[registered_out(result) for result in results])
    return f"{201 if created else 200}{body.model_dump_json()}"


@router.put(
    "/anchors/{anchor_id}",
    response_model=AnchorOut,
    responses={201: {"model": AnchorOut, "description": "The anchor was created."}},
)
async def put_anchor(
    collection: CollectionName,
    anchor_id: AnchorIdInPath,
    body: AnchorContent,
    runtime: ReadyRuntime,
    response: Response,
) -> AnchorOut:
    """Create or replace one anchor."""
    key = (await known_collection(runtime, collection)).key
    draft = Draft(body.text, anchor_id, body.label, body.metadata)
    drafts = await encode_drafts(runtime, key, [draft])

    def command(writing: Writing) -> tuple[RegisterStatus, Anchor]:
        outcome = runtime.register(writing, collection, drafts)
        assert not isinstance(outcome, str)
        now = writing.rows.collection(collection).key  # it may have been made anew
        return outcome[0].status, writing.rows.by_id(now, [anchor_id])[anchor_id]

    status, anchor = await write(runtime, command)
    response.status_code = 201 if status is RegisterStatus.CREATED else 200
    return anchor_out(anchor)


@router.get("/anchors/{anchor_id}")
async def get_anchor(
    collection: CollectionName, anchor_id: AnchorIdInPath, runtime: ReadyRuntime
) -> AnchorOut:
    """Return one anchor."""

    def read() -> Anchor | None:
        key = runtime.store.collection(collection).key
        return runtime.store.by_id(key, [anchor_id]).get(anchor_id)

    anchor = await run_in_threadpool(read)
    if anchor is None:
        raise AnchorNotFound(collection, anchor_id)
    return anchor_out(anchor)


@router.delete("/anchors/{anchor_id}", status_code=204)
async def delete_anchor(
    collection: CollectionName, anchor_id: AnchorIdInPath, runtime: ReadyRuntime
) -> Response:
    """Delete one anchor."""

    def command(writing: Writing) -> bool:
        key = writing.rows.collection(collection).key
        change = writing.rows.delete(key, anchor_id)
        if change is None:
            return False
        writing.record(key, [change])
        return True

    if not await write(runtime, command):
        raise AnchorNotFound(collection, anchor_id)
    return Response(status_code=204)


@router.get("/anchors", response_model=AnchorsOut)
async def list_anchors(
    collection: CollectionName,
    runtime: ReadyRuntime,
    label: Annotated[str | None, Query(min_length=1, max_length=LABEL_LIMIT)] = None,
    cursor: Annotated[str | None, Query(max_length=512)] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT)] = 100,
) -> Response:
    """Return a page of anchors, in the order of their ids."""
    after = None if cursor is None else read_cursor(cursor)

    def read() -> str:
        key = runtime.store.collection(collection).key
        anchors = runtime.store.page(key, label=label, after=after, limit=limit + 1)
        page = anchors[:limit]
        following = write_cursor(page[-1].id) if len(anchors) > limit else None
        shown = AnchorsOut(anchors=[anchor_out(one) for one in page], next_cursor=following)
        # Down to the bytes here: a page of the longest texts would hold up the event loop.
        return shown.model_dump_json()

    return Response(await run_in_threadpool(read), media_type="application/json")


@router.get(
    "/anchors:export",
    response_class=ExportResponse,
    responses=ndjson("All anchors of one moment, one JSON object a line."),
)
async def export_anchors(collection: CollectionName, runtime: ReadyRuntime) -> StreamingResponse:
    """Stream all anchors of one moment as NDJSON."""
    key = (await known_collection(runtime, collection)).key
    return export_response(runtime.exports, lambda: runtime.store.export(key), _line)


def _line(anchor: Anchor) -> str:
    return anchor_out(anchor).model_dump_json() + "\n"
