"""All groups of duplicates among given texts: the same for a collection and for a file."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.domain.clusters import Near, by_duplicates, stars
from app.domain.ports import Hits, VectorView
from app.domain.verdicts import Verdict
from app.usecases.matching import Judge, Question, Standard

# Texts searched for at a time: some ten milliseconds, between which others get their turn.
TOGETHER = 64
# Neighbours looked at for every text, and for one that has so many duplicates. Who has more than
# the last number is looked up among all texts once it becomes canonical.
WIDENING = (16, 64, 256)
# How far a similarity may lie below the cut-off and still be judged.
_MARGIN = 1e-6
# What a pairwise head is allowed for before its score is known: no pair of 3,000 questions that are
# more than half alike got above 0.2.
_HEAD_MOST = 1.0


@dataclass(frozen=True, slots=True)
class Text:
    """A text to be grouped.

    seq: its row in the view. fingerprint: 16 bytes, see `app.domain.text.fingerprint`.
    """

    seq: int
    text: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Member:
    """A text of a group and how alike the canonical text it is."""

    place: int
    similarity: float
    probability: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Group:
    """A canonical text, by its place, with its duplicates, the likeliest first."""

    canonical: int
    members: tuple[Member, ...]

    def __len__(self) -> int:
        """Return how many texts it holds, the canonical one included."""
        return 1 + len(self.members)


class Watch(Protocol):
    """Whoever watches the work: shown how far it is, and free to end it."""

    def step(self, name: str, done: int, total: int) -> None:
        """Hear how far a step is; it may wait, or raise to abandon the work."""
        ...


@dataclass(frozen=True, slots=True)
class Criteria:
    """What makes two texts duplicates here.

    standard: what the collection judges by.
    least: the verdict that puts a text into a group, `duplicate` or `review`.
    """

    judge: Judge
    standard: Standard
    least: Verdict = Verdict.DUPLICATE

    @property
    def floor(self) -> float:
        """Return the cosine below which no pair needs to be judged; above 1 where none does."""
        low, high = -1.0, 1.0
        if not self._may_join(high):
            return 2.0
        if self._may_join(low):
            return low
        while high - low > _MARGIN:
            middle = (low + high) / 2
            low, high = (low, middle) if self._may_join(middle) else (middle, high)
        return low

    def _may_join(self, similarity: float) -> bool:
        """Return whether two texts of this similarity may belong together, whatever they say."""
        most = self.judge.scorer.most(similarity, _HEAD_MOST)
        return self.joins(self.judge.of_log_odds(most, self.standard)[1])

    def judged(
        self, left: Text, right: Text, similarity: float, view: VectorView
    ) -> tuple[float, Verdict]:
        """Return P(duplicate) and the verdict: the one place where two texts of a group meet.

        The same whichever of the two comes first: they are put in order here.
        view: holds the vectors of both.
        """
        left, right = sorted((left, right), key=lambda text: text.fingerprint)
        return self.judge.of_pair(
            self._question(left, view), self._question(right, view), similarity, self.standard
        )

    def _question(self, text: Text, view: VectorView) -> Question:
        seqs = np.array([text.seq] if self.judge.scorer.needs_vectors else [], np.int64)
        return Question(text.text, view.vectors(seqs).astype(np.float32).ravel(), text.fingerprint)

    def joins(self, verdict: Verdict) -> bool:
        """Return whether a pair with this verdict belongs into one group."""
        return verdict is Verdict.DUPLICATE or verdict is self.least


@dataclass(frozen=True, slots=True)
class _Found:
    """The neighbours of a unit. crowded: there may be more than were looked at."""

    unit: int
    hits: Hits
    crowded: bool


@dataclass(slots=True)
class Grouping:
    """Finds groups among `texts`, whose order is their rank: of equals, the earlier is canonical.

    Texts of one fingerprint count as one (a unit) and share the similarity of the first of them.

    view: holds a vector for at least the first text of every fingerprint.
    threads: how many search.
    """

    view: VectorView
    texts: Sequence[Text]
    criteria: Criteria
    watch: Watch
    threads: int = 1
    _copies: dict[bytes, list[int]] = field(init=False)
    _firsts: list[int] = field(init=False)
    _seqs: NDArray[np.int64] = field(init=False)
    _by_seq: tuple[NDArray[np.int64], NDArray[np.int64]] = field(init=False)
    edges: dict[int, dict[int, Near]] = field(init=False)
    _crowded: set[int] = field(init=False)
    _total: int = field(init=False, default=0)
    _left: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._copies = {}
        for place, text in enumerate(self.texts):
            self._copies.setdefault(text.fingerprint, []).append(place)
        self._firsts = [places[0] for places in self._copies.values()]
        self._seqs = np.array([self.texts[place].seq for place in self._firsts], np.int64)
        by_seq = np.argsort(self._seqs)
        self._by_seq = by_seq, self._seqs[by_seq]
        self.edges = {}
        self._crowded = set()

    def __call__(self) -> list[Group]:
        """Return every group of two and more texts, the largest first, then by rank."""
        self._find_edges()
        groups = []
        for canonical, nears in self._stars():
            members = [
                Member(copy, *self._to_itself(canonical, copy))
                for copy in self._copies[self.texts[canonical].fingerprint][1:]
            ]
            for near in nears:
                place = self._firsts[near.place]
                verdict = self._judged(canonical, place, near.similarity)[1]
                members += [
                    Member(copy, near.similarity, near.probability, verdict)
                    for copy in self._copies[self.texts[place].fingerprint]
                ]
            if members:
                groups.append(Group(canonical, tuple(members)))
        groups.sort(key=lambda group: (-len(group), group.canonical))
        return groups

    def _judged(self, place: int, other: int, similarity: float) -> tuple[float, Verdict]:
        return self.criteria.judged(self.texts[place], self.texts[other], similarity, self.view)

    def _to_itself(self, canonical: int, copy: int) -> tuple[float, float, Verdict]:
        probability, verdict = self._judged(canonical, copy, 1.0)
        return 1.0, probability, verdict

    def _stars(self) -> Iterator[tuple[int, Sequence[Near]]]:
        """Yield every text that is canonical or alone, with its duplicates."""
        counts = [len(self.edges.get(unit, ())) for unit in range(len(self._firsts))]
        for unit in self._crowded:
            counts[unit] = len(counts)  # nobody counted further; among them, rank decides
        alone = np.ones(len(counts), np.bool_)
        self._left = self._total = int(np.count_nonzero(counts))
        self.watch.step("grouping", 0, self._total)
        for star in stars(by_duplicates(counts), self._near, self._apart, self._duplicates):
            alone[[star.center, *(near.place for near in star.members)]] = False
            self._left = max(self._left - len(star.members) - 1, 0)
            yield self._firsts[star.center], star.members
        for unit in np.flatnonzero(alone).tolist():
            yield self._firsts[unit], ()

    def _find_edges(self) -> None:
        if self.criteria.floor > 1:
            return
        total = len(self._firsts)
        under_way: deque[Future[list[_Found]]] = deque()
        with ThreadPoolExecutor(self.threads, "deja-grouping") as pool:
            for start in range(0, total, TOGETHER):
                self.watch.step("searching", start, total)
                units = np.arange(start, min(start + TOGETHER, total))
                under_way.append(pool.submit(self._search, units))
                # Judged in the order of the units, so that chance decides nothing.
                if len(under_way) > self.threads:
                    self._judge(under_way.popleft().result())
            while under_way:
                self._judge(under_way.popleft().result())
        self.watch.step("searching", total, total)

    def _search(self, units: NDArray[np.int64]) -> list[_Found]:
        """Return the neighbours of these units, more of them where all are near enough."""
        floor = self.criteria.floor
        rows = self.view.vectors(self._seqs[units]).astype(np.float32)
        found: list[_Found] = []
        for k in WIDENING:
            hits = self.view.search_many(rows, k + 1, floor)
            full = np.array([len(one.seqs) > k for one in hits], np.bool_)
            last = k == WIDENING[-1]
            found += [
                _Found(unit, one, crowded=more)
                for unit, one, more in zip(units.tolist(), hits, full.tolist(), strict=True)
                if last or not more
            ]
            if last or not full.any():
                break
            units, rows = units[full], rows[full]
        return found

    def _judge(self, found: Sequence[_Found]) -> None:
        for one in found:
            if one.crowded:
                self._crowded.add(one.unit)
            self._note(one.unit, self._units_of(one.hits.seqs), one.hits.similarities)

    def _units_of(self, seqs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the unit of each row, -1 for a row that is none's first text."""
        order, known = self._by_seq
        at = np.minimum(np.searchsorted(known, seqs), len(known) - 1)
        return np.where(known[at] == seqs, order[at], -1)

    def _note(
        self, unit: int, others: NDArray[np.int64], similarities: NDArray[np.float32]
    ) -> None:
        """Note which of `others` are duplicates of `unit`, on both sides."""
        mine = self.edges.get(unit, {})
        for other, similarity in zip(others.tolist(), similarities.tolist(), strict=True):
            if other < 0 or other == unit or other in mine:
                continue
            near = self._duplicate(unit, other, similarity)
            if near is not None:
                self.edges.setdefault(unit, {})[other] = near
                self.edges.setdefault(other, {})[unit] = Near(unit, similarity, near.probability)

    def _duplicate(self, unit: int, other: int, similarity: float) -> Near | None:
        probability, verdict = self._judged(self._firsts[unit], self._firsts[other], similarity)
        if not self.criteria.joins(verdict):
            return None
        return Near(other, similarity, probability)

    def _near(self, unit: int, free: NDArray[np.bool_]) -> list[Near]:
        if unit not in self._crowded:
            return [near for near in self.edges.get(unit, {}).values() if free[near.place]]
        others = np.flatnonzero(free)
        row = self.view.vectors(self._seqs[[unit]])[0].astype(np.float32)
        similarities = self.view.similarities(self._seqs[others], row)
        found = []
        for place in np.flatnonzero(similarities >= self.criteria.floor).tolist():
            near = self._duplicate(unit, int(others[place]), float(similarities[place]))
            if near is not None:
                found.append(near)
        return found

    def _duplicates(self, unit: int) -> AbstractSet[int]:
        return self.edges.get(unit, {}).keys()

    def _apart(self, unit: int, members: Sequence[int]) -> bool:
        if not members:
            return False
        self.watch.step("grouping", self._total - self._left, self._total)
        row = self.view.vectors(self._seqs[[unit]])[0].astype(np.float32)
        similarities = self.view.similarities(self._seqs[list(members)], row).tolist()
        for member, similarity in zip(members, similarities, strict=True):
            verdict = self._judged(self._firsts[unit], self._firsts[member], similarity)[1]
            if verdict is Verdict.DISTINCT:
                return True
        return False
