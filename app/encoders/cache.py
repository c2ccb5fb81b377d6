"""Vectors of texts asked lately: popular questions are asked again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from app.domain.ports import Encoded, Encoder

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Entry = tuple["NDArray[np.float32]", int, bool]


class CachedEncoder:
    """An encoder that remembers texts, by their exact characters.

    size: how many vectors are kept, the least recently asked making room; 0 keeps none.
    """

    def __init__(self, encoder: Encoder, size: int) -> None:
        self._encoder = encoder
        self._size = size
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._guard = threading.Lock()

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
        """Return the vectors of `texts`, encoding only those that are not remembered."""
        known = self._recall(texts)
        new = list(dict.fromkeys(text for text in texts if text not in known))
        if new:
            encoded = self._encoder.encode(new)
            fresh = dict(
                zip(
                    new,
                    zip(encoded.vectors, encoded.tokens, encoded.truncated, strict=True),
                    strict=True,
                )
            )
            self._remember(fresh)
            if len(new) == len(texts):
                return encoded
            known |= fresh
        entries = [known[text] for text in texts]
        return Encoded(
            np.stack([vector for vector, _, _ in entries]),
            tuple(count for _, count, _ in entries),
            tuple(cut for _, _, cut in entries),
        )

    def encode_each(self, lists: Sequence[Sequence[str]]) -> list[Encoded]:
        """Return what `encode` returns for each list, all of them encoded together."""
        encoded = self.encode([text for texts in lists for text in texts])
        parts, start = [], 0
        for texts in lists:
            part = slice(start, start + len(texts))
            parts.append(
                Encoded(encoded.vectors[part], encoded.tokens[part], encoded.truncated[part])
            )
            start = part.stop
        return parts

    def _recall(self, texts: Sequence[str]) -> dict[str, _Entry]:
        known = {}
        with self._guard:
            for text in texts:
                entry = self._entries.get(text)
                if entry is not None:
                    self._entries.move_to_end(text)
                    known[text] = entry
        return known

    def _remember(self, fresh: dict[str, _Entry]) -> None:
        # Copies: a row would keep the whole batch's array alive. Made before the guard is taken, as
        # a thread that has stepped back may be interrupted while it holds it.
        kept = {text: (vector.copy(), count, cut) for text, (vector, count, cut) in fresh.items()}
        with self._guard:
            self._entries.update(kept)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)
