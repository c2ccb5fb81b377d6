"""What every request passes through, from the outside in.

Plain ASGI: each layer adds about a microsecond, where a layer of Starlette's `BaseHTTPMiddleware`
adds a task and a stream.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import problem

log = logging.getLogger("deja.api")

# They tell nothing but a status, and those who probe have no key.
OPEN_PATHS = frozenset({"/livez", "/readyz"})

# Bodies of the largest size that may be held at once.
BODIES_TOGETHER = 16
# A body that is announced and does not come holds its connection no longer than this.
BODY_SECONDS = 30.0

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class RequestId:
    """Gives every response its `X-Request-ID`, and every unforeseen error a 500 that names it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            log.exception("request %s: %s %s failed", request_id, scope["method"], scope["path"])
            if started:
                raise
            detail = f"an unforeseen error; the log has it under request {request_id}"
            answer = problem(scope["path"], 500, "internal-error", "Internal error", detail)
            await answer(scope, receive, send_with_id)


class RequireKey:
    """Lets through only who carries the admin key, where there is one."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._digest = hashlib.sha256(key.encode()).digest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it with 401."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
            digest = hashlib.sha256(given.strip().encode()).digest()
            if scheme.lower() != "bearer" or not hmac.compare_digest(digest, self._digest):
                answer = problem(
                    scope["path"],
                    401,
                    "unauthorized",
                    "Unauthorized",
                    "send the service's key as `Authorization: Bearer KEY`",
                    headers={"WWW-Authenticate": "Bearer"},
                )
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


class LimitBody:
    """Refuses bodies over a limit with 413, announced or not, and too many at once with 503.

    limit: bytes of one body. together: bytes of all bodies of requests under way.
    """

    def __init__(self, app: ASGIApp, limit: int, together: int | None = None) -> None:
        self._app = app
        self._limit = limit
        self._together = together or BODIES_TOGETHER * limit
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it with 413."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        detail = f"the body is larger than {self._limit} bytes; send less at a time"
        length = Headers(scope=scope).get("content-length", "")
        if length.isdigit() and int(length) > self._limit:
            answer = problem(
                scope["path"],
                413,
                "body-too-large",
                "Body too large",
                detail,
                headers={"Connection": "close"},
            )
            await answer(scope, receive, send)
            return
        read = 0
        complete = False

        async def receive_counted() -> Message:
            nonlocal read, complete
            if complete:
                return await receive()
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    message = await receive()
            except TimeoutError:
                late = f"the body did not go on for {BODY_SECONDS:.0f} s"
                raise HTTPException(408, late, {"Connection": "close"}) from None
            if message["type"] == "http.request":
                size = len(message.get("body", b""))
                read += size
                self._held += size
                complete = not message.get("more_body", False)
                if read > self._limit:
                    raise HTTPException(413, detail, {"Connection": "close"})
                if self._held > self._together:
                    much = "too many large requests at once; try again"
                    raise HTTPException(503, much, {"Retry-After": "1"})
            return message

        try:
            await self._app(scope, receive_counted, send)
        finally:
            self._held -= read


class DropAbandoned:
    """Cancels a request whose client has gone, so that nobody works for nobody.

    Only what waits is dropped: a write that has begun is finished.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or stop when nobody waits for the answer."""
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT"):
            await self._app(scope, receive, send)
            return
        handling = asyncio.current_task()
        assert handling is not None
        watcher: asyncio.Task[None] | None = None
        gone = False

        async def watch() -> None:
            nonlocal gone
            while (await receive())["type"] != "http.disconnect":
                pass
            gone = True
            handling.cancel()

        async def receive_then_watch() -> Message:
            nonlocal watcher
            if watcher is not None:
                await watcher
                return {"type": "http.disconnect"}
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                watcher = asyncio.create_task(watch())
            return message

        try:
            await self._app(scope, receive_then_watch, send)
        except asyncio.CancelledError:
            if not gone:
                raise
            handling.uncancel()
        finally:
            if watcher is not None:
                watcher.cancel()
