"""Vectors of texts asked lately: popular questions are asked again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from app.domain.ports import Encoded, Encoder


class CachedEncoder:
    """An encoder that remembers single texts, by their exact characters.

    Several texts at once are an import or a batch: they pass through and push nothing out.
    size: how many vectors are kept, 0 for none.
    """

    def __init__(self, encoder: Encoder, size: int) -> None:
        self._encoder = encoder
        self._one = lru_cache(maxsize=size)(lambda text: encoder.encode([text]))

    @property
    def name(self) -> str:
        """Return the name of its artifact."""
        return self._encoder.name

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of its manifest."""
        return self._encoder.fingerprint

    @property
    def dimension(self) -> int:
        """Return the length of a vector."""
        return self._encoder.dimension

    @property
    def max_tokens(self) -> int:
        """Return how many tokens of a text it reads, special ones included."""
        return self._encoder.max_tokens

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Return the vectors of `texts`; the arrays are shared and must not be written to."""
        return self._one(texts[0]) if len(texts) == 1 else self._encoder.encode(texts)
