"""One-shot labels over the wire."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from app.api.schemas import QUESTIONS_LIMIT, FilterIn, In, Probability, TextIn
from app.domain.anchors import Filter
from app.domain.labels import LABELS


class _LabelNarrowing(In):
    limit: int = Field(5, ge=1, le=LABELS, strict=True, description="Labels to list at most.")
    min_probability: Probability = Field(
        0.0, description="A label less likely than this is not given."
    )
    filter: FilterIn | None = None

    def where(self) -> Filter:
        """Return the domain's filter, one that admits all if none was given."""
        return self.filter.to_filter() if self.filter else Filter()


class LabelTextIn(_LabelNarrowing):
    """A text to label."""

    text: TextIn


class LabelBatchIn(_LabelNarrowing):
    """Texts to label, all narrowed alike."""

    texts: Annotated[list[TextIn], Field(min_length=1, max_length=QUESTIONS_LIMIT)]


class LabelAnchorOut(BaseModel):
    """The anchor of a label that is nearest to the text."""

    id: str
    text: str
    similarity: float = Field(description="Cosine, -1 to 1.")


class LabelFoundOut(BaseModel):
    """A label that the text may belong to."""

    label: str
    probability: float = Field(description="P(the text belongs to it), 0 to 1.")
    anchor: LabelAnchorOut


class LabelOut(BaseModel):
    """Which label a text belongs to."""

    text: str
    label: str | None = Field(
        description="Null where the text is likelier than not to belong to none, or no label "
        "reaches `min_probability`."
    )
    probability: float = Field(description="Of `label`, or of `none` where it is null.")
    labels: list[LabelFoundOut] = Field(description="The likeliest first.")
    none: float = Field(description="P(the text belongs to no label known here), 0 to 1.")
    encoder: str
    truncated: bool = Field(description="Whether the text was longer than the encoder reads.")


class LabelBatchOut(BaseModel):
    """One result a text, in order."""

    results: list[LabelOut]
