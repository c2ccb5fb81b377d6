"""What people say about matches, and what stores it.

A person looks at a question and a match and says whether they ask the same. One pair of texts has
one verdict, the latest; how often it was contradicted is counted.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Feedback:
    """A person's verdict on a question and an anchor, both as they stood at that moment.

    pair: 32 bytes, see `pair_of`; it is one row's alone in a collection.
    duplicate: whether they ask the same.
    similarity: cosine, -1 to 1; probability: P(duplicate) as the collection judged it then.
    encoder: the name of the encoder whose figures these are.
    conflicts: how often a verdict on this pair took the place of its opposite.
    """

    id: str
    pair: bytes
    question: str
    anchor_id: str
    anchor_text: str
    duplicate: bool
    similarity: float
    probability: float
    encoder: str
    conflicts: int
    created_at: datetime
    updated_at: datetime

    @property
    def same_text(self) -> bool:
        """Return whether both texts have one fingerprint: no calibration has a say in that."""
        return self.pair[:16] == self.pair[16:]


class FeedbackStatus(StrEnum):
    """What became of a verdict."""

    CREATED = "created"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class FeedbackCounts:
    """How many verdicts a collection holds, and how often one took the place of its opposite."""

    duplicate: int
    distinct: int
    conflicts: int


def pair_of(left: bytes, right: bytes) -> bytes:
    """Return 32 bytes that name two texts by their fingerprints, in either order."""
    return min(left, right) + max(left, right)


class FeedbackReader(Protocol):
    """Reads over the feedback of a collection; in a write transaction, what it staged included."""

    def get(self, collection: int, feedback_id: str) -> Feedback | None:
        """Return one verdict by its id."""
        ...

    def page(self, collection: int, *, after: str | None, limit: int) -> list[Feedback]:
        """Return verdicts in the order of their ids, from the first id greater than `after`."""
        ...

    def count(self, collection: int) -> FeedbackCounts:
        """Return how many verdicts of each kind there are."""
        ...


class FeedbackStore(FeedbackReader, Protocol):
    """The committed feedback."""

    def export(self, collection: int) -> Generator[list[Feedback], None, None]:
        """Yield all feedback of one moment, in batches, in the order of ids.

        Close it if it is not read to its end: until then it holds that moment.
        """
        ...


class FeedbackWriter(FeedbackReader, Protocol):
    """Writes of feedback inside a transaction."""

    def of_pair(self, collection: int, pair: bytes) -> Feedback | None:
        """Return the verdict on a pair of texts."""
        ...

    def put(self, collection: int, feedback: Feedback) -> None:
        """Insert a verdict, or replace the one of the same id."""
        ...

    def delete(self, collection: int, feedback_id: str) -> bool:
        """Delete a verdict; return whether there was one."""
        ...
