from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from app.api.middleware import DropAbandoned, LimitBody, RequestId

Scope = dict[str, Any]
SCOPE: Scope = {"type": "http", "method": "POST", "path": "/x", "headers": []}


class Exchange:
    """One request over ASGI, by hand: what is received is given, what is sent is kept."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        for message in messages:
            self._inbox.put_nowait(message)
        self.sent: list[MutableMapping[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        """Return the next message, waiting for one."""
        return await self._inbox.get()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Keep a message."""
        self.sent.append(message)

    def leave(self) -> None:
        """Close the connection from the client's side."""
        self._inbox.put_nowait({"type": "http.disconnect"})

    @property
    def status(self) -> int:
        """Return the status sent."""
        return int(self.sent[0]["status"])

    @property
    def body(self) -> Any:
        """Return the JSON sent."""
        return json.loads(b"".join(message.get("body", b"") for message in self.sent[1:]))


def body(content: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": content, "more_body": more}


def test_an_unforeseen_error_is_a_problem_that_names_its_request() -> None:
    """500 with the id under which the log has it, and nothing of the error itself."""

    async def broken(_scope: Any, _receive: Any, _send: Any) -> None:
        raise KeyError("secret")

    async def run() -> Exchange:
        exchange = Exchange(body(b""))
        scope = {**SCOPE, "headers": [(b"x-request-id", b"abc")]}
        await RequestId(broken)(scope, exchange.receive, exchange.send)
        return exchange

    exchange = asyncio.run(run())
    assert exchange.status == 500
    assert (b"x-request-id", b"abc") in exchange.sent[0]["headers"]
    assert "abc" in exchange.body["detail"]
    assert "secret" not in json.dumps(exchange.body)


def test_a_body_without_a_length_is_counted_as_it_comes() -> None:
    """Reading stops at the limit with 413."""
    read: list[int] = []

    async def reader(_scope: Any, receive: Callable[[], Any], _send: Any) -> None:
        while True:
            message = await receive()
            read.append(len(message["body"]))
            if not message["more_body"]:
                return

    async def run() -> None:
        exchange = Exchange(body(b"x" * 6, more=True), body(b"x" * 6, more=True))
        await LimitBody(reader, limit=10)(SCOPE, exchange.receive, exchange.send)

    with pytest.raises(Exception, match="larger than 10 bytes") as caught:
        asyncio.run(run())
    assert getattr(caught.value, "status_code", None) == 413
    assert read == [6]


def test_bodies_together_are_bounded_and_give_their_room_back() -> None:
    """A request that would pass the bound is told to come back; ended ones no longer count."""

    async def reader(_scope: Any, receive: Callable[[], Any], _send: Any) -> None:
        while (await receive())["more_body"]:
            pass

    async def run() -> None:
        layer = LimitBody(reader, limit=10, together=14)
        waiting = Exchange(body(b"x" * 8, more=True))
        first = asyncio.create_task(layer(SCOPE, waiting.receive, waiting.send))
        await asyncio.sleep(0)
        refused = Exchange(body(b"x" * 8))
        with pytest.raises(HTTPException) as caught:
            await layer(SCOPE, refused.receive, refused.send)
        assert caught.value.status_code == 503
        small = Exchange(body(b"x" * 6))
        await layer(SCOPE, small.receive, small.send)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        again = Exchange(body(b"x" * 10))
        await layer(SCOPE, again.receive, again.send)

    asyncio.run(run())


def test_a_request_whose_client_leaves_is_cancelled() -> None:
    """What it was waiting for is told so; the server sees a request that simply ended."""
    cancelled = asyncio.Event()

    async def slow(_scope: Any, receive: Callable[[], Any], _send: Any) -> None:
        await receive()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def run() -> None:
        exchange = Exchange(body(b"{}"))
        handling = asyncio.create_task(DropAbandoned(slow)(SCOPE, exchange.receive, exchange.send))
        await asyncio.sleep(0)
        exchange.leave()
        await asyncio.wait_for(handling, 5)
        assert cancelled.is_set()
        assert not handling.cancelled()

    asyncio.run(run())


def test_a_request_that_is_answered_leaves_no_watcher_behind() -> None:
    """A connection that stays open costs nothing."""

    async def quick(_scope: Any, receive: Callable[[], Any], send: Callable[..., Any]) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def run() -> None:
        exchange = Exchange(body(b"{}"))
        await DropAbandoned(quick)(SCOPE, exchange.receive, exchange.send)
        await asyncio.sleep(0)
        assert exchange.status == 200
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


def test_a_cancellation_from_elsewhere_is_passed_on() -> None:
    """A stopping server must still be able to cancel a request."""

    async def slow(_scope: Any, receive: Callable[[], Any], _send: Any) -> None:
        await receive()
        await asyncio.sleep(60)

    async def run() -> None:
        exchange = Exchange(body(b"{}"))
        handling = asyncio.create_task(DropAbandoned(slow)(SCOPE, exchange.receive, exchange.send))
        await asyncio.sleep(0)
        handling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await handling

    asyncio.run(run())
