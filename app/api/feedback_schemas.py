"""Feedback over the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.api.schemas import AnchorId, In, TextIn, figure
from app.domain.feedback import Feedback, FeedbackStatus

# Whoever is not sure says nothing: `review` is what the service says when it is not.
VerdictGiven = Literal["duplicate", "distinct"]


class FeedbackIn(In):
    """A person's verdict on a question and an anchor."""

    question: TextIn
    anchor_id: AnchorId
    verdict: VerdictGiven


class FeedbackOut(BaseModel):
    """A verdict with the texts and figures of the moment it was given."""

    id: str
    question: str
    anchor_id: str
    anchor_text: str
    verdict: VerdictGiven
    similarity: float = Field(description="Cosine then, -1 to 1.")
    probability: float = Field(description="P(duplicate) then, 0 to 1.")
    encoder: str
    conflicts: int = Field(
        description="How often a verdict on this pair took the place of its opposite."
    )
    created_at: datetime
    updated_at: datetime


class FeedbackGivenOut(FeedbackOut):
    """A verdict, and what became of it."""

    status: FeedbackStatus = Field(
        description="`replaced`: the pair had the opposite verdict; `unchanged`: it had this one."
    )


class FeedbackPageOut(BaseModel):
    """A page of feedback, the oldest first."""

    feedback: list[FeedbackOut]
    next_cursor: str | None


class FeedbackPairOut(BaseModel):
    """A line of an export: a labelled pair, as `deja-train --pairs` reads it."""

    text1: str
    text2: str
    label: Annotated[int, Field(ge=0, le=1)]
    id: str
    anchor_id: str
    conflicts: int
    updated_at: datetime


def feedback_out(feedback: Feedback) -> FeedbackOut:
    """Return feedback as it is shown."""
    return FeedbackOut(
        id=feedback.id,
        question=feedback.question,
        anchor_id=feedback.anchor_id,
        anchor_text=feedback.anchor_text,
        verdict="duplicate" if feedback.duplicate else "distinct",
        similarity=figure(feedback.similarity),
        probability=figure(feedback.probability),
        encoder=feedback.encoder,
        conflicts=feedback.conflicts,
        created_at=feedback.created_at,
        updated_at=feedback.updated_at,
    )


def feedback_given_out(status: FeedbackStatus, feedback: Feedback) -> FeedbackGivenOut:
    """Return what became of a verdict as it is shown."""
    return FeedbackGivenOut(**feedback_out(feedback).model_dump(), status=status)


def pair_line(feedback: Feedback) -> str:
    """Return a line of an export, with its end."""
    pair = FeedbackPairOut(
        text1=feedback.question,
        text2=feedback.anchor_text,
        label=int(feedback.duplicate),
        id=feedback.id,
        anchor_id=feedback.anchor_id,
        conflicts=feedback.conflicts,
        updated_at=feedback.updated_at,
    )
    return pair.model_dump_json() + "\n"
