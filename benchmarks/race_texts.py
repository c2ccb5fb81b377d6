"""Requests that race: equal texts, other spellings and paraphrases, close together in time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

ASKED = (
    "How do I {what}?",
    "How can I {what}?",
    "What is the best way to {what}?",
    "I want to {what}, how does that work?",
    "Is it possible to {what}?",
)
# No two do the same to a thing: with "delete" and "remove" two families would be one.
VERBS = (
    "change", "find", "weld", "print", "vaccinate", "delete", "translate", "paint", "insure",
    "photograph", "install", "weigh", "compare", "burn", "bury", "smuggle", "sell", "dry",
    "inherit", "freeze",
)  # fmt: skip
THINGS = (
    "my invoice", "a photo album", "the delivery address", "an old phone", "my gym contract",
    "a train ticket", "the kitchen tap", "a bank account", "my email signature", "a printed book",
    "the garden fence", "a video call", "my tax form", "the car battery", "a music playlist",
    "my school record", "the office printer", "a hotel booking", "my medical file",
    "a wedding guest list",
)  # fmt: skip

Mode = Literal["skip", "reject"]


@dataclass(frozen=True, slots=True)
class Try:
    """A request to register a few texts unless they are duplicates."""

    texts: tuple[str, ...]
    mode: Mode

    def body(self) -> dict[str, Any]:
        """Return the request's body."""
        return {"anchors": [{"text": text} for text in self.texts], "if_duplicate": self.mode}


def families(rng: random.Random) -> Iterator[tuple[str, ...]]:
    """Yield groups of paraphrases, no two about the same; without end, the later ones longer."""
    subjects = [f"{verb} {thing}" for verb in VERBS for thing in THINGS]
    rng.shuffle(subjects)
    for number in range(10**6):
        subject = subjects[number % len(subjects)]
        further = number // len(subjects)
        what = f"{subject} from {1950 + further}" if further else subject
        yield tuple(asked.format(what=what) for asked in ASKED)


def tries(count: int, seed: int, together: int = 32) -> list[Try]:
    """Return requests, those of one family at most `together` apart."""
    rng = random.Random(seed)
    made: list[Try] = []
    drawn = families(rng)
    while len(made) < count:
        block: list[Try] = []
        while len(block) < together:
            family = next(drawn)
            for _ in range(4):
                texts = [_varied(rng.choice(family[:3]), rng)]
                # Now and then several in one request, of which the later duplicate the earlier.
                while rng.random() < 0.15:
                    texts.append(_varied(rng.choice(family), rng))
                block.append(Try(tuple(texts), rng.choice(("skip", "reject"))))
        rng.shuffle(block)
        made += block
    return made[:count]


def _varied(text: str, rng: random.Random) -> str:
    """Return a text of equal canonical form, most often another."""
    spaced = text.replace(" ", rng.choice((" ", " ", "  ")))
    cased = rng.choice((str, str.upper, str.lower, str.title))(spaced)
    return cased.rstrip("?") + rng.choice(("?", "", "!", " ?", "..."))


def plain(count: int) -> Iterator[str]:
    """Yield distinct texts, hardly any of which is a duplicate of another."""
    rng = random.Random(7)
    for number in range(count):
        parts = [f"{rng.choice(VERBS)} {rng.choice(THINGS)}" for _ in range(3)]
        yield f"{rng.randrange(10**4)} {', then '.join(parts)} ({number})"
