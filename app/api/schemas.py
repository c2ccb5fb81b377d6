"""What goes over the wire: the contract's names and limits."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from app.domain.anchors import (
    Anchor,
    CollectionSettings,
    Draft,
    Filter,
    IfDuplicate,
    Match,
    Registered,
    RegisterStatus,
    Scalar,
)
from app.domain.cut_offs import CutOffs
from app.domain.verdicts import Verdict

TEXT_LIMIT = 4_000
LABEL_LIMIT = 200
METADATA_LIMIT = 8 * 1024
METADATA_DEPTH = 32
QUESTIONS_LIMIT = 256
ANCHORS_LIMIT = 1_000
MATCHES_LIMIT = 100
PAGE_LIMIT = 1_000

COLLECTION_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
ANCHOR_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"


def _small_json(value: dict[str, Any]) -> dict[str, Any]:
    if _deeper(value, METADATA_DEPTH):
        raise ValueError(f"is nested more than {METADATA_DEPTH} levels deep")
    try:
        size = len(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())
    except (ValueError, RecursionError):
        raise ValueError("must be plain JSON, without NaN, infinities or broken Unicode") from None
    if size > METADATA_LIMIT:
        raise ValueError(f"is {size} bytes of JSON, the limit is {METADATA_LIMIT}")
    return value


def _deeper(value: Any, depth: int) -> bool:
    """Return whether JSON is nested deeper than `depth`; by level, not by recursion."""
    level = [value]
    for _ in range(depth):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.values()
            elif isinstance(item, list):
                inner += item
        if not inner:
            return False
        level = inner
    return any(isinstance(item, dict | list) for item in level)


TextIn = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=TEXT_LIMIT)
]
LabelIn = Annotated[str, StringConstraints(min_length=1, max_length=LABEL_LIMIT)]
MetadataIn = Annotated[dict[str, Any], AfterValidator(_small_json)]
AnchorId = Annotated[str, StringConstraints(pattern=ANCHOR_ID_PATTERN)]
Probability = Annotated[float, Field(ge=0, le=1, strict=True)]


class In(BaseModel):
    """A request body: a field it does not know is a mistake worth hearing of."""

    model_config = ConfigDict(extra="forbid")


class FilterIn(In):
    """Equality on the label and on top-level metadata keys; all must hold."""

    label: LabelIn | None = None
    metadata: Annotated[dict[str, Scalar], AfterValidator(_small_json)] = Field(
        default_factory=dict, max_length=16
    )

    def to_filter(self) -> Filter:
        """Return the domain's filter."""
        return Filter(self.label, self.metadata)


class _Narrowing(In):
    limit: int = Field(10, ge=1, le=MATCHES_LIMIT, strict=True)
    min_similarity: float | None = Field(None, ge=-1, le=1, strict=True)
    filter: FilterIn | None = None
    explain: bool = Field(False, strict=True, description="Say what each probability is made of.")

    def where(self) -> Filter:
        """Return the domain's filter, one that admits all if none was given."""
        return self.filter.to_filter() if self.filter else Filter()


class DuplicatesIn(_Narrowing):
    """A question to find duplicates of."""

    question: TextIn


class DuplicatesBatchIn(_Narrowing):
    """Questions to find duplicates of, all narrowed alike."""

    questions: Annotated[list[TextIn], Field(min_length=1, max_length=QUESTIONS_LIMIT)]


class MatchOut(BaseModel):
    """An anchor found for a question."""

    id: str
    text: str
    label: str | None
    metadata: dict[str, Any]
    similarity: float = Field(description="Cosine, -1 to 1.")
    probability: float = Field(description="Calibrated P(duplicate), 0 to 1.")
    verdict: Verdict


class AnchorContent(In):
    """What an anchor holds besides its id."""

    text: TextIn
    label: LabelIn | None = None
    metadata: MetadataIn = Field(default_factory=dict)


class AnchorIn(AnchorContent):
    """An anchor to register; it gets a UUIDv7 where it has no id."""

    id: AnchorId | None = None

    def to_draft(self) -> Draft:
        """Return the domain's draft."""
        return Draft(self.text, self.id, self.label, self.metadata)


class RegisterIn(In):
    """Anchors to register, all of them or none."""

    anchors: Annotated[list[AnchorIn], Field(min_length=1, max_length=ANCHORS_LIMIT)]
    if_duplicate: IfDuplicate = IfDuplicate.REGISTER


class RegisteredOut(BaseModel):
    """What became of an anchor."""

    id: str | None
    status: RegisterStatus
    duplicate_of: MatchOut | None
    truncated: bool


class RegisterOut(BaseModel):
    """One result an anchor, in order."""

    results: list[RegisteredOut]


class AnchorOut(BaseModel):
    """A registered anchor."""

    id: str
    text: str
    label: str | None
    metadata: dict[str, Any]
    truncated: bool
    created_at: datetime
    updated_at: datetime


class AnchorsOut(BaseModel):
    """A page of anchors, in the order of their ids."""

    anchors: list[AnchorOut]
    next_cursor: str | None


class SettingsIn(In):
    """What a collection wants of a verdict; explicit cut-offs win over aims."""

    duplicate_at: Probability | None = None
    review_at: Probability | None = None
    duplicate_precision: Probability = 0.80
    review_recall: Probability = 0.95
    base_rate: Annotated[float, Field(gt=0, lt=1, strict=True)] | None = Field(
        None,
        description="The share of duplicates among the pairs this collection is asked about; "
        "null for that of the pairs the encoder was calibrated on.",
    )

    def to_settings(self) -> CollectionSettings:
        """Return the domain's settings."""
        return CollectionSettings(**self.model_dump())


class CutOffsOut(BaseModel):
    """The probabilities from which on a match is a duplicate, or worth a look."""

    duplicate_at: float
    review_at: float
    duplicate_reached: bool = Field(
        description="Whether the aim `duplicate_precision` was measured to be reached there; where "
        "not, its probability is at least the aim. True for an explicit cut-off."
    )
    review_reached: bool = Field(
        description="Whether the aim `review_recall` was measured to be reached there."
    )

    @classmethod
    def of(cls, found: CutOffs) -> Self:
        """Return them as they are shown."""
        return cls(
            duplicate_at=found.duplicate_at,
            review_at=found.review_at,
            duplicate_reached=found.duplicate_reached,
            review_reached=found.review_reached,
        )


class FeedbackCountsOut(BaseModel):
    """How much feedback a collection holds."""

    duplicate: int
    distinct: int
    conflicts: int = Field(description="How often a verdict took the place of its opposite.")


class CollectionOut(BaseModel):
    """A collection, what it wants and what it holds."""

    name: str
    settings: SettingsIn
    cut_offs: CutOffsOut = Field(description="The cut-offs in force, from the settings.")
    anchors: int
    labels: int
    feedback: FeedbackCountsOut
    created_at: datetime
    updated_at: datetime


class CollectionsOut(BaseModel):
    """Every collection, by name."""

    collections: list[CollectionOut]


class PairIn(In):
    """Two texts."""

    left: TextIn
    right: TextIn


class CompareIn(In):
    """Pairs to compare."""

    pairs: Annotated[list[PairIn], Field(min_length=1, max_length=QUESTIONS_LIMIT)]
    explain: bool = Field(False, strict=True, description="Say what each probability is made of.")


def figure(value: float) -> float:
    """Return a similarity or probability as it is shown; float16 vectors carry no more digits."""
    return round(value, 6)


def match_out(match: Match) -> MatchOut:
    """Return a match as it is shown."""
    anchor = match.anchor
    return MatchOut(
        id=anchor.id,
        text=anchor.text,
        label=anchor.label,
        metadata=dict(anchor.metadata),
        similarity=figure(match.similarity),
        probability=figure(match.probability),
        verdict=match.verdict,
    )


def registered_out(registered: Registered) -> RegisteredOut:
    """Return what became of an anchor as it is shown."""
    duplicate = registered.duplicate_of
    return RegisteredOut(
        id=registered.id,
        status=registered.status,
        duplicate_of=match_out(duplicate) if duplicate else None,
        truncated=registered.truncated,
    )


def anchor_out(anchor: Anchor) -> AnchorOut:
    """Return an anchor as it is shown."""
    return AnchorOut(
        id=anchor.id,
        text=anchor.text,
        label=anchor.label,
        metadata=dict(anchor.metadata),
        truncated=anchor.truncated,
        created_at=anchor.created_at,
        updated_at=anchor.updated_at,
    )
