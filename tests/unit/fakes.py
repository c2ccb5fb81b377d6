"""Stand-ins that implement the ports, for tests of what is built on them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from app.domain.anchors import Draft, EncodedDraft, encoded_draft
from app.domain.calibration import Calibration, CutOff
from app.domain.ports import Encoded

DIMENSION = 16

# P = 0.5 at a cosine of 0.7; a duplicate from 0.8 on, worth a look from 0.6 on.
CALIBRATION = Calibration(
    intercept=-14.0,
    slope=20.0,
    base_rate=0.4,
    population="made up",
    pairs=100,
    cut_offs_table=(CutOff(0.2, 0.5, 0.96), CutOff(0.8, 0.85, 0.6)),
)


class WordEncoder:
    """Gives texts with the same words the same direction: the sum of a vector for each word."""

    name = "words"
    fingerprint = "words-1"
    dimension = DIMENSION
    max_tokens = 32

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Return the vectors of `texts`."""
        self.calls.append(list(texts))
        counts = tuple(len(text.split()) for text in texts)
        vectors = np.stack([self._vector(text) for text in texts])
        return Encoded(vectors, counts, tuple(count > self.max_tokens for count in counts))

    def _vector(self, text: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        total = np.zeros(DIMENSION, np.float32)
        for word in text.lower().split():
            seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest())
            total += np.random.default_rng(seed).normal(size=DIMENSION).astype(np.float32)
        return total / np.float32(np.linalg.norm(total))

    def draft(
        self, text: str, anchor_id: str | None = None, label: str | None = None
    ) -> EncodedDraft:
        """Return an anchor of `text` with its vector."""
        encoded = self.encode([text])
        return encoded_draft(Draft(text, anchor_id, label), encoded.vectors[0], truncated=False)
