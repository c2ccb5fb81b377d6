"""Cursors: where the next page begins, in a form that invites nobody to build one."""

from __future__ import annotations

import base64
import binascii

from app.domain.errors import InvalidField


def write_cursor(last_id: str) -> str:
    """Return the cursor of the page after an id."""
    return base64.urlsafe_b64encode(last_id.encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> str:
    """Return the id after which a page begins. Raises InvalidField."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise InvalidField(
            ("query", "cursor"), "is not a cursor; take next_cursor of the page before"
        ) from None
