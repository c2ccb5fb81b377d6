"""Evidence of a pair of texts that their vectors say little about: cheap, and fitted by others.

Each piece is a number from 0, nothing to see, to 1, and the same whichever text comes first.
What a piece weighs is not said here: the calibration of an encoder has weights that were fitted.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from app.domain.evidence.asking import asking
from app.domain.evidence.decoration import undecorated
from app.domain.evidence.opposites import contrasted, opposed
from app.domain.evidence.words import Reading, Word, split

NAMES = (
    "negation",
    "opposite",
    "numbers",
    "number_alone",
    "names",
    "name_alone",
    "swapped",
    "reordered",
    "asks",
    "unknown",
)
Values = tuple[float, ...]
_NOTHING: frozenset[str] = frozenset()
_UNDIRECTED: frozenset[tuple[str, str]] = frozenset()
# A headline or a shout has capitals everywhere: they tell no names then.
_MOST_CAPITALS = 0.5


class Analysis(NamedTuple):
    """What the evidence needs of one text; made once, compared often.

    order: stems of content, in order; content: the same as a set; every: stems of all words;
    negations: whether an odd number of words deny; figures: numbers, versions and codes;
    names: what is written like a name; asks: see `app.domain.evidence.asking`;
    directed: ordered pairs of stems, "x to y" or "y from x"; opposites: of all its words;
    length: in words; unknown: words that all look the same to the encoder, without decoration.
    """

    order: tuple[str, ...]
    content: frozenset[str]
    every: frozenset[str]
    negations: bool
    figures: frozenset[str]
    names: frozenset[str]
    asks: str
    directed: frozenset[tuple[str, str]]
    opposites: frozenset[str]
    length: int
    unknown: frozenset[str]


def analyse(text: str, unknown: frozenset[str] = _NOTHING) -> Analysis:
    """Return what the evidence needs of a text, of as many words as `split` reads.

    unknown: words of it that the encoder knows nothing of.
    """
    reading = split(text)
    words = reading.words
    order: list[str] = []
    figures: list[str] = []
    against: list[str] = []
    denials = capitals = 0
    asks = directs = False
    for each in words:
        if each.content:
            order.append(each.stem)
            if each.figure:
                figures.append(each.stem)
        elif each.negation:
            denials += 1
        if each.opposites:
            against += each.opposites
        if each.capital:
            capitals += 1
        if each.asks:
            asks = True
        if each.direction:
            directs = True
    if unknown and order:
        unknown = undecorated(text, unknown)
    return Analysis(
        tuple(order),
        frozenset(order),
        frozenset([each.stem for each in words]),
        denials % 2 == 1,
        frozenset(figures) if figures else _NOTHING,
        _names(reading) if capitals > _ordinary(words) else _NOTHING,
        asking(reading) if asks else "",
        _directed(words) if directs else _UNDIRECTED,
        frozenset(against),
        len(words),
        unknown,
    )


def compare(left: Analysis, right: Analysis) -> Values:
    """Return the evidence in the order of NAMES; the same for (right, left)."""
    mine, yours = left.content - right.content, right.content - left.content
    apart = len(mine) + len(yours)
    figures = left.figures ^ right.figures if left.figures or right.figures else _NOTHING
    my_names = left.names - right.every if left.names else _NOTHING
    your_names = right.names - left.every if right.names else _NOTHING
    number = name = number_alone = name_alone = opposite = 0.0
    if not (left.opposites.isdisjoint(right.every) and right.opposites.isdisjoint(left.every)):
        only_mine, only_yours = left.every - right.every, right.every - left.every
        if count := opposed(only_mine, only_yours):
            opposite = _focus(apart - 2 * count)
            # "First" against "last" is one contrast, and no number besides.
            figures = figures and figures - contrasted(figures, only_mine | only_yours)
    if figures:
        focus = _focus(apart - len(figures))
        if figures <= left.figures or figures <= right.figures:
            number_alone = focus
        else:
            number = focus
    if my_names or your_names:
        focus = _focus(apart - len(my_names) - len(your_names))
        if my_names and your_names:
            name = focus
        else:
            name_alone = focus
    return (
        _focus(apart) if left.negations != right.negations else 0.0,
        opposite,
        number,
        number_alone,
        name,
        name_alone,
        _focus(apart) if left.directed and right.directed and _swapped(left, right) else 0.0,
        1.0 if not apart and left.order != right.order else 0.0,
        _focus(apart) if left.asks != right.asks and left.asks and right.asks else 0.0,
        0.0 if left.unknown == right.unknown else _unknown(left, right),
    )


def _focus(others: int) -> float:
    """Return how much a difference stands out: 1 where nothing else differs, half with each word.

    others: how many words of content differ besides.
    """
    return _FOCUS[others] if 0 <= others < len(_FOCUS) else (1.0 if others < 0 else 0.0)


_FOCUS = tuple(0.5**others for others in range(12))


def _ordinary(words: list[Word]) -> bool:
    """Return whether a text begins as sentences do: with a capital that tells no name."""
    return bool(words) and words[0].capital and not words[0].shouted


def _names(reading: Reading) -> frozenset[str]:
    """Return what is written like a name: a capital that no sentence begins with."""
    inside = [word for place, word in enumerate(reading.words) if place not in reading.capitals]
    if sum([word.capital for word in inside]) > _MOST_CAPITALS * len(inside):
        return _NOTHING
    begins = [reading.words[place] for place in reading.capitals]
    return frozenset(
        [word.stem for word in inside if word.capital and word.content]
        + [word.stem for word in begins if word.shouted and word.content]
    )


def _directed(words: list[Word]) -> frozenset[tuple[str, str]]:
    """Return the pairs of content that a word of direction stands between."""
    found = []
    before: deque[str] = deque(maxlen=3)
    for place, word in enumerate(words):
        # "Different from" says the same either way round.
        if word.direction and before and not before[-1].startswith("differ"):
            after = next((each for each in words[place + 1 : place + 4] if _goes_on(each)), None)
            if after is not None and after.content:
                ends = [(stem, after.stem) for stem in before]
                found += ends if word.direction > 0 else [(end, start) for start, end in ends]
        if word.content:
            before.append(word.stem)
    return frozenset(found)


def _goes_on(word: Word) -> bool:
    return word.content or bool(word.direction)


def _swapped(left: Analysis, right: Analysis) -> bool:
    """Return whether one says x to y, the other y to x; what says both says neither."""
    mine, yours = left.directed - right.directed, right.directed - left.directed
    return any((end, start) in yours and (end, start) not in left.directed for start, end in mine)


def _unknown(left: Analysis, right: Analysis) -> float:
    """Return 1 where each text has unknown words of its own, else the one's share, squared."""
    mine, yours = left.unknown - right.unknown, right.unknown - left.unknown
    if mine and yours:
        return 1.0
    found, text = (mine, left) if mine else (yours, right)
    return (len(found) / (text.length + len(found))) ** 2 if text.length else 1.0
