"""What the fields of a row may hold: texts, labels of pairs, labels of classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from app.importing.rows import LONGEST_TEXT
from training.errors import PairsError
from training.tables import Table

NONE_LABEL = "NO_NODES_DETECTED"
"""The label of texts that belong to none of the classes."""

PAIR_COLUMNS = (("text1", "text2", "label"), ("question1", "question2", "is_duplicate"))
GROUP_COLUMNS = ("text", "label")

Unfit = Literal["blank", "over-long"]

_FLAGS: Mapping[object, bool] = {"0": False, "1": True, 0: False, 1: True}


def labelled_rows(table: Table) -> Iterator[tuple[int, str, str, str]]:
    """Give line, text, label and split of each row; label and split are "" where there is none."""
    has_split = "split" in table.names
    for line, values in table.read([*GROUP_COLUMNS, "split"] if has_split else GROUP_COLUMNS):
        text = as_text(table, line, values[0])
        label, split = (
            "" if value is None else str(value).strip()
            for value in (values[1], values[2] if has_split else None)
        )
        yield line, text, label, split


def need_columns(table: Table, columns: Iterable[str], others: str = "") -> None:
    """Raise PairsError unless the table has the columns; others: what would do as well."""
    if not set(columns) <= set(table.names):
        needed = others + ", ".join(columns)
        held = ", ".join(table.names)[:200]
        raise PairsError(table.path, f"needs the columns {needed}; its first line names {held!r}")


def pair_columns(table: Table) -> tuple[str, ...] | None:
    """Return the names of text, text and label, None of a table of labelled groups.

    Raises PairsError where it holds neither.
    """
    for columns in PAIR_COLUMNS:
        if set(columns) <= set(table.names):
            return columns
    need_columns(table, GROUP_COLUMNS, f"{', '.join(PAIR_COLUMNS[0])} or ")
    return None


def as_text(table: Table, line: int, value: object) -> str:
    """Return a text without outer white space. Raises PairsError unless it is a string."""
    if not isinstance(value, str):
        raise table.wrong(line, f"a text is {value!r}, not a string")
    return value.strip()


def as_flag(table: Table, line: int, column: str, value: Any) -> bool:
    """Return whether a field is 1, or JSON's true. Raises PairsError unless it is that or 0."""
    try:
        return _FLAGS[value]
    except (KeyError, TypeError):
        raise table.wrong(line, f"{column} is {value!r}, not 0 or 1") from None


def unfit(text: str) -> Unfit | None:
    """Return why a stripped text is of no use, None where it is."""
    if not text:
        return "blank"
    return "over-long" if len(text) > LONGEST_TEXT else None
