"""What counts as the same text."""

from __future__ import annotations

import hashlib
import unicodedata

# Marks that end a sentence or trail after it, in the scripts people ask questions in.
_END_PUNCTUATION = ".?!,;:…‥。？！，；：、؟؛۔।॥‽"  # noqa: RUF001 - look-alikes are the point


def canonical_form(text: str) -> str:
    """Return `text` with the differences removed that never change what is asked.

    Unicode NFKC, case folding, runs of white space to one space, end punctuation dropped. A text
    of nothing but punctuation keeps it, so that "?" and "!" stay apart.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    spaced = " ".join(folded.split())
    return spaced.rstrip(_END_PUNCTUATION + " ") or spaced


def fingerprint(text: str) -> bytes:
    """Return 16 bytes that are equal for texts of equal canonical form (BLAKE2b)."""
    return hashlib.blake2b(canonical_form(text).encode(), digest_size=16).digest()
