"""The nearest anchors of one question, read only where they can be among the matches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from app.domain.anchors import Anchor, Filter, Match
from app.domain.ports import EQUAL_TEXTS, Hits, VectorView
from app.usecases.matching import Judge, Question, Standard, in_order


class Shortlist:
    """What is known of the candidates of one question, and which of them have to be read next.

    Texts are read of those with the question's own text, of as many others as are wanted, and of
    those behind them that could still come before one of these: most often of none.

    seqs: all candidates. wanted: those to read, none once the matches are known.
    """

    __slots__ = ("_behind", "_found", "_judge", "_known", "_limit", "_question", "seqs", "wanted")

    def __init__(
        self, judge: Judge, question: Question, limit: int, hits: Hits, scores: Sequence[float]
    ) -> None:
        """Judge the candidates by their vectors.

        limit: how many matches are wanted at most; scores: the head's of each candidate.
        """
        self._judge = judge
        self._question = question
        self._limit = limit
        self.seqs: list[int] = hits.seqs.tolist()
        bases = judge.bases(question, hits, scores)
        values = zip(hits.similarities.tolist(), bases, strict=True)
        self._known = dict(zip(self.seqs, values, strict=True))
        best = sorted(self.seqs, key=lambda seq: -self._known[seq][1])
        self.wanted, self._behind = best[:limit], best[limit:]
        self._found: list[tuple[Anchor, float, float]] = []

    def take_same(
        self, anchors: Mapping[int, Anchor], view: VectorView, where: Filter, least: float | None
    ) -> bool:
        """Take those with the question's own text; return whether the view holds all of them.

        They count however far their vectors lie, but only as what is asked admits them.
        anchors: by seq, read at a moment at which all candidates stood; those of other texts do not
        matter. least: the least similarity that counts, if any.
        """
        equal = [one for one in anchors.values() if one.fingerprint == self._question.fingerprint]
        if len(equal) > EQUAL_TEXTS:
            # What another question of this text had read besides is not this one's.
            equal.sort(key=lambda anchor: anchor.seq)
            behind = [anchor for anchor in equal[EQUAL_TEXTS:] if anchor.seq in self._known]
            equal[EQUAL_TEXTS:] = behind
        same = [anchor for anchor in equal if where.admits(anchor)]
        if all(anchor.seq in self._known for anchor in same):
            similarities = [self._known[anchor.seq][0] for anchor in same]
        else:
            seqs = np.array([anchor.seq for anchor in same], dtype=np.int64)
            similarities = view.similarities(seqs, self._question.vector).tolist()
            if any(map(math.isnan, similarities)):
                return False
        self._found += [
            (anchor, similarity, math.inf)
            for anchor, similarity in zip(same, similarities, strict=True)
            if least is None or similarity >= least
        ]
        return True

    def take(self, anchors: Mapping[int, Anchor]) -> bool:
        """Judge what was wanted by its text, too; return whether all of it was there.

        anchors: by seq, with others perhaps. Afterwards `wanted` says what else has to be read.
        """
        if not all(seq in anchors for seq in self.wanted):
            return False
        same = {anchor.seq for anchor, _, _ in self._found}
        for seq in self.wanted:
            if seq not in same:
                similarity, base = self._known[seq]
                log_odds = self._judge.log_odds(self._question, anchors[seq], base)
                self._found.append((anchors[seq], similarity, log_odds))
        most = self._judge.calibration.most_evidence
        reach = _at_place(self._limit, [log_odds for _, _, log_odds in self._found])
        self.wanted = [
            seq for seq in self._behind if seq not in same and self._known[seq][1] + most >= reach
        ]
        self._behind = []
        return True

    def matches(self, standard: Standard) -> list[Match]:
        """Return the best of what was taken, likeliest first, as many as are wanted."""
        return in_order(self._judge.match(*one, standard) for one in self._found)[: self._limit]


def _at_place(place: int, values: Sequence[float]) -> float:
    """Return the value at a place, the greatest being at 1; minus infinity where it is empty."""
    return sorted(values, reverse=True)[place - 1] if len(values) >= place else -math.inf
