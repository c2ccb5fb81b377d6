"""Has this been asked before?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Response

from app.api.answers import DuplicatesBatchOut, DuplicatesOut, explanation_out, json_answer
from app.api.dependencies import CollectionName, ReadyRuntime
from app.api.schemas import DuplicatesBatchIn, DuplicatesIn, figure
from app.api.short import ShortRoute
from app.domain.anchors import Match
from app.domain.explanation import Explanation
from app.runtime import CHUNK
from app.usecases.lookup import Answer, Asked, Lookup

router = APIRouter(prefix="/v1/collections/{collection}", tags=["duplicates"])


async def find_duplicates(
    collection: CollectionName, body: DuplicatesIn, runtime: ReadyRuntime
) -> Response:
    """Return likely duplicates of one question."""
    asked = Asked(body.question, body.limit, body.min_similarity, body.where(), body.explain)
    answer = await runtime.workers.ask(runtime.lookup.many, (collection, asked))
    return json_answer(_answer_out(answer))


router.add_api_route(
    "/duplicates",
    find_duplicates,
    methods=["POST"],
    response_model=DuplicatesOut,
    route_class_override=ShortRoute,
)


@router.post("/duplicates:batch", response_model=DuplicatesBatchOut)
async def find_duplicates_of_many(
    collection: CollectionName, body: DuplicatesBatchIn, runtime: ReadyRuntime
) -> Response:
    """Return likely duplicates of each of up to 256 questions, in order."""
    where = body.where()
    asked = [
        (collection, Asked(text, body.limit, body.min_similarity, where, body.explain))
        for text in body.questions
    ]
    parts = [asked[start : start + CHUNK] for start in range(0, len(asked), CHUNK)]
    answer = partial(_answer_all, runtime.lookup)
    answered = await runtime.workers.map_bulk(answer, parts, len(asked))
    return json_answer({"results": [_answer_out(one) for part in answered for one in part]})


def _answer_all(lookup: Lookup, asked: Sequence[tuple[str, Asked]]) -> list[Answer]:
    """Return all answers, or raise the first error."""
    answers = []
    for outcome in lookup.many(asked):
        if isinstance(outcome, Exception):
            raise outcome
        answers.append(outcome)
    return answers


def _answer_out(answer: Answer) -> dict[str, Any]:
    """Return what `DuplicatesOut` describes.

    Plain dictionaries straight to bytes: building the models and serialising them again takes
    longer than searching. The tests hold the answers against the models.
    """
    return {
        "question": answer.question,
        "verdict": answer.verdict,
        "label": answer.label,
        "matches": [
            _match_out(match, None if answer.explanations is None else answer.explanations[place])
            for place, match in enumerate(answer.matches)
        ],
        "encoder": answer.encoder,
        "truncated": answer.truncated,
    }


def _match_out(match: Match, explanation: Explanation | None) -> dict[str, Any]:
    """Return what `FoundOut` describes."""
    anchor = match.anchor
    shown = {
        "id": anchor.id,
        "text": anchor.text,
        "label": anchor.label,
        "metadata": anchor.metadata,
        "similarity": figure(match.similarity),
        "probability": figure(match.probability),
        "verdict": match.verdict,
    }
    if explanation is not None:
        shown["explanation"] = explanation_out(explanation)
    return shown
