"""How long one question takes an encoder, in one thread, from its text to its vector."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from training.errors import TrainingError

if TYPE_CHECKING:
    from training.encoders import TimedEncoder

TOKENS = (5, 13, 40)
CALLS = 200
_WARM_UP = 20
_QUESTIONS = 20
# Common enough to be one token each in any vocabulary of English.
_COMMON_WORDS = (
    "what is the best way to get my money back when you have lost it and how do they know that "
    "we can use this new car for work or school if not all of our time was spent at home with "
    "some good people from another city who made more than one big change in a year"
)


def evaluate_speed(
    encoder: TimedEncoder,
    *,
    tokens: Sequence[int] = TOKENS,
    calls: int = CALLS,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Return the median milliseconds of one question, by its number of tokens.

    The lengths take turns, so that a busy moment of the machine slows all of them alike; other
    work on the machine still shows, so compare figures of one quiet run.

    tokens: special ones included; calls: of each length, after a warm-up; clock: seconds.
    Raises TrainingError where no question of a length can be made from common words.
    """
    rng = np.random.default_rng(seed)
    questions = {
        count: [_question(encoder, count, rng) for _ in range(_QUESTIONS)] for count in tokens
    }
    times: dict[int, list[float]] = {count: [] for count in tokens}
    for call in range(-_WARM_UP, calls):
        for count, texts in questions.items():
            text = texts[call % _QUESTIONS]
            start = clock()
            encoder.encode_alone(text)
            took = clock() - start
            if call >= 0:
                times[count].append(took)
    return {str(count): round(statistics.median(took) * 1e3, 4) for count, took in times.items()}


def _question(encoder: TimedEncoder, count: int, rng: np.random.Generator) -> str:
    """Return a text of exactly `count` tokens."""
    common = _COMMON_WORDS.split()
    words = [str(rng.choice(common))]
    while encoder.count_tokens(" ".join(words)) < count:
        words.append(str(rng.choice(common)))
    text = " ".join(words)
    if encoder.count_tokens(text) != count:
        raise TrainingError(f"{encoder.name}: no question of {count} tokens can be made for it")
    return text
