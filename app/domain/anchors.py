"""Anchors, the collections that hold them, and what a lookup finds among them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.cut_offs import IDENTITY, Correction
from app.domain.text import fingerprint
from app.domain.verdicts import Verdict

DEFAULT_COLLECTION = "default"

Scalar = str | int | float | bool | None
Metadata = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Draft:
    """An anchor as a client gives it, before it has an id, a vector or a place."""

    text: str
    id: str | None = None
    label: str | None = None
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EncodedDraft:
    """A draft with its vector.

    vector: (dim,) float16, unit length before rounding.
    fingerprint: 16 bytes, see `app.domain.text.fingerprint`.
    truncated: whether the text was longer than the encoder reads.
    """

    draft: Draft
    vector: NDArray[np.float16]
    fingerprint: bytes
    truncated: bool


@dataclass(frozen=True, slots=True)
class Anchor:
    """A registered text.

    seq: the change that wrote this version; a later version has a later one.
    fingerprint: 16 bytes, see `app.domain.text.fingerprint`.
    """

    seq: int
    id: str
    text: str
    label: str | None
    metadata: Metadata
    fingerprint: bytes
    truncated: bool
    created_at: datetime
    updated_at: datetime

    def same_content(self, draft: Draft) -> bool:
        """Return whether storing `draft` would change nothing."""
        return (
            self.text == draft.text
            and self.label == draft.label
            and canonical_json(self.metadata) == canonical_json(draft.metadata)
        )


@dataclass(frozen=True, slots=True)
class Change:
    """One step of the change log.

    seq: its place in the log; the new version's key, where it adds one.
    removed: the seq of the version it replaces or deletes, if any.
    vector: (dim,) float16 of the version it adds, None for a deletion.
    """

    seq: int
    removed: int | None
    vector: NDArray[np.float16] | None


@dataclass(frozen=True, slots=True)
class Filter:
    """Equality on the label and on top-level metadata keys; all must hold."""

    label: str | None = None
    metadata: Mapping[str, Scalar] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Return whether it narrows anything."""
        return self.label is not None or bool(self.metadata)

    def admits(self, anchor: Anchor) -> bool:
        """Return whether an anchor satisfies every part."""
        if self.label is not None and anchor.label != self.label:
            return False
        return all(
            key in anchor.metadata and canonical_json(anchor.metadata[key]) == canonical_json(value)
            for key, value in self.metadata.items()
        )


@dataclass(frozen=True, slots=True)
class CollectionSettings:
    """What a collection wants of a verdict; None means the service's default.

    duplicate_at, review_at: explicit cut-offs, probabilities 0 to 1; they win over the aims.
    duplicate_precision, review_recall: aims, 0 to 1, that the calibration turns into cut-offs.
    base_rate: the collection's own share of duplicates among the pairs it is asked about, above 0
    and below 1; the log odds shift by `logit(base_rate) - logit(the calibration's)`.
    """

    duplicate_at: float | None = None
    review_at: float | None = None
    duplicate_precision: float = 0.80
    review_recall: float = 0.95
    base_rate: float | None = None


@dataclass(frozen=True, slots=True)
class Collection:
    """A named, separate set of anchors.

    key: its number in the database, never used again after a deletion.
    correction: of the log odds, learned from the collection itself; it comes after the shift to
    the base rate of the settings.
    """

    key: int
    name: str
    settings: CollectionSettings
    created_at: datetime
    updated_at: datetime
    correction: Correction = IDENTITY


@dataclass(frozen=True, slots=True)
class Match:
    """An anchor found for a question.

    similarity: cosine, -1 to 1.
    probability: calibrated P(duplicate), 0 to 1; 1 for equal fingerprints.
    """

    anchor: Anchor
    similarity: float
    probability: float
    verdict: Verdict


class IfDuplicate(StrEnum):
    """What to do with an anchor that has a duplicate in the collection."""

    REGISTER = "register"
    SKIP = "skip"
    REJECT = "reject"


class RegisterStatus(StrEnum):
    """What became of an anchor of a request."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Registered:
    """What became of one anchor of a request.

    id: the anchor's id; None for a skipped one that had none.
    duplicate_of: the match that made it skipped, else None.
    """

    id: str | None
    status: RegisterStatus
    truncated: bool
    duplicate_of: Match | None = None


def encoded_draft(draft: Draft, vector: NDArray[np.floating[Any]], truncated: bool) -> EncodedDraft:
    """Return `draft` with its vector rounded to the precision in which vectors are stored."""
    return EncodedDraft(draft, vector.astype(np.float16), fingerprint(draft.text), truncated)


def canonical_json(value: Any) -> str:
    """Return JSON that is equal for equal values: keys sorted, 1.0 written as 1."""
    return json.dumps(_plain(value), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


# Up to here floats stand for whole numbers exactly.
_EXACT = 2.0**53


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
