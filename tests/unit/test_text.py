from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.text import canonical_form, fingerprint


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How old are you?", "how OLD are you"),
        ("How  old\tare\nyou ?!", "How old are you"),
        ("Straße", "STRASSE"),
        ("ﬁle", "FILE"),
        ("Café", "Cafe\u0301"),
        ("\uff11\uff12", "12"),  # full-width digits
        ("どこですか\uff1f", "どこですか"),  # a full-width question mark
    ],
)
def test_texts_that_differ_in_form_only_have_one_fingerprint(one: str, other: str) -> None:
    """Case, width, composition, white space and end punctuation never change what is asked."""
    assert fingerprint(one) == fingerprint(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("I can", "I can't"),
        ("version 1.2", "version 12"),
        ("C", "C++"),
        ("?", "!"),
        ("resume", "résumé"),
        ("a b", "ab"),
    ],
)
def test_texts_that_may_mean_something_else_have_different_fingerprints(
    one: str, other: str
) -> None:
    """Punctuation inside a text, accents and word limits count."""
    assert fingerprint(one) != fingerprint(other)


@given(st.text())
def test_a_canonical_form_is_its_own_canonical_form(text: str) -> None:
    """Applying it twice changes nothing."""
    once = canonical_form(text)
    assert canonical_form(once) == once


@given(st.text())
def test_the_canonical_form_of_a_text_with_content_is_never_empty(text: str) -> None:
    """Or all such texts would be duplicates of each other."""
    assert bool(canonical_form(text)) == bool(text.split())
