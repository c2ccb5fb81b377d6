"""Feedback in the database."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import Connection, Select, delete, func, insert, select

from app.domain.feedback import Feedback, FeedbackCounts
from app.storage.rows import to_datetime, to_micros
from app.storage.schema import feedback

_EXPORT_BATCH = 200


class FeedbackReads:
    """Implements `app.domain.feedback.FeedbackReader` over whatever connection it is given."""

    def __init__(self, connect: Callable[[], AbstractContextManager[Connection]]) -> None:
        self._connect = connect

    def get(self, collection: int, feedback_id: str) -> Feedback | None:
        """Return one verdict by its id."""
        return self._one(_of(collection).where(feedback.c.id == feedback_id))

    def of_pair(self, collection: int, pair: bytes) -> Feedback | None:
        """Return the verdict on a pair of texts."""
        return self._one(_of(collection).where(feedback.c.pair == pair))

    def _one(self, query: Select[Any]) -> Feedback | None:
        with self._connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _to_feedback(row)

    def page(self, collection: int, *, after: str | None, limit: int) -> list[Feedback]:
        """Return verdicts in the order of their ids, from the first id greater than `after`."""
        query = _of(collection).order_by(feedback.c.id).limit(limit)
        if after is not None:
            query = query.where(feedback.c.id > after)
        with self._connect() as connection:
            return [_to_feedback(row) for row in connection.execute(query)]

    def count(self, collection: int) -> FeedbackCounts:
        """Return how many verdicts of each kind there are."""
        query = select(
            func.count(),
            func.coalesce(func.sum(feedback.c.duplicate), 0),
            func.coalesce(func.sum(feedback.c.conflicts), 0),
        ).where(feedback.c.collection == collection)
        with self._connect() as connection:
            total, duplicate, conflicts = connection.execute(query).one()
        return FeedbackCounts(int(duplicate), total - int(duplicate), int(conflicts))

    def export(self, collection: int) -> Generator[list[Feedback], None, None]:
        """Yield all feedback of one moment, in batches, in the order of ids."""
        with self._connect() as connection:
            reading = connection.execution_options(yield_per=_EXPORT_BATCH)
            rows: Sequence[Any]
            for rows in reading.execute(_of(collection).order_by(feedback.c.id)).partitions():
                yield [_to_feedback(row) for row in rows]


class FeedbackWrites(FeedbackReads):
    """Implements `app.domain.feedback.FeedbackWriter` on a transaction's connection."""

    def put(self, collection: int, given: Feedback) -> None:
        """Insert a verdict, or replace the one of the same id."""
        with self._connect() as connection:
            connection.execute(
                insert(feedback)
                .prefix_with("OR REPLACE")
                .values(
                    collection=collection,
                    id=given.id,
                    pair=given.pair,
                    question=given.question,
                    anchor_id=given.anchor_id,
                    anchor_text=given.anchor_text,
                    duplicate=given.duplicate,
                    similarity=given.similarity,
                    probability=given.probability,
                    encoder=given.encoder,
                    conflicts=given.conflicts,
                    created_at=to_micros(given.created_at),
                    updated_at=to_micros(given.updated_at),
                )
            )

    def delete(self, collection: int, feedback_id: str) -> bool:
        """Delete a verdict; return whether there was one."""
        with self._connect() as connection:
            return bool(
                connection.execute(
                    delete(feedback).where(
                        feedback.c.collection == collection, feedback.c.id == feedback_id
                    )
                ).rowcount
            )


def _of(collection: int) -> Select[Any]:
    return select(feedback).where(feedback.c.collection == collection)


def _to_feedback(row: Any) -> Feedback:
    return Feedback(
        id=row.id,
        pair=row.pair,
        question=row.question,
        anchor_id=row.anchor_id,
        anchor_text=row.anchor_text,
        duplicate=bool(row.duplicate),
        similarity=row.similarity,
        probability=row.probability,
        encoder=row.encoder,
        conflicts=row.conflicts,
        created_at=to_datetime(row.created_at),
        updated_at=to_datetime(row.updated_at),
    )
