"""Records as anchors within the contract's limits, or as bad lines with a reason."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from app.importing.records import BadLine, Record, Records, UnusableFile, shown

if TYPE_CHECKING:
    from app.client_types import AnchorDraft

LONGEST_TEXT = 4000
LONGEST_LABEL = 200
LARGEST_METADATA = 8 * 1024
ANCHOR_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")

_OWN_FIELDS = ("created_at", "updated_at", "truncated")


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column (or key of a JSON object) holds what.

    id, label: None means the column of that name where there is one.
    metadata: columns that become metadata, each under its own name.
    other_as_metadata: whether every column that is nothing else becomes metadata too.
    """

    text: str = "text"
    id: str | None = None
    label: str | None = None
    metadata: tuple[str, ...] = ()
    other_as_metadata: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """An anchor to send.

    line, last_line: where it stands in the file, from 1.
    size: bytes of its JSON.
    """

    line: int
    last_line: int
    anchor: AnchorDraft
    size: int


class _Wrong(Exception):
    """A field breaks a limit."""


class RowReader:
    """The rows of a file. Raises UnusableFile where its header lacks a column asked for."""

    def __init__(self, name: str, records: Records, columns: Columns) -> None:
        self._records = records
        self._columns = columns
        self._from_header = records.names is not None
        if records.names is not None:
            wanted = [columns.text, columns.id, columns.label, *columns.metadata]
            missing = [column for column in wanted if column and column not in records.names]
            if missing:
                raise UnusableFile(
                    f"{name}: no column {shown(missing)}; it has {shown(records.names)}"
                )

    def __iter__(self) -> Iterator[Row | BadLine]:
        """Yield every row of the file, in its order."""
        return self.after(0)

    def after(self, line: int) -> Iterator[Row | BadLine]:
        """Yield the rows that end after a line, without looking at those before."""
        for record in self._records:
            if record.last_line <= line:
                continue
            yield record if isinstance(record, BadLine) else self._row(record)

    def _row(self, record: Record) -> Row | BadLine:
        try:
            anchor = self._anchor(record.fields)
            size = len(_json_bytes(anchor, "a field"))
        except _Wrong as wrong:
            return BadLine(record.line, record.last_line, str(wrong))
        return Row(record.line, record.last_line, cast("AnchorDraft", anchor), size)

    def _anchor(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        columns = self._columns
        anchor: dict[str, Any] = {"text": _text(fields.get(columns.text), columns.text)}
        anchor_id = self._name(fields, columns.id or "id")
        if anchor_id is not None:
            if not ANCHOR_ID.fullmatch(anchor_id):
                raise _Wrong(
                    f"id {anchor_id[:40]!r} is not 1 to 128 of A-Z a-z 0-9 . _ : - "
                    "that begin with a letter or digit"
                )
            anchor["id"] = anchor_id
        label = self._name(fields, columns.label or "label")
        if label is not None:
            if not 1 <= len(label) <= LONGEST_LABEL:
                raise _Wrong(
                    f"label of {len(label):,} characters; 1 to {LONGEST_LABEL} are allowed"
                )
            anchor["label"] = label
        metadata = self._metadata(fields)
        # The service counts a space after each comma and colon.
        size = len(_json_bytes(metadata, "metadata", (", ", ": ")))
        if size > LARGEST_METADATA:
            raise _Wrong(f"metadata of {size:,} bytes; {LARGEST_METADATA:,} are allowed")
        if metadata:
            anchor["metadata"] = metadata
        return anchor

    def _name(self, fields: Mapping[str, Any], column: str) -> str | None:
        """Return an id or a label; a table's empty field and JSON's null are none."""
        value = fields.get(column)
        if value is None or (value == "" and self._from_header):
            return None
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            raise _Wrong(f"{column} is not a string")
        return value

    def _metadata(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        columns = self._columns
        metadata: dict[str, Any] = {}
        if not self._from_header and fields.get("metadata") is not None:
            if not isinstance(fields["metadata"], dict):
                raise _Wrong("metadata is not an object")
            metadata.update(fields["metadata"])
        chosen = columns.metadata
        if columns.other_as_metadata:
            taken = {columns.text, columns.id or "id", columns.label or "label"}
            if not self._from_header:
                taken.update(("metadata", *_OWN_FIELDS))
            chosen += tuple(name for name in fields if name not in taken and name not in chosen)
        for name in chosen:
            value = fields.get(name)
            if value is not None and not (value == "" and self._from_header):
                metadata[name] = value
        return metadata


def _text(value: object, column: str) -> str:
    if value is None:
        raise _Wrong(f"no {column}")
    if not isinstance(value, str):
        raise _Wrong(f"{column} is not a string")
    length = len(value.strip())
    if length == 0:
        raise _Wrong(f"{column} is blank")
    if length > LONGEST_TEXT:
        raise _Wrong(f"{column} of {length:,} characters; {LONGEST_TEXT:,} are allowed")
    return value


def _json_bytes(value: object, what: str, separators: tuple[str, str] = (",", ":")) -> bytes:
    try:
        return json.dumps(
            value, ensure_ascii=False, allow_nan=False, separators=separators
        ).encode()
    except UnicodeEncodeError as error:
        raise _Wrong(f"{what} holds half of a surrogate pair") from error
    except (ValueError, RecursionError) as error:
        raise _Wrong(f"{what} holds what JSON cannot carry") from error
