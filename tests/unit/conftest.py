"""Fixtures of the unit tests."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.index.faiss_index import FaissIndex
from tests.unit.index_parts import DIMENSION


@pytest.fixture
def open_index(tmp_path: Path) -> Iterator[Callable[..., FaissIndex]]:
    """Return a function that opens an index on one folder, with options; all are closed after."""
    indexes: list[FaissIndex] = []

    def open_one(**options: Any) -> FaissIndex:
        settings: dict[str, Any] = {
            "encoder": "an encoder",
            "store": "a database",
            "dimension": DIMENSION,
        }
        settings |= {"folder": tmp_path / "index", "merge_least": 50, "merge_most": 100}
        settings |= {"quiet_after": math.inf}
        indexes.append(FaissIndex(**(settings | options)))
        return indexes[-1]

    yield open_one
    for index in indexes:
        index.close()
