"""Feedback in a plain dictionary, for the store in memory."""

from __future__ import annotations

from collections.abc import Generator

from app.domain.feedback import Feedback, FeedbackCounts

Rows = dict[tuple[int, str], Feedback]


class MemoryFeedback:
    """Implements the ports of `app.domain.feedback` over the rows of one state."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def _of(self, collection: int) -> list[Feedback]:
        found = [row for (of, _), row in self._rows.items() if of == collection]
        return sorted(found, key=lambda row: row.id)

    def get(self, collection: int, feedback_id: str) -> Feedback | None:
        """Return one verdict by its id."""
        return self._rows.get((collection, feedback_id))

    def of_pair(self, collection: int, pair: bytes) -> Feedback | None:
        """Return the verdict on a pair of texts."""
        return next((row for row in self._of(collection) if row.pair == pair), None)

    def page(self, collection: int, *, after: str | None, limit: int) -> list[Feedback]:
        """Return verdicts in the order of their ids, from the first id greater than `after`."""
        return [row for row in self._of(collection) if after is None or row.id > after][:limit]

    def count(self, collection: int) -> FeedbackCounts:
        """Return how many verdicts of each kind there are."""
        rows = self._of(collection)
        duplicate = sum(row.duplicate for row in rows)
        return FeedbackCounts(duplicate, len(rows) - duplicate, sum(row.conflicts for row in rows))

    def export(self, collection: int) -> Generator[list[Feedback], None, None]:
        """Yield all feedback of one moment, in batches, in the order of ids."""
        rows = self._of(collection)
        yield from (rows[start : start + 2] for start in range(0, len(rows), 2))

    def put(self, collection: int, feedback: Feedback) -> None:
        """Insert a verdict, or replace the one of the same id."""
        self._rows[collection, feedback.id] = feedback

    def delete(self, collection: int, feedback_id: str) -> bool:
        """Delete a verdict; return whether there was one."""
        return self._rows.pop((collection, feedback_id), None) is not None
