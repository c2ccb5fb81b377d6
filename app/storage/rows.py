"""Between rows and the domain's words."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from app.domain.anchors import (
    Anchor,
    Collection,
    CollectionSettings,
    Metadata,
    canonical_json,
)
from app.domain.cut_offs import Correction

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now_micros() -> int:
    """Return microseconds since 1970."""
    return time.time_ns() // 1000


# Anchors of one request have one moment, and a lookup finds many of them.
@lru_cache(maxsize=1024)
def to_datetime(micros: int) -> datetime:
    """Return the moment, in UTC, without the rounding of float seconds."""
    return _EPOCH + timedelta(microseconds=micros)


def to_micros(moment: datetime) -> int:
    """Return microseconds since 1970, without the rounding of float seconds."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def to_anchor(row: Any) -> Anchor:
    """Return the anchor of a row of the anchors table, its columns in the table's order."""
    seq, _collection, anchor_id, text, label, metadata, mark, truncated, created, updated = row
    return Anchor(
        seq,
        anchor_id,
        text,
        label,
        to_metadata(metadata),
        mark,
        bool(truncated),
        to_datetime(created),
        to_datetime(updated),
    )


def anchors_of(text: str) -> list[Anchor]:
    """Return the anchors of a JSON array of rows, without the collection's column.

    Metadata stands in it as text: orjson would make floats of whole numbers beyond 64 bits.
    """
    return [
        Anchor(
            seq,
            anchor_id,
            text,
            label,
            to_metadata(metadata),
            bytes.fromhex(mark),
            bool(truncated),
            to_datetime(created),
            to_datetime(updated),
        )
        for (
            seq,
            anchor_id,
            text,
            label,
            metadata,
            mark,
            truncated,
            created,
            updated,
        ) in orjson.loads(text)
    ]


def to_collection(row: Any, correction: Correction) -> Collection:
    """Return the collection of a row of the collections table, with its correction."""
    return Collection(
        row.key,
        row.name,
        to_settings(row.settings),
        to_datetime(row.created_at),
        to_datetime(row.updated_at),
        correction,
    )


def to_settings(written: str) -> CollectionSettings:
    """Return what `settings_to_json` has written."""
    return CollectionSettings(**json.loads(written))


def settings_to_json(settings: CollectionSettings) -> str:
    """Return what `to_settings` reads back."""
    return json.dumps(asdict(settings))


def to_metadata(written: str) -> Metadata:
    """Return what `metadata_to_json` has written: whole numbers of any size among it."""
    return {} if written == "{}" else json.loads(written)


def metadata_to_json(metadata: Metadata) -> str:
    """Return metadata as it was given: the same numbers, in the same order."""
    return json.dumps(metadata, ensure_ascii=False, separators=(",", ":"))


def metadata_entries(metadata: Metadata) -> list[tuple[str, str]]:
    """Return (key, canonical JSON of the value) of what a filter can ask for: scalar values."""
    return [
        (key, canonical_json(value))
        for key, value in metadata.items()
        if value is None or isinstance(value, str | int | float | bool)
    ]


def to_vector(blob: bytes) -> NDArray[np.float16]:
    """Return (dim,) float16 from its bytes, little-endian."""
    return np.frombuffer(blob, dtype="<f2")


def to_blob(vector: NDArray[np.float16]) -> bytes:
    """Return the bytes that `to_vector` reads."""
    return vector.astype("<f2", copy=False).tobytes()
