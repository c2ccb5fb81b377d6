from __future__ import annotations

import uuid

from app.usecases.register import new_id


def test_ids_are_uuids_of_version_7_that_sort_by_time() -> None:
    """RFC 9562: 48 bits of milliseconds first; ids made in one millisecond differ all the same."""
    made = [new_id() for _ in range(2_000)]
    parsed = [uuid.UUID(text) for text in made]
    assert {(one.version, one.variant) for one in parsed} == {(7, uuid.RFC_4122)}
    millis = [one.int >> 80 for one in parsed]
    assert millis == sorted(millis)
    assert len(set(made)) == 2_000
