"""Stores under test, and what they are given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.domain.anchors import Draft, EncodedDraft, encoded_draft
from app.domain.ports import AnchorStore
from app.storage.memory import MemoryAnchorStore
from app.storage.sqlite import SqliteAnchorStore

DIMENSION = 4


def memory(_folder: Path) -> AnchorStore:
    return MemoryAnchorStore("encoder-1")


def sqlite(folder: Path) -> AnchorStore:
    return SqliteAnchorStore(folder / "deja.db", "encoder-1")


@pytest.fixture(params=[memory, sqlite])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnchorStore]:
    made: AnchorStore = request.param(tmp_path)
    yield made
    made.close()


def draft(
    text: str, label: str | None = None, metadata: Mapping[str, Any] | None = None
) -> EncodedDraft:
    vector = np.random.default_rng(len(text)).normal(size=DIMENSION)
    vector /= np.linalg.norm(vector)
    return encoded_draft(Draft(text, None, label, metadata or {}), vector, truncated=False)


def default(store: AnchorStore) -> int:
    return store.collection("default").key


def put(store: AnchorStore, **texts: str) -> list[int]:
    """Put anchors into the default collection; return their seqs."""
    with store.write() as rows:
        changes = rows.put(default(store), [(i, draft(text)) for i, text in texts.items()])
    return [change.seq for change in changes]
