"""Made-up questions for where there is no data folder: distinct, and about as long as real ones."""

from __future__ import annotations

import itertools
import random

_STARTS = (
    "How do I", "How can I", "What is the best way to", "Is it possible to", "Why can't I",
    "Where do I go to", "When will I be able to", "Who can help me to", "Do I have to pay to",
)  # fmt: skip
_VERBS = (
    "change", "cancel", "find", "print", "share", "translate", "repair", "return", "renew",
    "compare", "export", "delete", "sell", "insure",
)  # fmt: skip
_THINGS = (
    "my password", "an old invoice", "the monthly subscription", "a second passport",
    "the delivery address", "a broken washing machine", "my holiday photos", "a train ticket",
    "the rent contract", "a library card", "the tax form for students", "a lost parcel",
    "my driving licence", "the warranty of a phone",
)  # fmt: skip
_ENDS = (
    "", "from abroad", "without an account", "on a Sunday evening", "before the end of the month",
    "if the shop is closed", "for someone else in my family", "with only a phone",
)  # fmt: skip


def made_up(count: int, seed: int) -> list[str]:
    """Return `count` distinct questions, drawn by a seed. Raises ValueError for too many."""
    parts = list(itertools.product(_STARTS, _VERBS, _THINGS, _ENDS))
    if count > len(parts):
        raise ValueError(f"only {len(parts)} questions can be made up, not {count}")
    drawn = random.Random(seed).sample(parts, count)
    return [f"{' '.join(part for part in words if part)}?" for words in drawn]
