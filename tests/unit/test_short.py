"""The short way from a request to an endpoint, and what goes the general way instead."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, field_validator
from starlette.types import ASGIApp

from app.api import errors
from app.api.dependencies import CollectionName, ReadyRuntime
from app.api.routes import anchors, duplicates
from app.api.short import LARGEST, ShortRoute
from app.domain.errors import NotReady

PATH = "/v1/collections/{collection}/things"
READ: list[str] = []


class Body(BaseModel):
    """A body that notes each time it is read: once on the short way, again on the general one."""

    text: str

    @field_validator("text")
    @classmethod
    def note(cls, text: str) -> str:
        """Note it."""
        READ.append(text)
        if text == "bad":
            raise ValueError("no")
        return text


class Readiness:
    """Whether requests can be answered."""

    ready = True

    def require(self) -> None:
        """Raise NotReady unless they can."""
        if not self.ready:
            raise NotReady("not ready: starting", retry_after=2)


class Runtime:
    """As much of one as the short way looks at."""

    def __init__(self) -> None:
        self.readiness = Readiness()


async def endpoint(
    collection: CollectionName,
    body: Body,
    runtime: ReadyRuntime,
    key: Annotated[str | None, Header(alias="Idempotency-Key")] = None,
) -> Response:
    """Answer with what came."""
    assert runtime is not None
    return Response(f"{collection} {body.text} {key}")


def application(runtime: Runtime) -> ASGIApp:
    """Return an application with the endpoint alone."""
    app = FastAPI()
    errors.install(app)
    app.router.add_api_route(PATH, endpoint, methods=["POST"], route_class_override=ShortRoute)

    async def with_state(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": {"runtime": runtime}}, receive, send)

    return with_state


def post(runtime: Runtime, content: bytes, **headers: str) -> httpx.Response:
    """Return the answer to a POST of JSON."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(application(runtime))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            kind = {"Content-Type": "application/json"}
            url = PATH.format(collection="default")
            return await http.post(url, content=content, headers=kind | headers)

    READ.clear()
    return asyncio.run(send())


@pytest.fixture
def general(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what has gone FastAPI's general way, by its path."""
    gone: list[str] = []
    handler_of = APIRoute.get_route_handler

    def get_route_handler(route: APIRoute) -> Any:
        usual = handler_of(route)

        async def noted(request: Request) -> Response:
            gone.append(request.url.path)
            return await usual(request)

        return noted

    monkeypatch.setattr(APIRoute, "get_route_handler", get_route_handler)
    return gone


def test_what_is_well_formed_is_read_once(general: list[str]) -> None:
    """And answered by the same endpoint, what it could ask for besides by default."""
    answer = post(Runtime(), b'{"text": "one"}')
    assert (answer.status_code, answer.text) == (200, "default one None")
    assert READ == ["one"]
    assert general == []
    post(Runtime(), b'{"text": 1}')
    assert len(general) == 1


def test_what_is_wrong_or_uncommon_goes_the_general_way(general: list[str]) -> None:
    """To be told what is wrong, or because only that way looks at a header."""
    assert post(Runtime(), b'{"text": "bad"}').status_code == 422
    assert READ == ["bad", "bad"]
    keyed = {"Idempotency-Key": "k"}
    assert post(Runtime(), b'{"text": "one"}', **keyed).text == "default one k"
    large = json.dumps({"text": "x" * LARGEST}).encode()
    assert post(Runtime(), large).status_code == 200
    told = {"Content-Type": "application/json; charset=utf-8"}
    assert post(Runtime(), b'{"text": "one"}', **told).text == "default one None"
    # In parts whose number nobody knows before.
    parts = {"Transfer-Encoding": "chunked", "Content-Length": ""}
    assert post(Runtime(), b'{"text": "one"}', **parts).text == "default one None"
    assert len(READ) == 1
    assert len(general) == 5


def test_nothing_is_answered_before_the_service_is_ready() -> None:
    """503 with the time to come back, as on the general way."""
    starting = Runtime()
    starting.readiness.ready = False
    answer = post(starting, b'{"text": "one"}')
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


def test_another_method_is_told_which_there_is() -> None:
    """405 with what is allowed, as on the general way; its body is nobody's."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(application(Runtime()))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            return await http.put(PATH.format(collection="default"), json={"text": "one"})

    READ.clear()
    answer = asyncio.run(send())
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert READ == []


@pytest.mark.parametrize("announced", [100, LARGEST + 1])
def test_a_client_who_leaves_within_a_body_is_no_error_of_ours(announced: int) -> None:
    """400 for whom it may concern, and nothing for the log; on either way."""
    inbox = [
        {"type": "http.request", "body": b'{"te', "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return inbox.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    path = PATH.format(collection="default")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % announced)],
    }

    async def run() -> None:
        await application(Runtime())(scope, receive, send)

    asyncio.run(run())
    assert sent[0]["status"] == 400


async def _other(_request: Request) -> None:
    return None


async def with_a_query(
    collection: CollectionName, body: Body, runtime: ReadyRuntime, more: Annotated[int, Query()]
) -> Response:
    """Ask for a query parameter."""
    return await endpoint(collection, body, runtime, str(more))


async def with_a_check(
    collection: CollectionName,
    body: Body,
    runtime: ReadyRuntime,
    _checked: Annotated[None, Depends(_other)],
) -> Response:
    """Ask for something to be looked at first."""
    return await endpoint(collection, body, runtime)


@pytest.mark.parametrize("asks", [with_a_query, with_a_check])
def test_an_endpoint_that_asks_for_more_is_refused(asks: Any) -> None:
    """It would be passed over for whatever is well formed."""
    with pytest.raises(TypeError, match="things: the short way knows"):
        FastAPI().router.add_api_route(
            PATH, asks, methods=["POST"], route_class_override=ShortRoute
        )


def test_lookups_and_registering_have_the_short_way() -> None:
    """One route of each."""
    short = [
        route.path.rsplit("/", 1)[1]
        for router in (duplicates.router, anchors.router)
        for route in router.routes
        if isinstance(route, ShortRoute)
    ]
    assert short == ["duplicates", "anchors"]
