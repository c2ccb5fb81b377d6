"""Writes that become durable and visible together."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, nullcontext

from sqlalchemy import Connection, Table, bindparam, delete, insert, select, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError

from app.domain.anchors import (
    Anchor,
    Change,
    Collection,
    CollectionSettings,
    EncodedDraft,
)
from app.domain.cut_offs import Correction
from app.domain.errors import StorageFailed
from app.domain.ports import Remembered
from app.storage.database import plain_words
from app.storage.feedback import FeedbackWrites
from app.storage.jobs import JobReader, JobWriter, purge_jobs
from app.storage.reader import IN_LIMIT, Reader, chunks
from app.storage.rows import (
    metadata_entries,
    metadata_to_json,
    now_micros,
    settings_to_json,
    to_blob,
    to_micros,
    to_settings,
)
from app.storage.schema import (
    anchor_metadata,
    anchors,
    changes,
    collections,
    corrections,
    feedback,
    idempotency,
    vectors,
)

_DELETE_ENTRY = delete(anchor_metadata).where(
    *(column == bindparam(f"b_{column.name}") for column in anchor_metadata.primary_key.columns)
)


def _inserting(table: Table) -> str:
    """Return the statement that inserts a whole row, its values named as the columns are."""
    return str(insert(table).compile(dialect=sqlite.dialect(paramstyle="named")))


# What every anchor passes through goes to the driver itself: of a few anchors, SQLAlchemy's way
# there takes several times as long as these statements.
_LAST_SEQ = "SELECT value FROM meta WHERE key = 'last_seq'"
_SET_LAST_SEQ = "UPDATE meta SET value = ? WHERE key = 'last_seq'"
_INSERT_ANCHORS = _inserting(anchors)
_INSERT_VECTORS = _inserting(vectors)
_INSERT_ENTRIES = _inserting(anchor_metadata)
_INSERT_CHANGES = _inserting(changes)

REMEMBERED_MICROS = 24 * 3600 * 1_000_000


class Transaction(Reader, JobReader, JobWriter):
    """Implements `app.domain.ports.WriteTransaction` on one connection.

    encoder: the number, in this database, of the encoder that makes the vectors written here.
    known: gives a collection as it was last committed, None where it has to be read. One thread
    writes: what it has committed is forgotten before it begins another transaction.
    """

    def __init__(
        self, connection: Connection, encoder: int, known: Callable[[str], Collection | None]
    ) -> None:
        super().__init__(lambda: nullcontext(connection), encoder)
        self.connection = connection
        self._known = known
        self.feedback = FeedbackWrites(lambda: nullcontext(connection))
        self.changed_collections = False
        # Its statements are part of the transaction that SQLAlchemy has begun on this connection.
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        self._driver = driver
        (last,) = driver.execute(_LAST_SEQ).fetchone()
        self._seq = self._stored_seq = int(last)

    def finish(self) -> None:
        """Write down what is left to the end of all commands; the last before the commit."""
        if self._seq != self._stored_seq:
            self._driver.execute(_SET_LAST_SEQ, (str(self._seq),))

    def collection(self, name: str) -> Collection:
        """Return a collection. Raises CollectionNotFound."""
        known = None if self.changed_collections else self._known(name)
        return super().collection(name) if known is None else known

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what is written inside if it raises, and only that.

        Raises StorageFailed where the database refuses: the whole transaction is then lost.
        """
        before = self._seq
        # Plain statements: SQLAlchemy's own savepoints took as long as the rest (decision 7).
        try:
            self._driver.execute("SAVEPOINT command")
            try:
                yield
            except (DBAPIError, sqlite3.Error):
                raise
            except BaseException:
                self._seq = before
                self._driver.execute("ROLLBACK TO command")
                self._driver.execute("RELEASE command")
                raise
            self._driver.execute("RELEASE command")
        except (DBAPIError, sqlite3.Error) as error:
            raise StorageFailed(plain_words(error)) from error

    def put(
        self,
        collection: int,
        anchors_: Sequence[tuple[str, EncodedDraft]],
        new: AbstractSet[str] = frozenset(),
    ) -> list[Change]:
        """Insert or replace anchors by id (distinct ids); return the changes, in their order.

        new: ids that were made for these anchors, under which nothing stands.
        """
        if not anchors_:
            return []
        old = self.by_id(collection, [given for given, _ in anchors_ if given not in new])
        self._remove(collection, list(old.values()))
        now = now_micros()
        rows, blobs, entries, log = [], [], [], []
        for anchor_id, encoded in anchors_:
            self._seq += 1
            draft, before = encoded.draft, old.get(anchor_id)
            created = now if before is None else to_micros(before.created_at)
            rows.append(
                {
                    "seq": self._seq,
                    "collection": collection,
                    "id": anchor_id,
                    "text": draft.text,
                    "label": draft.label,
                    "metadata": metadata_to_json(draft.metadata),
                    "fingerprint": encoded.fingerprint,
                    "truncated": encoded.truncated,
                    "created_at": created,
                    "updated_at": now,
                }
            )
            blobs.append(
                {
                    "seq": self._seq,
                    "collection": collection,
                    "encoder": self._encoder,
                    "vector": to_blob(encoded.vector),
                }
            )
            entries += [
                {"collection": collection, "key": key, "value": value, "seq": self._seq}
                for key, value in metadata_entries(draft.metadata)
            ]
            log.append(Change(self._seq, before.seq if before else None, encoded.vector))
        self._driver.executemany(_INSERT_ANCHORS, rows)
        self._driver.executemany(_INSERT_VECTORS, blobs)
        self._driver.executemany(_INSERT_ENTRIES, entries)
        self._log(collection, log)
        return log

    def delete(self, collection: int, anchor_id: str) -> Change | None:
        """Delete an anchor; return the change, None where there was none."""
        old = self.by_id(collection, [anchor_id]).get(anchor_id)
        if old is None:
            return None
        self._remove(collection, [old])
        self._seq += 1
        change = Change(self._seq, old.seq, None)
        self._log(collection, [change])
        return change

    def _remove(self, collection: int, old: Sequence[Anchor]) -> None:
        for part in chunks([anchor.seq for anchor in old], IN_LIMIT):
            self.connection.execute(delete(anchors).where(anchors.c.seq.in_(part)))
            self.connection.execute(delete(vectors).where(vectors.c.seq.in_(part)))
        entries = [
            {"b_collection": collection, "b_key": key, "b_value": value, "b_seq": anchor.seq}
            for anchor in old
            for key, value in metadata_entries(anchor.metadata)
        ]
        if entries:
            self.connection.execute(_DELETE_ENTRY, entries)

    def _log(self, collection: int, log: Sequence[Change]) -> None:
        self._driver.executemany(
            _INSERT_CHANGES,
            [
                {
                    "seq": change.seq,
                    "collection": collection,
                    "removed": change.removed,
                    "added": change.vector is not None,
                }
                for change in log
            ],
        )

    def put_collection(self, name: str, settings: CollectionSettings) -> bool:
        """Create a collection or replace its settings; return whether it was created."""
        self.changed_collections = True
        now = now_micros()
        content = {"settings": settings_to_json(settings), "updated_at": now}
        replaced = self.connection.execute(
            update(collections).where(collections.c.name == name).values(content)
        )
        if replaced.rowcount:
            return False
        # Its log starts at its birth: there is nothing before that to have missed.
        self.connection.execute(
            insert(collections).values(name=name, created_at=now, log_start=self._seq, **content)
        )
        return True

    def put_correction(
        self, collection: int, correction: Correction | None, on: tuple[int, int]
    ) -> None:
        """Set a collection's correction for this store's encoder and the base rate of its settings.

        None takes it away.
        """
        self.changed_collections = True
        self.connection.execute(delete(corrections).where(corrections.c.collection == collection))
        if correction is not None:
            settings = self.connection.execute(
                select(collections.c.settings).where(collections.c.key == collection)
            ).scalar_one()
            self.connection.execute(
                insert(corrections).values(
                    collection=collection,
                    intercept=correction.intercept,
                    slope=correction.slope,
                    duplicates=on[0],
                    distincts=on[1],
                    encoder=self._encoder,
                    fitted_at=now_micros(),
                    base_rate=to_settings(settings).base_rate or 0.0,
                )
            )

    def delete_collection(self, collection: int) -> None:
        """Make a collection unreachable at once; its rows go with `purge`."""
        self.changed_collections = True
        self.connection.execute(
            update(collections).where(collections.c.key == collection).values(name=None)
        )

    def recall(self, collection: int, key: str) -> Remembered | None:
        """Return what was answered to an idempotency key in the last day."""
        row = self.connection.execute(
            select(idempotency.c.request, idempotency.c.answer).where(
                idempotency.c.collection == collection,
                idempotency.c.key == key,
                idempotency.c.created_at > now_micros() - REMEMBERED_MICROS,
            )
        ).one_or_none()
        return Remembered(row.request, row.answer) if row else None

    def remember(self, collection: int, key: str, answer: Remembered) -> None:
        """Keep an answer for an idempotency key."""
        self.connection.execute(
            insert(idempotency)
            .prefix_with("OR REPLACE")
            .values(
                collection=collection,
                key=key,
                request=answer.request,
                answer=answer.answer,
                created_at=now_micros(),
            )
        )

    def prune(self, collection: int, seq: int) -> None:
        """Forget the change log of a collection up to and including `seq`."""
        self.connection.execute(
            delete(changes).where(changes.c.collection == collection, changes.c.seq <= seq)
        )
        self.connection.execute(
            update(collections)
            .where(collections.c.key == collection, collections.c.log_start < seq)
            .values(log_start=seq)
        )

    def purge(self, rows: int) -> bool:
        """Delete up to `rows` rows that nothing can reach any more; return whether some remain."""
        budget = rows
        forgotten = (
            select(idempotency.c.collection, idempotency.c.key)
            .where(idempotency.c.created_at <= now_micros() - REMEMBERED_MICROS)
            .limit(budget)
        )
        for collection, key in self.connection.execute(forgotten).all():
            self.connection.execute(
                delete(idempotency).where(
                    idempotency.c.collection == collection, idempotency.c.key == key
                )
            )
            budget -= 1
        budget -= purge_jobs(self.connection, budget)
        dead = select(collections.c.key).where(collections.c.name.is_(None))
        for collection in self.connection.execute(dead).scalars().all():
            for table in (
                anchor_metadata,
                changes,
                corrections,
                feedback,
                idempotency,
                vectors,
                anchors,
            ):
                if budget <= 0:
                    return True
                budget -= self._purge_table(table.name, collection, budget)
            if budget > 0:
                self.connection.execute(delete(collections).where(collections.c.key == collection))
        return budget <= 0

    def _purge_table(self, table: str, collection: int, rows: int) -> int:
        keys = {
            "anchor_metadata": "collection, key, value, seq",
            "corrections": "collection",
            "feedback": "collection, id",
            "idempotency": "collection, key",
        }.get(table, "seq")
        return self.connection.exec_driver_sql(
            f"DELETE FROM {table} WHERE ({keys}) IN "  # noqa: S608 - names from this file only
            f"(SELECT {keys} FROM {table} WHERE collection = ? LIMIT ?)",
            (collection, rows),
        ).rowcount
