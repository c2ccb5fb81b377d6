"""Has this been asked before?"""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter

from app.api.dependencies import CollectionName, ReadyRuntime
from app.api.schemas import (
    DuplicatesBatchIn,
    DuplicatesBatchOut,
    DuplicatesIn,
    DuplicatesOut,
    match_out,
)
from app.usecases.lookup import Answer, Asked

router = APIRouter(prefix="/v1/collections/{collection}", tags=["duplicates"])


@router.post("/duplicates")
async def find_duplicates(
    collection: CollectionName, body: DuplicatesIn, runtime: ReadyRuntime
) -> DuplicatesOut:
    """Return likely duplicates of one question."""
    asked = Asked(body.question, body.limit, body.min_similarity, body.where())
    return _answer_out(await runtime.workers.run(runtime.lookup, collection, asked))


@router.post("/duplicates:batch")
async def find_duplicates_of_many(
    collection: CollectionName, body: DuplicatesBatchIn, runtime: ReadyRuntime
) -> DuplicatesBatchOut:
    """Return likely duplicates of each of up to 256 questions, in order."""
    where = body.where()
    asked = [Asked(text, body.limit, body.min_similarity, where) for text in body.questions]
    answers = await runtime.workers.map_bulk(partial(runtime.lookup, collection), asked, len(asked))
    return DuplicatesBatchOut(results=[_answer_out(answer) for answer in answers])


def _answer_out(answer: Answer) -> DuplicatesOut:
    return DuplicatesOut(
        question=answer.question,
        verdict=answer.verdict,
        label=answer.label,
        matches=[match_out(match) for match in answer.matches],
        encoder=answer.encoder,
        truncated=answer.truncated,
    )
