"""`create_app`: the only wiring of the service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from app import __version__
from app.api import errors, middleware
from app.api.routes import ROUTERS
from app.runtime import Runtime, open_runtime
from app.settings import Settings

DESCRIPTION = """Has this been asked before? Register anchors one-shot, then look up questions:
each match comes with a calibrated probability and a verdict."""


class State(TypedDict):
    """What lives as long as the application, and requests reach through `request.state`."""

    runtime: Runtime


def create_app(settings: Settings, runtime: Runtime | None = None) -> FastAPI:
    """Return the application.

    runtime: already open resources, which the application closes; opened from `settings` when it
    starts, if None. Raises SettingsError where the key file cannot be read.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[State]:
        opened = runtime
        if opened is None:
            opened = await run_in_threadpool(open_runtime, settings)
        opened.bring_up()
        try:
            yield {"runtime": opened}
        finally:
            await run_in_threadpool(opened.close)

    app = FastAPI(
        title="Deja",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    errors.install(app)
    # As they are, with their whole paths: an included router looks for a request's route twice. And
    # before those of the documentation: routes are tried in turn.
    app.router.routes[:0] = [route for router in ROUTERS for route in router.routes]
    # The last one added is the outermost.
    app.add_middleware(middleware.DropAbandoned)
    app.add_middleware(middleware.LimitBody, limit=settings.max_body_mib * 2**20)
    key = settings.key()
    if key is not None:
        app.add_middleware(middleware.RequireKey, key=key)
    app.add_middleware(middleware.RequestId)
    return app
