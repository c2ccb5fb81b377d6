"""Forms of one word brought together."""

from __future__ import annotations


def stem_of(plain: str) -> str:
    """Return a word without the endings of number and tense, and without a last e."""
    if len(plain) <= 3:
        return plain
    for ending, instead in (
        ("ies", "y"),
        ("ied", "y"),
        ("sses", "ss"),
        ("ations", "at"),
        ("ation", "at"),
        ("ings", ""),
        ("ing", ""),
        ("ed", ""),
        ("es", ""),
        ("ly", ""),
        ("s", ""),
    ):
        if plain.endswith(ending) and len(plain) - len(ending) + len(instead) >= 3:
            if ending == "s" and plain.endswith(("ss", "us", "is")):
                break
            plain = plain[: -len(ending)] + instead
            break
    if len(plain) > 3 and plain[-1] == plain[-2] and plain[-1] not in "aeiouls":
        plain = plain[:-1]
    return plain[:-1] if len(plain) > 3 and plain[-1] == "e" else plain
