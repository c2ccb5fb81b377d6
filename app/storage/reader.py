"""Point reads, the same on a connection of their own and inside a write transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, bindparam, func, intersect, literal_column, select

from app.domain.anchors import Anchor, Change, Collection, Filter, canonical_json
from app.domain.cut_offs import IDENTITY, Correction
from app.domain.errors import CollectionNotFound
from app.domain.ports import EQUAL_TEXTS, Found, SelectedSince
from app.domain.recalibration import Fitted, same_base_rate
from app.storage.rows import anchors_of, to_anchor, to_collection, to_datetime, to_vector
from app.storage.schema import (
    anchor_metadata,
    anchors,
    changes,
    collections,
    corrections,
    encoders,
    vectors,
)

# Below SQLite's smallest limit on the variables of a statement in common builds.
IN_LIMIT = 900

# One row of JSON instead of a row an anchor: sqlite3 lets go of the interpreter lock for every row,
# and under load takes as long to get it back as all else.
_READ = """
SELECT json_group_array(json_array(
    seq, id, text, label, metadata, hex(fingerprint), truncated, created_at, updated_at))
FROM anchors WHERE seq IN (
    SELECT value FROM json_each(:seqs)
    {equal})
"""
_EQUAL = """
    UNION ALL SELECT seq FROM (
        SELECT seq FROM anchors WHERE collection = :collection AND fingerprint = :mark{number}
        ORDER BY seq LIMIT {limit})
"""
# What of the candidates is gone, as the log tells it: most often it has no row, where looking for
# each candidate would read them all. One row more than the limit says that there are too many.
_REMOVED = """
SELECT
    (SELECT log_start FROM collections WHERE key = :collection AND name IS NOT NULL),
    (SELECT json_group_array(removed) FROM (
        SELECT removed FROM changes
        WHERE collection = :collection AND seq > :since AND removed IS NOT NULL
        LIMIT {limit} + 1)),
    ({read})
"""
REMOVED_LIMIT = 1_000
_EXISTS = "SELECT count(*) FROM collections WHERE key = ? AND name IS NOT NULL"

# `changes_by_collection` ends in seq, so both look at no more of the log than what is new.
NEW_CHANGES = """
SELECT log_start, (SELECT count(*) FROM changes WHERE collection = key AND seq > :since)
FROM collections WHERE key = :collection
"""
GONE = """
SELECT removed FROM changes WHERE collection = :collection AND seq > :since AND removed IS NOT NULL
"""

FINGERPRINTS_OF = (
    "SELECT seq, fingerprint FROM anchors WHERE seq IN (SELECT value FROM json_each(?))"
)
LABELS_OF = "SELECT seq, label FROM anchors WHERE seq IN (SELECT value FROM json_each(?))"

_T = TypeVar("_T")

# Built once: composing a statement costs more than running it.
_BY_SEQ = select(anchors).where(anchors.c.seq.in_(bindparam("seqs", expanding=True)))
_BY_ID = select(anchors).where(
    anchors.c.collection == bindparam("collection"),
    anchors.c.id.in_(bindparam("ids", expanding=True)),
)
_BY_FINGERPRINT = (
    select(anchors)
    .where(
        anchors.c.collection == bindparam("collection"),
        anchors.c.fingerprint == bindparam("mark"),
    )
    .order_by(anchors.c.seq)
    .limit(EQUAL_TEXTS)
)
_LABEL: Any = anchors.c.label
_LABEL_UNINDEXED: Any = literal_column("+anchors.label")
_COLLECTIONS = select(
    collections,
    corrections.c.intercept,
    corrections.c.slope,
    corrections.c.encoder,
    corrections.c.base_rate,
).join(corrections, corrections.c.collection == collections.c.key, isouter=True)
_BY_NAME = _COLLECTIONS.where(collections.c.name == bindparam("name"))
_CORRECTION = (
    select(corrections, encoders.c.fingerprint)
    .join(encoders, encoders.c.id == corrections.c.encoder)
    .where(corrections.c.collection == bindparam("collection"))
)


@lru_cache(maxsize=64)
def found_statement(fingerprints: int) -> str:
    """Return what reads anchors by seq and by so many fingerprints; one statement is one moment."""
    equal = [_EQUAL.format(number=n, limit=EQUAL_TEXTS) for n in range(fingerprints)]
    return _READ.format(equal="".join(equal))


@lru_cache(maxsize=64)
def found_and_removed_statement(fingerprints: int) -> str:
    """Return what reads as `found_statement`, behind where the log starts and what it removed."""
    return _REMOVED.format(limit=REMOVED_LIMIT, read=found_statement(fingerprints))


def found_asked(
    collection: int, seqs: Sequence[int], fingerprints: Sequence[bytes], since: int
) -> dict[str, Any]:
    """Return the parameters of `found_statement` and of `found_and_removed_statement`."""
    marks = {f"mark{number}": mark for number, mark in enumerate(fingerprints)}
    return {"collection": collection, "seqs": str(list(seqs)), "since": since, **marks}


def chunks(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    """Yield `items` in slices of `size`, the last one shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


class Reader:
    """Implements `app.domain.ports.AnchorReader` over whatever connection it is given.

    connect: opens a connection for one read, or hands out the transaction's.
    encoder: the number, in this database, of the encoder that the store is opened for.
    """

    def __init__(
        self, connect: Callable[[], AbstractContextManager[Connection]], encoder: int
    ) -> None:
        self._encoder = encoder
        self._connect = connect

    def collection(self, name: str) -> Collection:
        """Return a collection. Raises CollectionNotFound."""
        with self._connect() as connection:
            row = connection.execute(_BY_NAME, {"name": name}).one_or_none()
        if row is None:
            raise CollectionNotFound(name)
        return self._to_collection(row)

    def collections(self) -> list[Collection]:
        """Return every collection, by name."""
        query = _COLLECTIONS.where(collections.c.name.is_not(None))
        with self._connect() as connection:
            rows = connection.execute(query.order_by(collections.c.name)).all()
        return [self._to_collection(row) for row in rows]

    def _to_collection(self, row: Any) -> Collection:
        found = to_collection(row, IDENTITY)
        if row.encoder is None or row.encoder != self._encoder:
            return found
        if not same_base_rate(row.base_rate, found.settings.base_rate):
            return found
        return replace(found, correction=Correction(row.intercept, row.slope))

    def correction(self, collection: int) -> Fitted | None:
        """Return a collection's correction, whichever encoder it was fitted for."""
        with self._connect() as connection:
            row = connection.execute(_CORRECTION, {"collection": collection}).one_or_none()
        if row is None:
            return None
        return Fitted(
            Correction(row.intercept, row.slope),
            row.duplicates,
            row.distincts,
            row.fingerprint,
            to_datetime(row.fitted_at),
            row.base_rate,
        )

    def by_seq(self, seqs: Sequence[int]) -> dict[int, Anchor]:
        """Return the versions that still stand, by seq."""
        rows: list[Any] = []
        with self._connect() as connection:
            for part in chunks(seqs, IN_LIMIT):
                rows += connection.execute(_BY_SEQ, {"seqs": part}).all()
        return {row[0]: to_anchor(row) for row in rows}

    def found(
        self,
        collection: int,
        seqs: Sequence[int],
        fingerprints: Sequence[bytes],
        near: AbstractSet[int],
        since: int,
    ) -> Found | None:
        """Return what `by_seq` and `by_fingerprint` of each would, and what is gone, of one moment.

        Each candidate is looked for; those with one of the fingerprints are read too. None where
        the collection is deleted.
        """
        statement = found_statement(len(fingerprints))
        asked = found_asked(collection, seqs, fingerprints, since)
        with self._connect() as connection:
            if not connection.exec_driver_sql(_EXISTS, (collection,)).scalar_one():
                return None
            (rows,) = connection.exec_driver_sql(statement, asked).one()
            query = (str(list(near)),)
            looked_at = connection.exec_driver_sql(FINGERPRINTS_OF, query).all()
            standing = {seq: mark for seq, mark in looked_at}  # noqa: C416 - no plain tuples
            alike = [seq for seq, mark in standing.items() if mark in fingerprints]
            (more,) = connection.exec_driver_sql(
                found_statement(0), found_asked(collection, alike, (), since)
            ).one()
        anchors = {anchor.seq: anchor for anchor in anchors_of(rows) + anchors_of(more)}
        return Found(anchors, frozenset(near - standing.keys()))

    def by_id(self, collection: int, ids: Sequence[str]) -> dict[str, Anchor]:
        """Return the anchors that exist, by id."""
        rows: list[Any] = []
        with self._connect() as connection:
            for part in chunks(ids, IN_LIMIT):
                rows += connection.execute(_BY_ID, {"collection": collection, "ids": part}).all()
        found = [to_anchor(row) for row in rows]
        return {anchor.id: anchor for anchor in found}

    def by_fingerprint(self, collection: int, fingerprint: bytes) -> list[Anchor]:
        """Return the anchors of equal canonical text, the oldest version first, 100 at most."""
        with self._connect() as connection:
            rows = connection.execute(
                _BY_FINGERPRINT, {"collection": collection, "mark": fingerprint}
            ).all()
        return [to_anchor(row) for row in rows]

    def select(
        self, collection: int, where: Filter, *, limit: int | None, after: int
    ) -> tuple[NDArray[np.int64], list[Change]]:
        """Return seqs that `where` admits, and the changes after `after`, of one moment."""
        query = _selection(collection, where).limit(limit)
        with self._connect() as connection:
            seqs = connection.execute(query).scalars().all()
            changes = changes_after(connection, collection, after)
        return np.sort(_seqs(seqs)), changes

    def select_since(
        self, collection: int, where: Filter, since: int, *, limit: int, after: int
    ) -> SelectedSince | None:
        """Return what has come and gone since a selection that held all changes up to `since`.

        None where the log no longer reaches back so far, or more than `limit` changes came.
        """
        asked = {"collection": collection, "since": since}
        with self._connect() as connection:
            found = connection.exec_driver_sql(NEW_CHANGES, asked).one_or_none()
            if found is None or found[0] > since or found[1] > limit:
                return None
            nothing = np.empty(0, dtype=np.int64)
            if not found[1] and after >= since:
                return SelectedSince(nothing, nothing, [])
            newer = changes_after(connection, collection, after)
            if not found[1]:
                return SelectedSince(nothing, nothing, newer)
            gone = connection.exec_driver_sql(GONE, asked).scalars().all()
            come = connection.execute(_selection(collection, where, since)).scalars().all()
        return SelectedSince(_seqs(gone), np.sort(_seqs(come)), newer)

    def labels_of(self, seqs: Sequence[int]) -> dict[int, str | None]:
        """Return the label of each version that still stands, None of one without."""
        with self._connect() as connection:
            rows = connection.exec_driver_sql(LABELS_OF, (str(list(seqs)),)).all()
        return {seq: label for seq, label in rows}  # noqa: C416 - rows are no plain tuples

    def labelled(
        self, collection: int, where: Filter, *, limit: int | None, after: int
    ) -> tuple[dict[int, str], list[Change]]:
        """Return labels that `where` admits, and the changes after `after`, of one moment."""
        query = select(anchors.c.seq, anchors.c.label).where(
            anchors.c.collection == collection, anchors.c.label.is_not(None)
        )
        if where:
            query = query.where(anchors.c.seq.in_(_selection(collection, where)))
        with self._connect() as connection:
            rows = connection.execute(query.limit(limit)).all()
            changes = changes_after(connection, collection, after)
        return {seq: label for seq, label in rows if label is not None}, changes

    def page(
        self, collection: int, *, label: str | None, after: str | None, limit: int
    ) -> list[Anchor]:
        """Return anchors in the order of their ids, from the first id greater than `after`."""
        query = select(anchors).where(anchors.c.collection == collection)
        if label is not None:
            query = query.where(anchors.c.label == label)
        if after is not None:
            query = query.where(anchors.c.id > after)
        with self._connect() as connection:
            rows = connection.execute(query.order_by(anchors.c.id).limit(limit)).all()
        return [to_anchor(row) for row in rows]

    def count(self, collection: int) -> tuple[int, int]:
        """Return how many anchors and how many distinct labels a collection holds."""
        query = select(func.count(), func.count(anchors.c.label.distinct())).where(
            anchors.c.collection == collection
        )
        with self._connect() as connection:
            return connection.execute(query).one()


def changes_after(connection: Connection, collection: int, seq: int) -> list[Change]:
    """Return what the log has after a seq, ascending, versions gone since without a vector."""
    query = (
        select(changes.c.seq, changes.c.removed, vectors.c.vector)
        .join(vectors, vectors.c.seq == changes.c.seq, isouter=True)
        .where(changes.c.collection == collection, changes.c.seq > seq)
        .order_by(changes.c.seq)
    )
    return [
        Change(seq, removed, None if vector is None else to_vector(vector))
        for seq, removed, vector in connection.execute(query)
    ]


def _seqs(found: Sequence[int]) -> NDArray[np.int64]:
    return np.array(found, dtype=np.int64)


def _selection(collection: int, where: Filter, since: int | None = None) -> Select[int] | Any:
    """Return the query of the seqs that `where` admits, of those after `since` if it is given."""
    parts: list[Select[Any]] = []
    if where.label is not None or not where.metadata:
        part, label = select(anchors.c.seq).where(anchors.c.collection == collection), _LABEL
        if since is not None:
            # By way of the log, which the index on its collection ends after a few entries; a plus
            # keeps SQLite from the index on labels, which leads through all anchors of one.
            part = (
                select(changes.c.seq)
                .join(anchors, anchors.c.seq == changes.c.seq)
                .where(changes.c.collection == collection, changes.c.seq > since)
            )
            label = _LABEL_UNINDEXED
        parts.append(part if where.label is None else part.where(label == where.label))
    for key, value in where.metadata.items():
        part = select(anchor_metadata.c.seq).where(
            anchor_metadata.c.collection == collection,
            anchor_metadata.c.key == key,
            anchor_metadata.c.value == canonical_json(value),
        )
        parts.append(part if since is None else part.where(anchor_metadata.c.seq > since))
    return parts[0] if len(parts) == 1 else intersect(*parts)
