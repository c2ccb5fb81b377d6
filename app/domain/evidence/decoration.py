"""Pictures that say nothing of what is asked: a greeting, a mood, thanks in advance."""

from __future__ import annotations

import re

# Faces and hands, hearts, and what joins or colours them.
_MOODS = (
    r"\u2639\u263a\u2764\u200d\ufe0f\U0001f3fb-\U0001f3ff\U0001f44a-\U0001f44f\U0001f493-\U0001f49f"
    r"\U0001f600-\U0001f64f\U0001f90d-\U0001f92f\U0001f970-\U0001f97a"
)
# After the mark that ends a sentence any picture is decoration; with none, a mood at either end.
# Each branch begins where a run does, so that long runs are read once.
_DECORATION = re.compile(rf"(?<=[.!?…])[^\w.!?…]+$|(?<![\s{_MOODS}])[\s{_MOODS}]+$|^[\s{_MOODS}]+")


def undecorated(text: str, words: frozenset[str]) -> frozenset[str]:
    """Return those of a text's words, in small letters, that are no decoration of it.

    "Reset my password? 🍀" and "reset my password 🙏" are decorated; "What is 🍀?" asks of it.
    """
    said = _DECORATION.sub(" ", text).casefold()
    return frozenset(
        [each for each in words if each in said or any(letter.isalnum() for letter in each)]
    )
