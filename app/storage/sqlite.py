"""`AnchorStore` in a SQLite file."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import PoolProxiedConnection, bindparam, func, insert, select, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app.domain.anchors import Anchor, Change, Collection
from app.domain.errors import DataFolderError, StorageFailed
from app.domain.ports import EQUAL_TEXTS, Found
from app.storage import schema as tables
from app.storage.database import open_engine, plain_words
from app.storage.feedback import FeedbackReads
from app.storage.jobs import JobReader
from app.storage.reader import (
    REMOVED_LIMIT,
    Reader,
    changes_after,
    found_and_removed_statement,
    found_asked,
)
from app.storage.rows import anchors_of, to_anchor, to_blob, to_vector
from app.storage.transaction import Transaction

_VECTORS_BATCH = 2_000
# Each export that nobody reads holds this much.
_EXPORT_BATCH = 200


class SqliteAnchorStore(Reader, JobReader):
    """Anchors in one SQLite file, in WAL mode with full synchronisation.

    path: the database file, made if absent.
    encoder: the fingerprint of the encoder whose vectors it is given.

    Raises DatabaseDamaged or DataFolderError where the file cannot be used.
    """

    def __init__(self, path: Path, encoder: str) -> None:
        self._engine = open_engine(path)
        self._writing = self._engine.execution_options(deja_write=True)
        try:
            number = self._stamp(encoder)
        except DBAPIError as error:
            self._engine.dispose()
            raise DataFolderError(f"{path}: {plain_words(error)}") from error
        super().__init__(self._engine.connect, number)
        self.feedback = FeedbackReads(self._engine.connect)
        # Every lookup begins with its collection; asking SQL each time costs as much as the search.
        self._known: dict[str, Collection] = {}
        self._known_version = 0
        self._knowing = threading.Lock()
        self._own = threading.local()
        self._lent: list[PoolProxiedConnection] = []
        with self._engine.connect() as connection:
            self._identity: str = connection.execute(
                select(tables.meta.c.value).where(tables.meta.c.key == "identity")
            ).scalar_one()

    @property
    def identity(self) -> str:
        """Return a random name given when the database was made."""
        return self._identity

    def _stamp(self, fingerprint: str) -> int:
        with self._writing.begin() as connection:
            query = select(tables.encoders.c.id).where(tables.encoders.c.fingerprint == fingerprint)
            number: int | None = connection.execute(query).scalar_one_or_none()
            if number is None:
                connection.execute(insert(tables.encoders).values(fingerprint=fingerprint))
                number = connection.execute(query).scalar_one()
            assert number is not None
        return number

    def found(
        self,
        collection: int,
        seqs: Sequence[int],
        fingerprints: Sequence[bytes],
        near: AbstractSet[int],
        since: int,
    ) -> Found | None:
        """Return what `by_seq` and `by_fingerprint` of each would, and what is gone, of one moment.

        None where the collection is deleted.

        Every lookup comes here, so it goes to the driver itself, on a connection that the thread
        keeps: SQLAlchemy's way to and from one takes several times as long as the statement. And
        the log says what is gone; candidates are looked at only where it does not reach back, or
        where there are so many of a text that one of them may not be read by it.
        """
        try:
            connection = self._own.connection
        except AttributeError:
            connection = self._own.connection = self._lend()
        asked = found_asked(collection, seqs, fingerprints, since)
        statement = found_and_removed_statement(len(fingerprints))
        start, logged, rows = connection.execute(statement, asked).fetchone()
        if start is None:
            return None
        removed = json.loads(logged)
        anchors = {anchor.seq: anchor for anchor in anchors_of(rows)}
        marks = Counter(anchor.fingerprint for anchor in anchors.values())
        many = any(marks[mark] >= EQUAL_TEXTS for mark in fingerprints)
        if near and (start > since or len(removed) > REMOVED_LIMIT or many):
            return super().found(collection, seqs, fingerprints, near, since)
        return Found(anchors, frozenset(removed) & near)

    def _lend(self) -> sqlite3.Connection:
        """Return a connection for the calling thread, closed with the store."""
        pooled = self._engine.raw_connection()
        with self._knowing:
            self._lent.append(pooled)
        connection = pooled.driver_connection
        assert isinstance(connection, sqlite3.Connection)
        return connection

    def known(self, name: str) -> Collection | None:
        """Return a collection as `collection` does, or None where it would have to be read."""
        return self._known.get(name)

    def collection(self, name: str) -> Collection:
        """Return a collection. Raises CollectionNotFound."""
        known = self.known(name)
        if known is not None:
            return known
        version = self._known_version
        found = super().collection(name)
        with self._knowing:
            # Read before a commit that changed it, it must not be remembered after.
            if version == self._known_version:
                self._known[name] = found
        return found

    def _forget_collections(self) -> None:
        with self._knowing:
            self._known_version += 1
            self._known = {}

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Open a write transaction: committed and durable when left, rolled back if it raises.

        Raises StorageFailed where the database refuses.
        """
        try:
            with self._writing.begin() as connection:
                transaction = Transaction(connection, self._encoder, self.known)
                yield transaction
                transaction.finish()
        except (DBAPIError, sqlite3.Error) as error:
            raise StorageFailed(plain_words(error)) from error
        except SQLAlchemyError as error:
            raise StorageFailed(f"the database cannot be written now ({error})") from error
        if transaction.changed_collections:
            self._forget_collections()

    @contextmanager
    def read(self) -> Iterator[Reader]:
        """Open reads that all see one moment; leave it soon, as until then it is held."""
        with self._engine.connect() as connection:
            yield Reader(lambda: nullcontext(connection), self._encoder)

    def export(self, collection: int) -> Generator[list[Anchor], None, None]:
        """Yield all anchors of one moment, in batches, in the order of their ids."""
        query = (
            select(tables.anchors)
            .where(tables.anchors.c.collection == collection)
            .order_by(tables.anchors.c.id)
        )
        for rows in self._stream(query, _EXPORT_BATCH):
            yield [to_anchor(row) for row in rows]

    def vectors(self, collection: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
        """Yield all vectors of one moment, in batches, in ascending seq."""
        query = (
            select(tables.vectors.c.seq, tables.vectors.c.vector)
            .where(
                tables.vectors.c.collection == collection, tables.vectors.c.encoder == self._encoder
            )
            .order_by(tables.vectors.c.seq)
        )
        for rows in self._stream(query, _VECTORS_BATCH):
            seqs = np.array([row[0] for row in rows], dtype=np.int64)
            yield seqs, to_vector(b"".join(row[1] for row in rows)).reshape(len(rows), -1)

    def _stream(self, query: Any, batch: int) -> Generator[Sequence[Any], None, None]:
        with self._engine.connect() as connection:
            result = connection.execution_options(yield_per=batch).execute(query)
            yield from result.partitions()

    def changes(self, collection: int, after: int) -> list[Change] | None:
        """Return the changes after a seq, ascending; None where the log no longer reaches back."""
        with self._engine.connect() as connection:
            start = connection.execute(
                select(tables.collections.c.log_start).where(tables.collections.c.key == collection)
            ).scalar_one()
            if after < start:
                return None
            return changes_after(connection, collection, after)

    def last_seq(self) -> int:
        """Return the seq of the last change of any collection, 0 before the first."""
        with self._engine.connect() as connection:
            query = select(tables.meta.c.value).where(tables.meta.c.key == "last_seq")
            return int(connection.execute(query).scalar_one())

    def stale(self, limit: int) -> list[tuple[int, str]]:
        """Return (seq, text) of anchors whose vector another encoder made, `limit` at most."""
        query = (
            select(tables.anchors.c.seq, tables.anchors.c.text)
            .join(tables.vectors, tables.vectors.c.seq == tables.anchors.c.seq)
            .where(self._made_by_another())
            .limit(limit)
        )
        with self._engine.connect() as connection:
            return [(seq, text) for seq, text in connection.execute(query)]

    def count_stale(self) -> int:
        """Return how many anchors have a vector of another encoder."""
        query = select(func.count()).select_from(tables.vectors).where(self._made_by_another())
        with self._engine.connect() as connection:
            return connection.execute(query).scalar_one()

    def _made_by_another(self) -> Any:
        # Named one by one, so that the index on encoder is used.
        return tables.vectors.c.encoder.in_(
            select(tables.encoders.c.id).where(tables.encoders.c.id != self._encoder)
        )

    def replace_vectors(
        self, seqs: Sequence[int], vectors: NDArray[np.float16], truncated: Sequence[bool]
    ) -> None:
        """Store new vectors, (n, dim), of unchanged texts, stamped with this store's encoder."""
        rows = [
            {"b_seq": seq, "b_vector": to_blob(vector), "b_truncated": cut}
            for seq, vector, cut in zip(seqs, vectors, truncated, strict=True)
        ]
        with self.write() as transaction:
            connection = transaction.connection
            connection.execute(
                update(tables.vectors)
                .where(tables.vectors.c.seq == bindparam("b_seq"))
                .values(vector=bindparam("b_vector"), encoder=self._encoder),
                rows,
            )
            connection.execute(
                update(tables.anchors)
                .where(tables.anchors.c.seq == bindparam("b_seq"))
                .values(truncated=bindparam("b_truncated")),
                rows,
            )

    def close(self) -> None:
        """Close the database; no other thread may be using it."""
        for connection in self._lent:
            connection.close()
        self._engine.dispose()
