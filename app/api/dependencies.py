"""What routes ask for in their signatures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

import numpy as np
from fastapi import Depends, Path, Request
from starlette.concurrency import run_in_threadpool

from app.api.schemas import ANCHOR_ID_PATTERN, COLLECTION_PATTERN
from app.domain.anchors import Collection, Draft, EncodedDraft, encoded_draft
from app.domain.ports import Encoded
from app.domain.scoring import KEPT_ANALYSES
from app.runtime import CHUNK, Runtime
from app.usecases.writer import Writing
from app.workers import INTERACTIVE_TEXTS

_T = TypeVar("_T")


async def _open_runtime(request: Request) -> Runtime:
    runtime: Runtime = request.state.runtime
    return runtime


async def ready_runtime(request: Request) -> Runtime:
    """Return the runtime. Raises NotReady."""
    runtime: Runtime = request.state.runtime
    runtime.readiness.require()
    return runtime


AnyRuntime = Annotated[Runtime, Depends(_open_runtime)]
ReadyRuntime = Annotated[Runtime, Depends(ready_runtime)]
CollectionName = Annotated[str, Path(pattern=COLLECTION_PATTERN)]
AnchorIdInPath = Annotated[str, Path(pattern=ANCHOR_ID_PATTERN)]


async def known_collection(runtime: Runtime, name: str) -> Collection:
    """Return a collection. Raises CollectionNotFound.

    Most often it is known; a thread to ask for it takes longer than all else that the event loop
    does for a request.
    """
    known = runtime.store.known(name)
    if known is None:
        known = await run_in_threadpool(runtime.store.collection, name)
    return known


async def encode(runtime: Runtime, texts: Sequence[str], *, prepare: bool = False) -> Encoded:
    """Return `texts` as vectors, made by the workers. Raises Overloaded or NotReady.

    prepare: whether to keep what judging them needs; for anchors that lookups find soon.
    """
    if len(texts) <= INTERACTIVE_TEXTS:
        each = runtime.prepare_each if prepare else runtime.encoder.encode_each
        return await runtime.workers.ask(each, texts, len(texts))
    part = runtime.prepare if prepare else runtime.encoder.encode
    # Texts of like length together: an encoder that batches by length finds full batches.
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    parts = [
        [texts[place] for place in order[start : start + CHUNK]]
        for start in range(0, len(order), CHUNK)
    ]
    encoded = await runtime.workers.map_bulk(part, parts, len(texts))
    back = np.argsort(order)
    tokens = [count for part in encoded for count in part.tokens]
    cut = [flag for part in encoded for flag in part.truncated]
    return Encoded(
        np.concatenate([part.vectors for part in encoded])[back],
        tuple(tokens[place] for place in back),
        tuple(cut[place] for place in back),
    )


async def encode_drafts(
    runtime: Runtime, collection: int, drafts: Sequence[Draft]
) -> list[EncodedDraft]:
    """Return drafts, to be stored in a collection, with their vectors."""
    # Of a larger collection what is kept is gone before a lookup finds it.
    found_soon = len(runtime.index.view(collection)) < KEPT_ANALYSES
    texts = [draft.text for draft in drafts]
    encoded = await encode(runtime, texts, prepare=found_soon)
    return [
        encoded_draft(draft, vector, truncated)
        for draft, vector, truncated in zip(drafts, encoded.vectors, encoded.truncated, strict=True)
    ]


async def write(runtime: Runtime, command: Callable[[Writing], _T]) -> _T:
    """Return a command's answer once it is durable and visible."""
    return await asyncio.wrap_future(runtime.writer.submit(command))
