"""Answers about pairs as they go over the wire, and what their probabilities are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import orjson
from fastapi import Response
from pydantic import BaseModel, Field
from pydantic_core import to_json

from app.api.schemas import CutOffsOut, MatchOut, figure
from app.domain.explanation import Explanation
from app.domain.verdicts import Verdict


class PieceOut(BaseModel):
    """One piece of what is known of a pair."""

    name: str = Field(description="`similarity`, `head`, or a piece of evidence.")
    value: float = Field(description="What was seen of it; of evidence 0 to 1.")
    weight: float = Field(description="What the calibration gives it, in log odds.")
    contribution: float = Field(description="Weight times value; below 0 it speaks against.")


class AppliedCorrectionOut(BaseModel):
    """A straight line on the log odds; intercept 0 and slope 1 change nothing."""

    intercept: float
    slope: float


class ExplanationOut(BaseModel):
    """`log_odds` is `intercept` plus all contributions; P is 1 / (1 + exp(-corrected))."""

    same_text: bool = Field(description="Equal fingerprints: a duplicate with probability 1.")
    intercept: float
    pieces: list[PieceOut] = Field(description="Those seen: the similarity, then what adds to it.")
    log_odds: float
    correction: AppliedCorrectionOut = Field(
        description="To the collection: its base rate, its feedback."
    )
    corrected: float = Field(description="correction.intercept + correction.slope * log_odds")
    cut_offs: CutOffsOut = Field(description="The cut-offs that the verdict was read from.")


class FoundOut(MatchOut):
    """A match; with `explain`, why it has its probability and verdict."""

    explanation: ExplanationOut | None = Field(None, description="Only there with `explain`.")


class DuplicatesOut(BaseModel):
    """Likely duplicates, the likeliest first."""

    question: str
    verdict: Verdict = Field(description="The strongest of any match.")
    label: str | None = Field(description="Of the best match that has one and is not distinct.")
    matches: list[FoundOut]
    encoder: str
    truncated: bool = Field(description="Whether the question was longer than the encoder reads.")


class DuplicatesBatchOut(BaseModel):
    """One result a question, in order."""

    results: list[DuplicatesOut]


class ComparisonOut(BaseModel):
    """Two texts, compared."""

    similarity: float
    probability: float
    verdict: Verdict
    truncated: bool
    explanation: ExplanationOut | None = Field(None, description="Only there with `explain`.")


class CompareOut(BaseModel):
    """One result a pair, in order."""

    results: list[ComparisonOut]
    encoder: str


def json_answer(content: Mapping[str, Any]) -> Response:
    """Return an answer of plain values as JSON.

    By pydantic's serialiser it takes ten times as long, with the interpreter lock held.
    """
    try:
        written = orjson.dumps(content)
    except orjson.JSONEncodeError:  # a whole number beyond 64 bits, which metadata may hold
        written = to_json(content)
    return Response(written, media_type="application/json")


def explanation_out(found: Explanation) -> dict[str, Any]:
    """Return what `ExplanationOut` describes."""
    return {
        "same_text": found.same_text,
        "intercept": figure(found.intercept),
        "pieces": [
            {
                "name": piece.name,
                "value": figure(piece.value),
                "weight": figure(piece.weight),
                "contribution": figure(piece.contribution),
            }
            for piece in found.pieces
        ],
        "log_odds": figure(found.log_odds),
        "correction": {
            "intercept": figure(found.correction.intercept),
            "slope": figure(found.correction.slope),
        },
        "corrected": figure(found.corrected),
        "cut_offs": asdict(found.cut_offs),
    }
