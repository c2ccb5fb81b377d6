"""Registering anchors, and reading them back."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import suppress
from typing import Annotated, cast

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Message, Receive, Scope, Send

from app.api.dependencies import (
    AnchorIdInPath,
    CollectionName,
    ReadyRuntime,
    encode_drafts,
    write,
)
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
from app.domain.anchors import Anchor, Draft, Registered, RegisterStatus
from app.domain.errors import AnchorNotFound, InvalidField
from app.runtime import Runtime
from app.usecases.register import Idempotency
from app.usecases.writer import Writing
from app.workers import Slots

UNREAD_SECONDS = 30.0

router = APIRouter(prefix="/v1/collections/{collection}", tags=["anchors"])

IdempotencyKey = Annotated[
    str | None,
    Header(alias="Idempotency-Key", min_length=1, max_length=255, pattern=r"^[!-~]+$"),
]


@router.post(
    "/anchors",
    response_model=RegisterOut,
    responses={201: {"model": RegisterOut, "description": "At least one anchor was created."}},
)
async def register(
    collection: CollectionName,
    body: RegisterIn,
    runtime: ReadyRuntime,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Register 1 to 1,000 anchors, one-shot: all of them or none."""
    await run_in_threadpool(runtime.store.collection, collection)  # before the work of encoding
    drafts = await encode_drafts(runtime, [anchor.to_draft() for anchor in body.anchors])
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
    await run_in_threadpool(runtime.store.collection, collection)
    draft = Draft(body.text, anchor_id, body.label, body.metadata)
    drafts = await encode_drafts(runtime, [draft])

    def command(writing: Writing) -> tuple[RegisterStatus, Anchor]:
        outcome = runtime.register(writing, collection, drafts)
        assert not isinstance(outcome, str)
        key = writing.rows.collection(collection).key
        return outcome[0].status, writing.rows.by_id(key, [anchor_id])[anchor_id]

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
    after = None if cursor is None else _read_cursor(cursor)

    def read() -> str:
        key = runtime.store.collection(collection).key
        anchors = runtime.store.page(key, label=label, after=after, limit=limit + 1)
        page = anchors[:limit]
        following = _write_cursor(page[-1].id) if len(anchors) > limit else None
        shown = AnchorsOut(anchors=[anchor_out(one) for one in page], next_cursor=following)
        # Down to the bytes here: a page of the longest texts would hold up the event loop.
        return shown.model_dump_json()

    return Response(await run_in_threadpool(read), media_type="application/json")


def _write_cursor(anchor_id: str) -> str:
    return base64.urlsafe_b64encode(anchor_id.encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> str:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise InvalidField(
            ("query", "cursor"), "is not a cursor; take next_cursor of the page before"
        ) from None


class ExportResponse(StreamingResponse):
    """A stream that ends with its client: an export holds a moment of the database open."""

    slots: Slots

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, unless the client leaves or reads nothing for `UNREAD_SECONDS`.

        Raises Overloaded, before anything is sent, where too many run already.
        """

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(UNREAD_SECONDS):
                await send(message)

        try:
            with self.slots.one():
                await super().__call__(scope, receive, send_in_time)
        finally:
            await cast("AsyncGenerator[str, None]", self.body_iterator).aclose()


@router.get(
    "/anchors:export",
    response_class=ExportResponse,
    responses={
        200: {
            "description": "All anchors of one moment, one JSON object a line.",
            "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
        }
    },
)
async def export_anchors(collection: CollectionName, runtime: ReadyRuntime) -> StreamingResponse:
    """Stream all anchors of one moment as NDJSON."""
    key = (await run_in_threadpool(runtime.store.collection, collection)).key
    response = ExportResponse(_lines(runtime, key), media_type="application/x-ndjson")
    response.slots = runtime.exports
    return response


async def _lines(runtime: Runtime, collection: int) -> AsyncGenerator[str, None]:
    """Yield the lines of an export, and let go of its database connection however it ends."""
    batches = runtime.store.export(collection)
    try:
        while True:
            part = await run_in_threadpool(_some_lines, batches)
            if not part:
                return
            yield part
    finally:
        # A stopping server may cancel this while a thread still reads the next batch.
        with suppress(ValueError):
            batches.close()


def _some_lines(batches: Generator[list[Anchor], None, None]) -> str:
    """Return the lines of the next batch, an empty text after the last one."""
    return "".join(anchor_out(anchor).model_dump_json() + "\n" for anchor in next(batches, []))
