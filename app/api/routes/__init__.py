"""Routes: parse, call one use case, shape the answer."""

from __future__ import annotations

from fastapi import APIRouter

from app.api.routes import (
    anchors,
    calibration,
    collections,
    compare,
    duplicates,
    embeddings,
    feedback,
    jobs,
    labels,
    service,
)

ROUTERS: tuple[APIRouter, ...] = (
    duplicates.router,
    anchors.router,
    collections.router,
    labels.router,
    feedback.router,
    calibration.router,
    compare.router,
    jobs.router,
    embeddings.router,
    service.router,
)
