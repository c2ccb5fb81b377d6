"""What the tests of the index share: small random vectors, changes, and the right answers."""

import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.domain.anchors import Change
from app.index.faiss_index import FaissIndex
from app.index.memory import MemoryIndex

DIMENSION = 16
SOON = 20.0  # seconds; a test that needs them has failed


def vectors(count: int, seed: int = 0) -> NDArray[np.float16]:
    """Return random unit vectors, (count, DIMENSION) float16."""
    drawn = np.random.default_rng(seed).standard_normal((count, DIMENSION))
    unit: NDArray[np.float64] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit.astype(np.float16)


QUESTIONS = vectors(20, seed=99).astype(np.float32)


def adding(first: int, count: int, seed: int | None = None) -> list[Change]:
    """Return changes first..first+count-1, each of which adds a vector."""
    rows = vectors(count, seed=first if seed is None else seed)
    return [Change(first + place, None, row) for place, row in enumerate(rows)]


def deleting(first: int, removed: range) -> list[Change]:
    """Return changes from `first` on that delete these versions."""
    return [Change(first + place, seq, None) for place, seq in enumerate(removed)]


class Gate:
    """A pace that stops the background at its first step until it is let through."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self) -> None:
        """Say that the background is here, and wait."""
        self.reached.set()
        self.opened.wait(SOON)


def settle(index: FaissIndex, changes: list[Change]) -> None:
    """Apply changes to collection 1, and wait until the background has nothing left to do."""
    index.apply(1, changes)
    assert index.wait_idle(SOON)


def same_answers(index: FaissIndex, changes: list[Change], k: int = 10) -> bool:
    """Return whether collection 1 answers as if `changes` were all that ever happened to it."""
    expected = MemoryIndex(DIMENSION)
    expected.apply(1, changes)
    return len(index.view(1)) == len(expected.view(1)) and all(
        np.array_equal(
            index.view(1).search(question, k).seqs, expected.view(1).search(question, k).seqs
        )
        for question in QUESTIONS
    )


def folders(root: Path, collection: int = 1) -> list[Path]:
    return sorted((root / "index" / str(collection)).glob("*"))
