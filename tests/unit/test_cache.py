from __future__ import annotations

import numpy as np

from app.encoders.cache import CachedEncoder
from tests.unit.fakes import WordEncoder


def test_a_text_asked_again_is_not_encoded_again() -> None:
    """Exactly the same text, alone or among others; the answer is the same."""
    inner = WordEncoder()
    cached = CachedEncoder(inner, 10)
    first = cached.encode(["red green"])
    again = cached.encode(["blue", "red green", "blue", "Red green"])
    assert inner.calls == [["red green"], ["blue", "Red green"]]
    assert np.array_equal(again.vectors[1], first.vectors[0])
    expected = inner.encode(["blue", "red green", "blue", "Red green"])
    assert np.array_equal(again.vectors, expected.vectors)
    assert (again.tokens, again.truncated) == (expected.tokens, expected.truncated)


def test_the_least_recently_asked_makes_room() -> None:
    """Asking for a text again keeps it."""
    inner = WordEncoder()
    cached = CachedEncoder(inner, 2)
    for text in ("a", "b", "a", "c", "a", "b"):
        cached.encode([text])
    assert inner.calls == [["a"], ["b"], ["c"], ["b"]]


def test_a_cache_of_no_size_keeps_nothing() -> None:
    """Every text is encoded."""
    inner = WordEncoder()
    cached = CachedEncoder(inner, 0)
    cached.encode(["a"])
    cached.encode(["a"])
    assert inner.calls == [["a"], ["a"]]


def test_lists_are_encoded_together_and_given_back_apart() -> None:
    """Each gets what it would have got alone."""
    inner = WordEncoder()
    cached = CachedEncoder(inner, 10)
    one, none, two = cached.encode_each([["a"], [], ["b", "c d"]])
    assert inner.calls == [["a", "b", "c d"]]
    assert np.array_equal(one.vectors, inner.encode(["a"]).vectors)
    assert none.vectors.shape == (0, 16)
    assert (two.tokens, two.truncated) == ((1, 2), (False, False))
