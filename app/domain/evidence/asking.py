"""What kind of answer a text asks for, by the words that its questions begin with."""

from __future__ import annotations

from app.domain.evidence.words import Reading, Word

_WHETHER = "whether"
_LATER = frozenset(["when", "where"])


def asking(reading: Reading) -> str:
    """Return the kind of answer wanted, "" where none is said or its questions differ.

    Sentences with a question mark count, or all where none has one; in each, its clauses.
    "My card was declined, what should I do?" asks what, by the clause that begins with it.
    """
    words = reading.words
    if not reading.clauses and len(reading.sentences) == 1:  # as most: one plain question
        kind = words[0].asks
        if kind and not words[0].role and kind not in _LATER:
            return kind
        return _of_clause(words, alone=reading.marked[0])
    marked = any(reading.marked)
    kinds = set()
    ends = [*reading.sentences[1:], len(words)]
    for begin, end, mark in zip(reading.sentences, ends, reading.marked, strict=True):
        if mark or not marked:
            starts = [begin, *[place for place in reading.clauses if begin < place < end]]
            for start, stop in zip(starts, [*starts[1:], end], strict=True):
                alone = mark and len(starts) == 1
                kinds.add(_of_clause(words[start:stop], alone=alone))
    kinds.discard("")
    return kinds.pop() if len(kinds) == 1 else ""


def _of_clause(words: list[Word], *, alone: bool) -> str:
    """Return what a clause asks by its first word, or the first after "please tell me" and such.

    alone: whether it is the whole of a sentence with a question mark.
    """
    start = 0
    while start < len(words) and words[start].role == "greeting":
        start += 1
    if start == len(words):
        return ""
    first, roles = words[start], set()
    place = start
    while place < len(words) and words[place].role:
        roles.add(words[place].role)
        place += 1
    asks = words[place].asks if place < len(words) else ""
    if place == start:
        follows = words[place + 1] if place + 1 < len(words) else None
        if asks in _LATER and not alone:
            # "When I log in, …" asks nothing; "when does it open" and "where to buy" do.
            return asks if follows and (follows.asks == _WHETHER or follows.direction) else ""
        return asks
    if asks in ("", _WHETHER):
        return first.asks or (asks if "telling" in roles else "")
    # "Can you tell me why" asks why; "do I know why" asks neither for sure.
    return asks if not first.asks or roles >= {"telling", "you"} else ""
