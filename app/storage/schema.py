"""The tables.

A version of an anchor is keyed by the `seq` of the change that wrote it, in every table: an update
deletes the old version and inserts the new one, so whoever holds a seq holds one text, one vector
and one label, or finds nothing.
"""

from __future__ import annotations

from sqlalchemy import (
    BLOB,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_VERSION = "1"

tables = MetaData()

# Facts about the database itself: schema, identity, last_seq.
meta = Table(
    "meta",
    tables,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_with_rowid=False,
)

encoders = Table(
    "encoders",
    tables,
    Column("id", Integer, primary_key=True),
    Column("fingerprint", Text, nullable=False, unique=True),
)

# name is NULL once the collection is deleted, until `purge` has removed its rows.
# log_start: the change log holds everything after this seq.
collections = Table(
    "collections",
    tables,
    Column("key", Integer, primary_key=True),
    Column("name", Text, unique=True),
    Column("settings", Text, nullable=False),
    Column("log_start", Integer, nullable=False, default=0),
    Column("created_at", Integer, nullable=False),
    Column("updated_at", Integer, nullable=False),
    sqlite_autoincrement=True,
)

# Times are microseconds since 1970, UTC.
anchors = Table(
    "anchors",
    tables,
    Column("seq", Integer, primary_key=True),
    Column("collection", Integer, nullable=False),
    Column("id", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("label", Text),
    Column("metadata", Text, nullable=False),
    Column("fingerprint", BLOB, nullable=False),
    Column("truncated", Boolean, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("updated_at", Integer, nullable=False),
    UniqueConstraint("collection", "id"),
    Index("anchors_by_fingerprint", "collection", "fingerprint"),
    Index("anchors_by_label", "collection", "label", "id"),
)

# Apart from anchors, so that reading texts does not read vectors and the other way round.
vectors = Table(
    "vectors",
    tables,
    Column("seq", Integer, primary_key=True),
    Column("collection", Integer, nullable=False),
    Column("encoder", Integer, nullable=False),
    Column("vector", BLOB, nullable=False),
    Index("vectors_by_encoder", "encoder", "collection"),
    Index("vectors_by_collection", "collection"),
)

# One row a scalar top-level metadata entry; value is canonical JSON.
anchor_metadata = Table(
    "anchor_metadata",
    tables,
    Column("collection", Integer, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("seq", Integer, primary_key=True),
    sqlite_with_rowid=False,
)

changes = Table(
    "changes",
    tables,
    Column("seq", Integer, primary_key=True),
    Column("collection", Integer, nullable=False),
    Column("removed", Integer),
    Column("added", Boolean, nullable=False),
    Index("changes_by_collection", "collection"),
)

idempotency = Table(
    "idempotency",
    tables,
    Column("collection", Integer, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request", BLOB, nullable=False),
    Column("answer", Text, nullable=False),
    Column("created_at", Integer, nullable=False),
    Index("idempotency_by_age", "created_at"),
)

# pair: the fingerprints of both texts; a pair has one verdict. It came with the first release that
# took feedback: opening an older database adds it.
feedback = Table(
    "feedback",
    tables,
    Column("collection", Integer, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("pair", BLOB, nullable=False),
    Column("question", Text, nullable=False),
    Column("anchor_id", Text, nullable=False),
    Column("anchor_text", Text, nullable=False),
    Column("duplicate", Boolean, nullable=False),
    Column("similarity", Float, nullable=False),
    Column("probability", Float, nullable=False),
    Column("encoder", Text, nullable=False),
    Column("conflicts", Integer, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("updated_at", Integer, nullable=False),
    UniqueConstraint("collection", "pair"),
)

# A collection's own correction of the calibration, for one encoder; added like feedback.
corrections = Table(
    "corrections",
    tables,
    Column("collection", Integer, primary_key=True),
    Column("intercept", Float, nullable=False),
    Column("slope", Float, nullable=False),
    Column("duplicates", Integer, nullable=False),
    Column("distincts", Integer, nullable=False),
    Column("encoder", Integer, nullable=False),
    Column("fitted_at", Integer, nullable=False),
    # See `Fitted`; a later column, added when an older database is opened.
    Column("base_rate", Float),
)
