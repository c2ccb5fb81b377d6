"""Routes: parse, call one use case, shape the answer."""

from __future__ import annotations

from fastapi import APIRouter

from app.api.routes import (
    anchors,
    collections,
    compare,
    duplicates,
    embeddings,
    feedback,
    service,
)

ROUTERS: tuple[APIRouter, ...] = (
    duplicates.router,
    anchors.router,
    collections.router,
    feedback.router,
    compare.router,
    embeddings.router,
    service.router,
)
