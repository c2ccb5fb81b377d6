"""What the service answers, as types: the JSON of the HTTP contract, key by key."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

VerdictName = Literal["duplicate", "review", "distinct"]
JudgedName = Literal["duplicate", "distinct"]
IfDuplicateName = Literal["register", "skip", "reject"]
StatusName = Literal["created", "updated", "unchanged", "skipped"]


class AnchorDraft(TypedDict):
    """An anchor to register; without an id the service gives one."""

    text: str
    id: NotRequired[str]
    label: NotRequired[str | None]
    metadata: NotRequired[dict[str, Any]]


class Anchor(TypedDict):
    """A registered text; the times are ISO 8601, UTC."""

    id: str
    text: str
    label: str | None
    metadata: dict[str, Any]
    truncated: NotRequired[bool]
    created_at: NotRequired[str]
    updated_at: NotRequired[str]


class Piece(TypedDict):
    """One piece of a probability; `contribution`, in log odds, is weight times value."""

    name: str
    value: float
    weight: float
    contribution: float


class CutOffs(TypedDict):
    """The probabilities that a verdict was read from, and whether their aims were reached."""

    duplicate_at: float
    review_at: float
    duplicate_reached: bool
    review_reached: bool


class Explanation(TypedDict):
    """What a probability is made of: `log_odds` is `intercept` plus all contributions."""

    same_text: bool
    intercept: float
    pieces: list[Piece]
    log_odds: float
    correction: dict[str, float]
    corrected: float
    cut_offs: CutOffs


class Match(TypedDict):
    """An anchor found for a question.

    similarity: cosine, -1 to 1.
    probability: calibrated P(duplicate), 0 to 1.
    """

    id: str
    text: str
    label: str | None
    metadata: dict[str, Any]
    similarity: float
    probability: float
    verdict: VerdictName
    explanation: NotRequired[Explanation]


class Answer(TypedDict):
    """What a lookup found for one question, best match first."""

    question: str
    verdict: VerdictName
    label: str | None
    matches: list[Match]
    encoder: str
    truncated: bool


class Registered(TypedDict):
    """What became of one anchor of a request; `duplicate_of` is why it was skipped."""

    id: str | None
    status: StatusName
    duplicate_of: Match | None
    truncated: bool


class Comparison(TypedDict):
    """How alike the two texts of a pair are.

    similarity: cosine, -1 to 1.
    probability: calibrated P(duplicate), 0 to 1.
    """

    similarity: float
    probability: float
    verdict: VerdictName
    truncated: bool
    explanation: NotRequired[Explanation]


class Feedback(TypedDict):
    """A person's verdict, with the texts and figures of the moment it was given.

    conflicts: how often a verdict on this pair took the place of its opposite.
    status: what became of it, where it has just been given.
    """

    id: str
    question: str
    anchor_id: str
    anchor_text: str
    verdict: JudgedName
    similarity: float
    probability: float
    encoder: str
    conflicts: int
    created_at: str
    updated_at: str
    status: NotRequired[Literal["created", "replaced", "unchanged"]]


class LabelAnchor(TypedDict):
    """The anchor of a label that is nearest to a text."""

    id: str
    text: str
    similarity: float


class LabelFound(TypedDict):
    """A label that a text may belong to."""

    label: str
    probability: float
    anchor: LabelAnchor


class LabelAnswer(TypedDict):
    """Which label a text belongs to, the likeliest first; None where it belongs to none.

    probability: of `label`, or of `none` where it is None.
    """

    text: str
    label: str | None
    probability: float
    labels: list[LabelFound]
    none: float
    encoder: str
    truncated: bool


class FeedbackPair(TypedDict):
    """A line of exported feedback: a labelled pair; label 1 for duplicates."""

    text1: str
    text2: str
    label: int
    id: str
    anchor_id: str
    conflicts: int
    updated_at: str


Collection = dict[str, Any]
"""A collection's name, settings and counts, as the service gives them."""
