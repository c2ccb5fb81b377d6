"""Values as they are written in a model card."""

from __future__ import annotations


def line(value: object) -> str:
    """Return a value on one line, nothing for none."""
    return " ".join(str(value or "").split())


def cell(value: object) -> str:
    """Return a value that cannot break the table it stands in."""
    # A bar would end the cell, a backtick its code.
    return line(value).replace("|", "\\|").replace("`", "'")
