"""Has this been asked before?"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from pydantic import ValidationError
from pydantic_core import from_json, to_json

from app.api.answers import DuplicatesBatchOut, DuplicatesOut, explanation_out
from app.api.dependencies import CollectionName, ReadyRuntime
from app.api.schemas import COLLECTION_PATTERN, DuplicatesBatchIn, DuplicatesIn, figure
from app.domain.anchors import Match
from app.domain.explanation import Explanation
from app.runtime import CHUNK
from app.usecases.lookup import Answer, Asked, Lookup

_COLLECTION = re.compile(COLLECTION_PATTERN)


class LookupRoute(APIRoute):
    """Answers a well-formed lookup without FastAPI's general way from a request to arguments.

    That way takes as long as a tenth of encoding the question, and holds the interpreter lock.
    Whatever is not well formed goes it all the same, to be told what is wrong.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        usual = super().get_route_handler()

        async def handle(request: Request) -> Response:
            body = _well_formed(request, await request.body())
            if body is None:
                return await usual(request)
            runtime = request.state.runtime
            runtime.readiness.require()
            return await find_duplicates(request.path_params["collection"], body, runtime)

        return handle


def _well_formed(request: Request, content: bytes) -> DuplicatesIn | None:
    """Return the body of a lookup, None where anything is wrong with the request."""
    kind = request.headers.get("content-type", "")
    if kind != "application/json" or not _COLLECTION.fullmatch(request.path_params["collection"]):
        return None
    try:
        return DuplicatesIn.model_validate(from_json(content))
    except (ValueError, ValidationError):
        return None


router = APIRouter(prefix="/v1/collections/{collection}", tags=["duplicates"])


async def find_duplicates(
    collection: CollectionName, body: DuplicatesIn, runtime: ReadyRuntime
) -> Response:
    """Return likely duplicates of one question."""
    asked = Asked(body.question, body.limit, body.min_similarity, body.where(), body.explain)
    answer = await runtime.workers.ask(runtime.lookup.many, (collection, asked))
    return Response(to_json(_answer_out(answer)), media_type="application/json")


router.add_api_route(
    "/duplicates",
    find_duplicates,
    methods=["POST"],
    response_model=DuplicatesOut,
    route_class_override=LookupRoute,
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
    content = to_json({"results": [_answer_out(one) for part in answered for one in part]})
    return Response(content, media_type="application/json")


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
    shown = {
        "id": match.anchor.id,
        "text": match.anchor.text,
        "label": match.anchor.label,
        "metadata": match.anchor.metadata,
        "similarity": figure(match.similarity),
        "probability": figure(match.probability),
        "verdict": match.verdict,
    }
    if explanation is not None:
        shown["explanation"] = explanation_out(explanation)
    return shown
