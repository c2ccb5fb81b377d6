"""Exports: lines of JSON of one moment, read from the database as fast as the client takes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress
from typing import Any, TypeVar, cast

from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Message, Receive, Scope, Send

from app.workers import Slots

UNREAD_SECONDS = 30.0

_T = TypeVar("_T")


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


def export_response(
    slots: Slots,
    batches: Callable[[], Generator[list[_T], None, None]],
    to_line: Callable[[_T], str],
) -> ExportResponse:
    """Return a response of the lines of all batches.

    batches: opens the export. to_line: writes one item, its line end included.
    """
    response = ExportResponse(_lines(batches, to_line), media_type="application/x-ndjson")
    response.slots = slots
    return response


def ndjson(description: str) -> dict[int | str, dict[str, Any]]:
    """Return what a route says of its stream in the OpenAPI document."""
    content = {"application/x-ndjson": {"schema": {"type": "string"}}}
    return {200: {"description": description, "content": content}}


async def _lines(
    open_batches: Callable[[], Generator[list[_T], None, None]], to_line: Callable[[_T], str]
) -> AsyncGenerator[str, None]:
    """Yield the lines of an export, and let go of its database connection however it ends."""
    batches = open_batches()
    try:
        while True:
            part = await run_in_threadpool(_some_lines, batches, to_line)
            if not part:
                return
            yield part
    finally:
        # A stopping server may cancel this while a thread still reads the next batch.
        with suppress(ValueError):
            batches.close()


def _some_lines(batches: Generator[list[_T], None, None], to_line: Callable[[_T], str]) -> str:
    """Return the lines of the next batch, an empty text after the last one."""
    return "".join(map(to_line, next(batches, [])))
