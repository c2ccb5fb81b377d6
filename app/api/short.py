"""A short way in for what is asked most."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from app.api.dependencies import ready_runtime
from app.api.schemas import COLLECTION_PATTERN

# Reading a larger body takes so long that the general way no longer counts.
LARGEST = 64 * 1024

_COLLECTION = re.compile(COLLECTION_PATTERN)
# The one header that an endpoint may ask for: whoever sends it goes the general way.
_HEADER = "idempotency-key"

_Body = TypeVar("_Body", bound=BaseModel)


class ShortRoute(APIRoute):
    """Answers a well-formed request without FastAPI's general way from a request to arguments.

    For an endpoint of a collection's name, a body and the runtime. The general way takes as long
    as a tenth of encoding a question, with the interpreter lock held. Whatever is not well formed
    goes it all the same, to be told what is wrong.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        """Take what an `APIRoute` takes.

        Raises TypeError where the endpoint asks for more: it would be passed over.
        """
        super().__init__(path, endpoint, **options)
        self._require_simple()
        self._model: type[BaseModel] = get_type_hints(endpoint)["body"]

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        request = Request(scope, receive, send)
        if scope["method"] not in (self.methods or ()) or not _common(request):
            await super().handle(scope, receive, send)
            return
        try:
            content = await request.body()
        except ClientDisconnect:
            raise HTTPException(400, "the connection ended within the body") from None
        body = _well_formed(content, self._model)
        if body is None:
            await super().handle(scope, _again(content, receive), send)
            return
        runtime = await ready_runtime(request)
        response: Response = await self.endpoint(request.path_params["collection"], body, runtime)
        await response(scope, receive, send)

    def _require_simple(self) -> None:
        asks = self.dependant
        simple = (
            [param.alias for param in asks.path_params] == ["collection"]
            and [param.name for param in asks.body_params] == ["body"]
            and [each.call for each in asks.dependencies] == [ready_runtime]
            and all(param.alias.lower() == _HEADER for param in asks.header_params)
            and not asks.query_params
            and not asks.cookie_params
        )
        if not simple:
            raise TypeError(f"{self.path}: the short way knows a collection, a body, the runtime")


def _again(content: bytes, receive: Receive) -> Receive:
    """Return a way to receive a body that was received already, and then what comes after it."""
    left: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

    async def receive_again() -> Message:
        return left.pop() if left else await receive()

    return receive_again


def _common(request: Request) -> bool:
    """Return whether nothing about a request, but perhaps its body, needs the general way."""
    headers = request.headers
    length = headers.get("content-length", "")
    return (
        headers.get("content-type") == "application/json"
        and _HEADER not in headers
        and length.isdecimal()
        and int(length) <= LARGEST
        and _COLLECTION.fullmatch(request.path_params["collection"]) is not None
    )


def _well_formed(content: bytes, model: type[_Body]) -> _Body | None:
    """Return a body, None where anything is wrong with it."""
    try:
        # As FastAPI does it, in two steps: a model reads JSON itself by other rules.
        return model.model_validate(from_json(content))
    except ValueError:  # no JSON, or not what the model takes
        return None
