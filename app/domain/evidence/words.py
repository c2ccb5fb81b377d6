"""What a single word is to the evidence: its stem, and what it does in a question."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from app.domain.evidence.opposites import LONGEST, opposites
from app.domain.evidence.stems import stem_of

# Letters and digits of any script; "don't", "3.5" and "C++" are one word, "re-enable" is two.
_WORDS = re.compile(r"[^\W_]+(?:['’](?=[^\W\d_])[^\W_]+|[.,](?=\d)[^\W_]+)*[+#]*")  # noqa: RUF001

# A word is a token or more, and the shipped encoder reads 256: its vectors know no more either.
MOST = 256


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_STOP = _set(
    """a an the this that these those it its itself i me my mine myself we us our ours you your
    yours he him his she her hers they them their theirs one ones someone somebody anyone anybody
    everyone people person is are was were be been being am do does did doing done have has had
    having can could will would shall should may might must of in on at by for with about as from
    to into onto out up off over under through and or but if then than so such there here what
    which who whom whose when where why how get got getting go going make made want need like know
    please just also too very really ever any some all each every much many more most way ways
    best good thing things use using used let im ive id"""
)
_NEGATIONS = _set(
    """not no never without cannot none nobody nothing nowhere neither nor unable impossible
    hardly barely dont cant wont doesnt didnt isnt arent wasnt werent couldnt shouldnt wouldnt
    havent hasnt hadnt"""
)
_NUMBERS = {
    word: str(value)
    for value, words in {
        0: "zero",
        1: "1st first",
        2: "two 2nd second twice",
        3: "three 3rd third",
        4: "four 4th fourth",
        5: "five 5th fifth",
        6: "six 6th sixth",
        7: "seven 7th seventh",
        8: "eight 8th eighth",
        9: "nine 9th ninth",
        10: "ten 10th tenth",
        11: "eleven 11th",
        12: "twelve 12th",
        15: "fifteen",
        20: "twenty",
        30: "thirty",
        40: "forty",
        50: "fifty",
        100: "hundred",
        1000: "thousand 1k",
        1_000_000: "million",
        1_000_000_000: "billion",
    }.items()
    for word in words.split()
}
# Commas that set groups of digits apart: 1,000,000 or 10,00,000. Any other is a decimal point.
_GROUPED = re.compile(r"[^\W\d]*\d{1,3}(?:,\d{2,3})*,\d{3}(?![\d,])")
# Between two words they say which comes first in the doing; `from` says it the other way round.
_FORWARD = _set("to into than over onto before beat")
_BACKWARD = _set("from after")
_OPEN = _set("what how which whats hows")
_CLOSED = {
    **{word: word for word in _set("why when where whether")},
    **dict.fromkeys(_set("who whom whose"), "who"),
    **dict.fromkeys(
        _set("""is are was were do does did can could will would should may might has have had am
        isnt arent doesnt dont didnt cant wont shouldnt wouldnt"""),
        "whether",
    ),
}
# What may stand before the word that a question begins with: a greeting or a "so", then "at what
# time" or "please tell me how", with who is asked and that something is to be told.
_ROLES = {
    **dict.fromkeys(
        _set("hi hello hey dear so and but or then ok okay well also please kindly just exactly"),
        "greeting",
    ),
    **dict.fromkeys(
        _set("""i we me us at in on of for from to by with about since until till through im was am
        want need like love do does did can could will would might may any let"""),
        "before",
    ),
    **dict.fromkeys(_set("you anyone anybody someone somebody"), "you"),
    **dict.fromkeys(
        _set("tell explain show advise know help say idea wonder wondering curious"), "telling"
    ),
}
# Short forms whose full stop ends no sentence, besides single letters.
_SHORT = _set("mr mrs ms dr st vs jr sr approx")
_BREAKS = frozenset(",;:()\n–—")  # noqa: RUF001 - the marks that people type
_PARTS = re.compile(r"[.,;:!?()\n–—]| - ")  # noqa: RUF001 - the marks that people type
_FIRST = frozenset([0])


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a text.

    stem: folded, without the endings of number and tense; equal for forms of one word.
    content: whether it says what the text is about; negation: whether it denies.
    figure: whether it is a number, a version or a code: anything with a digit, or a number's name.
    capital: whether it is written as names are; shouted: wholly in capitals.
    direction: 1 or -1 for a word between two others that says which way round, else 0.
    opposites: stems that say the opposite of it.
    asks: what kind of answer a question that begins with it wants, "" for any other word.
    role: what it does before the first word of a question: "you", "telling" or "before", else "".
    """

    stem: str
    content: bool
    negation: bool
    figure: bool
    capital: bool
    shouted: bool
    direction: int
    opposites: frozenset[str]
    asks: str
    role: str


class Reading(NamedTuple):
    """The words of a text, and where its parts begin, each by the place of its first word.

    sentences: after a full stop, a question or an exclamation mark; the first begins at 0.
    marked: of each sentence, whether a question mark ends it.
    clauses: after a comma, a colon, a dash, a bracket or a line's end.
    capitals: what the grammar writes with a capital: sentences, lines, and what a colon announces.
    """

    words: list[Word]
    sentences: list[int]
    marked: list[bool]
    clauses: list[int]
    capitals: AbstractSet[int]


def split(text: str) -> Reading:
    """Return the first `MOST` words of a text, in order; marks and pictures are none."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    if not _PARTS.search(text, 0, len(text.rstrip(" .!?\n"))):  # as most: one plain sentence
        found = _WORDS.findall(text)[:MOST]
        words = [word(each) if len(each) <= LONGEST else _word(each) for each in found]
        return Reading(words, [0], ["?" in text], [], _FIRST)
    capitals = {0}
    reading = Reading([], [0], [False], [], capitals)
    words, end, last = reading.words, 0, ""
    for match in islice(_WORDS.finditer(text), MOST):
        start = match.start()
        if words and text[end:start] != " " and _part(reading, text[end:start], last):
            capitals.add(len(words))
        last = match.group()
        words.append(word(last) if len(last) <= LONGEST else _word(last))
        end = match.end()
    if len(words) < MOST:
        reading.marked[-1] = "?" in text[end:]
    return reading


def _part(reading: Reading, between: str, last: str) -> bool:
    """Note what begins behind the marks `between` two words; return whether with a capital.

    last: the word before them.
    """
    spaced = between.split() != [between]
    stops = spaced and "." in between and not _shortened(last)
    if stops or "?" in between or "!" in between:
        reading.marked[-1] = "?" in between
        reading.sentences.append(len(reading.words))
        reading.marked.append(False)
        return True
    if _BREAKS.isdisjoint(between) and " - " not in between:
        return False
    reading.clauses.append(len(reading.words))
    return "\n" in between or (spaced and ":" in between)


def _shortened(last: str) -> bool:
    """Return whether a full stop after this word need not end a sentence."""
    return (len(last) == 1 and last.isalpha()) or last.casefold() in _SHORT


def _word(written: str) -> Word:
    """Return what a word is, as it stands in the text."""
    folded = written.casefold().replace("’", "'")  # noqa: RUF001 - the mark that people type
    negation = folded.endswith("n't")
    folded = folded.removesuffix("'s")
    plain = folded.replace("'", "")
    base = plain.split("nt")[0] if negation else plain
    figure = plain in _NUMBERS or any(letter.isdigit() for letter in plain)
    negation = negation or plain in _NEGATIONS
    stop = negation or plain in _STOP
    stem = _NUMBERS.get(plain) or (figure and _figure(plain)) or stem_of(plain)
    return Word(
        stem=stem,
        content=not stop,
        negation=negation,
        figure=figure,
        capital=written[0].isupper(),
        shouted=len(written) > 1 and written.isupper() and not figure,
        direction=1 if plain in _FORWARD else -1 if plain in _BACKWARD else 0,
        opposites=opposites(stem),
        asks="open" if plain in _OPEN else _CLOSED.get(base) or _CLOSED.get(plain, "") or "",
        role=_ROLES.get(plain, ""),
    )


word = lru_cache(maxsize=1 << 16)(_word)


def _figure(plain: str) -> str:
    """Return a number as it is compared: v2, 2.0 and 2 are one, 1,000 is 1000 and 1,5 is 1.5."""
    if "," in plain:
        plain = plain.replace(",", "" if _GROUPED.match(plain) else ".")
    if plain[0] == "v" and plain[1:2].isdigit():
        plain = plain[1:]
    head, dot, tail = plain.rpartition(".")
    return head if dot and tail.strip("0") == "" and "." not in head else plain
