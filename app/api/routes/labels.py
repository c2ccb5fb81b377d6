"""Which label does this text belong to?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Response

from app.api.answers import json_answer
from app.api.dependencies import CollectionName, ReadyRuntime
from app.api.label_schemas import LabelBatchIn, LabelBatchOut, LabelOut, LabelTextIn
from app.api.schemas import figure
from app.runtime import CHUNK
from app.usecases.label import Label, LabelAnswer, LabelAsked

router = APIRouter(prefix="/v1/collections/{collection}", tags=["labels"])


@router.post("/label", response_model=LabelOut)
async def label(collection: CollectionName, body: LabelTextIn, runtime: ReadyRuntime) -> Response:
    """Return which label a text belongs to, out of those known from their anchors, or none."""
    asked = LabelAsked(body.text, body.limit, body.min_probability, body.where())
    answer = await runtime.workers.ask(runtime.label.many, (collection, asked))
    return json_answer(_answer_out(answer))


@router.post("/label:batch", response_model=LabelBatchOut)
async def label_many(
    collection: CollectionName, body: LabelBatchIn, runtime: ReadyRuntime
) -> Response:
    """Return which label each of up to 256 texts belongs to, in order."""
    where = body.where()
    asked = [
        (collection, LabelAsked(text, body.limit, body.min_probability, where))
        for text in body.texts
    ]
    parts = [asked[start : start + CHUNK] for start in range(0, len(asked), CHUNK)]
    answered = await runtime.workers.map_bulk(
        partial(_answer_all, runtime.label), parts, len(asked)
    )
    return json_answer({"results": [_answer_out(one) for part in answered for one in part]})


def _answer_all(label: Label, asked: Sequence[tuple[str, LabelAsked]]) -> list[LabelAnswer]:
    """Return all answers, or raise the first error."""
    answers = []
    for outcome in label.many(asked):
        if isinstance(outcome, Exception):
            raise outcome
        answers.append(outcome)
    return answers


def _answer_out(answer: LabelAnswer) -> dict[str, Any]:
    """Return what `LabelOut` describes; plain dictionaries, as lookups do."""
    return {
        "text": answer.text,
        "label": answer.label,
        "probability": figure(answer.probability),
        "labels": [
            {
                "label": found.label,
                "probability": figure(found.probability),
                "anchor": {
                    "id": found.anchor.id,
                    "text": found.anchor.text,
                    "similarity": figure(found.similarity),
                },
            }
            for found in answer.labels
        ],
        "none": figure(answer.none),
        "encoder": answer.encoder,
        "truncated": answer.truncated,
    }
