"""Collections: what they want of a verdict, and what they hold."""

from __future__ import annotations

from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool

from app.api.dependencies import CollectionName, ReadyRuntime, write
from app.api.schemas import (
    CollectionOut,
    CollectionsOut,
    CutOffsOut,
    FeedbackCountsOut,
    SettingsIn,
)
from app.domain.anchors import DEFAULT_COLLECTION, Collection
from app.domain.errors import CollectionProtected
from app.runtime import Runtime
from app.usecases.writer import Writing

router = APIRouter(prefix="/v1/collections", tags=["collections"])


@router.get("")
async def list_collections(runtime: ReadyRuntime) -> CollectionsOut:
    """Return every collection with its settings and counts."""

    def read() -> list[CollectionOut]:
        return [_collection_out(runtime, found) for found in runtime.store.collections()]

    return CollectionsOut(collections=await run_in_threadpool(read))


@router.get("/{collection}")
async def get_collection(collection: CollectionName, runtime: ReadyRuntime) -> CollectionOut:
    """Return one collection with its settings and counts."""

    def read() -> CollectionOut:
        return _collection_out(runtime, runtime.store.collection(collection))

    return await run_in_threadpool(read)


@router.put(
    "/{collection}",
    response_model=CollectionOut,
    responses={201: {"model": CollectionOut, "description": "The collection was created."}},
)
async def put_collection(
    collection: CollectionName,
    runtime: ReadyRuntime,
    response: Response,
    body: SettingsIn | None = None,
) -> CollectionOut:
    """Create a collection, or replace its settings."""
    settings = (body or SettingsIn()).to_settings()
    runtime.judge.cut_offs(settings)  # refuses explicit cut-offs that contradict each other

    def command(writing: Writing) -> tuple[bool, Collection]:
        created = writing.rows.put_collection(collection, settings)
        return created, writing.rows.collection(collection)

    created, stored = await write(runtime, command)
    response.status_code = 201 if created else 200
    # Counted out here: the writer has better to do.
    return await run_in_threadpool(_collection_out, runtime, stored)


@router.delete("/{collection}", status_code=204)
async def delete_collection(collection: CollectionName, runtime: ReadyRuntime) -> Response:
    """Delete a collection and all its anchors."""
    if collection == DEFAULT_COLLECTION:
        raise CollectionProtected(collection)

    def command(writing: Writing) -> None:
        key = writing.rows.collection(collection).key
        writing.rows.delete_collection(key)
        writing.forget(key)

    await write(runtime, command)
    return Response(status_code=204)


def _collection_out(runtime: Runtime, collection: Collection) -> CollectionOut:
    anchors, labels = runtime.store.count(collection.key)
    feedback = runtime.store.feedback.count(collection.key)
    cut_offs = runtime.judge.standard_of(collection).cut_offs
    settings = collection.settings
    return CollectionOut(
        name=collection.name,
        settings=SettingsIn(
            duplicate_at=settings.duplicate_at,
            review_at=settings.review_at,
            duplicate_precision=settings.duplicate_precision,
            review_recall=settings.review_recall,
            base_rate=settings.base_rate,
        ),
        cut_offs=CutOffsOut.of(cut_offs),
        anchors=anchors,
        labels=labels,
        feedback=FeedbackCountsOut(
            duplicate=feedback.duplicate,
            distinct=feedback.distinct,
            conflicts=feedback.conflicts,
        ),
        created_at=collection.created_at,
        updated_at=collection.updated_at,
    )
