"""What tests of several kinds share."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from app.main import create_app
from app.settings import Settings

Serve = Callable[..., AbstractContextManager[httpx.Client]]

# How long an example takes says how busy the machine is, and nothing of what is tested.
hypothesis.settings.register_profile("without deadlines", deadline=None)
hypothesis.settings.load_profile("without deadlines")

# Whoever runs the tests in the background (`make test &`, `nohup`, some CI) has the shell ignore
# Ctrl-C for all they start, and tests that press it would wait for nothing.
signal.signal(signal.SIGINT, signal.default_int_handler)


class PortalTransport(httpx.BaseTransport):
    """Sends requests to an ASGI application that runs in an event loop of another thread."""

    def __init__(self, portal: BlockingPortal, app: Any, state: dict[str, Any]) -> None:
        self._portal = portal

        async def with_state(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(state)}, receive, send)

        self._inner = httpx.ASGITransport(with_state)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Return the application's response, read whole."""

        async def send() -> httpx.Response:
            response = await self._inner.handle_async_request(
                httpx.Request(request.method, request.url, headers=request.headers, content=body)
            )
            content = await response.aread()
            return httpx.Response(response.status_code, headers=response.headers, content=content)

        body = request.read()
        return self._portal.call(send)


@contextmanager
def serving(folder: Path, *, wait: bool = True, **settings: Any) -> Iterator[httpx.Client]:
    """Yield a client of the real application, which runs on its own data folder."""
    app = create_app(Settings(data_dir=folder, **{"threads": 2, **settings}))
    with start_blocking_portal() as portal:
        lifespan = portal.wrap_async_context_manager(app.router.lifespan_context(app))
        with lifespan as state:
            transport = PortalTransport(portal, app, dict(state or {}))
            with httpx.Client(transport=transport, base_url="http://deja") as client:
                client.headers["Content-Type"] = "application/json"
                while wait and client.get("/readyz").status_code != 200:
                    portal.call(asyncio.sleep, 0.01)
                yield client


@pytest.fixture(scope="session")
def serve() -> Serve:
    """Return `serving`, for tests that start and stop the application themselves."""
    return serving


@pytest.fixture(scope="session")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Yield one application for all tests that keep to a collection of their own."""
    with serving(tmp_path_factory.mktemp("data")) as client:
        yield client


class CollectionClient:
    """Requests to one collection of a service."""

    def __init__(self, http: httpx.Client, name: str) -> None:
        self.http = http
        self.name = name
        self.url = f"/v1/collections/{name}"

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        """Return the response to a POST below the collection."""
        return self.http.post(f"{self.url}/{path}", json=body, **options)

    def register(self, *anchors: dict[str, Any] | str, **body: Any) -> Any:
        """Register anchors; return the results."""
        listed = [{"text": a} if isinstance(a, str) else a for a in anchors]
        response = self.post("anchors", {"anchors": listed, **body})
        assert response.status_code in (200, 201), response.text
        return response.json()["results"]

    def ask(self, question: str, **body: Any) -> Any:
        """Return the answer to a question."""
        response = self.post("duplicates", {"question": question, **body})
        assert response.status_code == 200, response.text
        return response.json()

    def ids(self, question: str, **body: Any) -> list[str]:
        """Return the ids of the matches of a question."""
        return [match["id"] for match in self.ask(question, **body)["matches"]]


@pytest.fixture
def collection(shared_service: httpx.Client, request: pytest.FixtureRequest) -> CollectionClient:
    """Return a new collection of the shared service."""
    digest = abs(hash(request.node.nodeid)) % 10**12
    made = CollectionClient(shared_service, f"t{digest}")
    assert shared_service.put(made.url, json={}).status_code == 201
    return made
