"""All groups of duplicates among given texts: the same for a collection and for a file."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from app.domain.anchors import Change
from app.domain.clusters import HELD_AGAINST, Near, by_duplicates, stars
from app.domain.ports import VectorView
from app.domain.verdicts import Verdict, verdict_of
from app.usecases.matching import Judge, Standard

# Texts searched for at a time: some ten milliseconds, between which others get their turn.
TOGETHER = 64
# Neighbours looked at for every text, and for one that may have more duplicates. Who has more than
# the last number is looked up among all texts once it becomes canonical.
WIDENING = (16, 64, 256)
# Pairs judged between two steps: some milliseconds.
STEP = 256
# How far a similarity may lie below the cut-off and still be judged.
_MARGIN = 1e-6


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

    def to_json(self, shown: Callable[[int], Mapping[str, Any]]) -> dict[str, Any]:
        """Return it as results show it. shown: a text by its place, with whatever names it."""
        return {
            "size": len(self),
            "canonical": shown(self.canonical),
            "members": [
                {
                    **shown(member.place),
                    "similarity": round(member.similarity, 6),
                    "probability": round(member.probability, 6),
                    "verdict": member.verdict,
                }
                for member in self.members
            ],
        }


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
        """Return the cosine below which no pair can be a duplicate; above 1 where none is.

        A head may say anything of any two vectors: with one, no cosine is too low.
        """
        low, high = -1.0, 1.0
        if self.judge.scorer.needs_vectors:
            return low
        if not self.may_join(self.base(high, 0.0)):
            return 2.0
        if self.may_join(self.base(low, 0.0)):
            return low
        while high - low > _MARGIN:
            middle = (low + high) / 2
            joins = self.may_join(self.base(middle, 0.0))
            low, high = (low, middle) if joins else (middle, high)
        return low

    def base(self, similarity: float, score: float) -> float:
        """Return the log odds of a pair by its vectors alone. score: the head's."""
        return self.judge.calibration.log_odds(similarity, None, score)

    def bases(
        self,
        vector: NDArray[np.float32],
        seqs: NDArray[np.int64],
        similarities: NDArray[np.float32],
        view: VectorView,
    ) -> list[float]:
        """Return the log odds of each of `seqs` with a text, by their vectors alone.

        vector: (dim,) of the text, similarities: (n,) to it, view: holds those of `seqs`, (n,).
        """
        scorer = self.judge.scorer
        others = view.vectors(seqs) if scorer.needs_vectors else None
        scores = scorer.scores(vector[np.newaxis], others, len(seqs))
        return list(map(self.base, similarities.tolist(), scores))

    def may_join(self, base: float) -> bool:
        """Return whether two texts may belong together, whatever they say."""
        return self.joins(self._best(base))

    def cannot_stay(self, base: float) -> bool:
        """Return whether two texts are distinct, whatever they say."""
        return self._best(base) is Verdict.DISTINCT

    def _best(self, base: float) -> Verdict:
        most = base + self.judge.calibration.most_evidence
        return self.judge.of_log_odds(most, self.standard)[1]

    def judged(self, left: Text, right: Text, base: float) -> tuple[float, Verdict]:
        """Return P(duplicate) and the verdict: the one place where two texts of a group meet.

        The same whichever of the two comes first: they are put in order here.
        """
        left, right = sorted((left, right), key=lambda text: text.fingerprint)
        evidence = self.judge.scorer.evidence(left.text, right.text)
        log_odds = base + self.judge.calibration.from_evidence(evidence)
        return self.judge.of_log_odds(log_odds, self.standard)

    def joins(self, verdict: Verdict) -> bool:
        """Return whether a pair with this verdict belongs into one group."""
        return verdict is Verdict.DUPLICATE or verdict is self.least


def only(view: VectorView, kept: NDArray[np.int64], held: NDArray[np.int64]) -> VectorView:
    """Return a view of the rows `kept` alone. held: all rows it has."""
    gone = np.setdiff1d(held, kept).tolist()
    return view.apply([Change(seq, row, None) for seq, row in enumerate(gone, view.seq + 1)])


def firsts(texts: Sequence[Text]) -> list[Text]:
    """Return the first text of every fingerprint."""
    found: dict[bytes, Text] = {}
    for text in texts:
        found.setdefault(text.fingerprint, text)
    return list(found.values())


@dataclass(frozen=True, slots=True)
class _Likely:
    """Neighbours of a unit that may be its duplicates, the most alike first, all of one length.

    bases: their log odds by the vectors alone.
    far: from here on they are so far off that a duplicate among them tells of more beyond.
    """

    units: list[int]
    similarities: list[float]
    bases: list[float]
    far: int


@dataclass(slots=True)
class Grouping:
    """Finds groups among `texts`, whose order is their rank: of equals, the earlier is canonical.

    Texts of one fingerprint count as one (a unit) and share the similarity of the first of them.

    view: holds the vector of the first text of every fingerprint, and no other; see `only`.
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
    _searched: int = field(init=False, default=0)
    _total: int = field(init=False, default=0)
    _left: int = field(init=False, default=0)
    _halves: int = field(init=False, default=0)
    _shown: int = field(init=False, default=0)

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
                Member(copy, 1.0, 1.0, Verdict.DUPLICATE)
                for copy in self._copies[self.texts[canonical].fingerprint][1:]
            ]
            for near in nears:
                place = self._firsts[near.place]
                verdict = verdict_of(near.probability, self.criteria.standard.cut_offs)
                members += [
                    Member(copy, near.similarity, near.probability, verdict)
                    for copy in self._copies[self.texts[place].fingerprint]
                ]
            if members:
                groups.append(Group(canonical, tuple(members)))
        groups.sort(key=lambda group: (-len(group), group.canonical))
        return groups

    def _stars(self) -> Iterator[tuple[int, Sequence[Near]]]:
        """Yield every text that is canonical or alone, with its duplicates."""
        counts = [len(self.edges.get(unit, ())) for unit in range(len(self._firsts))]
        alone = np.ones(len(counts), np.bool_)
        self._left = self._total = int(np.count_nonzero(counts))
        self._step()
        for star in stars(by_duplicates(counts), self._near, self._apart, self._duplicates):
            alone[[star.center, *(near.place for near in star.members)]] = False
            self._left = max(self._left - len(star.members) - 1, 0)
            self._halves = 0
            yield self._firsts[star.center], star.members
        for unit in np.flatnonzero(alone).tolist():
            yield self._firsts[unit], ()

    def _find_edges(self) -> None:
        if self.criteria.floor > 1:
            return
        total = len(self._firsts)
        under_way: deque[Future[list[tuple[int, _Likely]]]] = deque()
        with ThreadPoolExecutor(self.threads, "deja-grouping") as pool:
            for start in range(0, total, TOGETHER):
                self.watch.step("searching", self._searched, total)
                units = np.arange(start, min(start + TOGETHER, total))
                under_way.append(pool.submit(self._search, units))
                # Judged in the order of the units, so that chance decides nothing.
                if len(under_way) > self.threads:
                    self._judge(under_way.popleft().result())
            while under_way:
                self._judge(under_way.popleft().result())
        self.watch.step("searching", total, total)

    def _search(self, units: NDArray[np.int64]) -> list[tuple[int, _Likely]]:
        """Return the likely duplicates of these units; as long as the last are likely, look on."""
        floor = self.criteria.floor
        rows = self.view.vectors(self._seqs[units]).astype(np.float32)
        found: dict[int, _Likely] = {}
        for k in WIDENING:
            wider = []
            hits = self.view.search_many(rows, k + 1, floor)
            for at, (unit, one) in enumerate(zip(units.tolist(), hits, strict=True)):
                others = self._units_of(one.seqs)
                itself = others == unit
                likely = self._likely(rows[at], one.similarities[~itself], others[~itself])
                if len(one.seqs) > k and likely.far < len(likely.units):
                    wider.append(at)
                else:
                    likely = replace(likely, far=len(likely.units))  # that was all
                found[unit] = likely
            if not wider:
                break
            units, rows = units[wider], rows[wider]
        return sorted(found.items())

    def _units_of(self, seqs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the unit of each row."""
        order, known = self._by_seq
        return order[np.searchsorted(known, seqs)]

    def _likely(
        self, row: NDArray[np.float32], similarities: NDArray[np.float32], others: NDArray[np.int64]
    ) -> _Likely:
        """Return those of `others` that may be duplicates of the text with the vector `row`."""
        order = np.lexsort((others, -similarities))
        others, similarities = others[order], similarities[order]
        bases = self.criteria.bases(row, self._seqs[others], similarities, self.view)
        may = [place for place, base in enumerate(bases) if self.criteria.may_join(base)]
        return _Likely(
            others[may].tolist(),
            similarities[may].tolist(),
            [bases[place] for place in may],
            bisect_left(may, len(bases) // 2),
        )

    def _judge(self, found: Sequence[tuple[int, _Likely]]) -> None:
        """Note who is a duplicate of whom, on both sides."""
        judged = 0
        for unit, likely in found:
            nears = self._duplicates_among(unit, likely)
            if not {near.place for near in nears}.isdisjoint(likely.units[likely.far :]):
                self._crowded.add(unit)
            for near in nears:
                self.edges.setdefault(unit, {})[near.place] = near
                self.edges.setdefault(near.place, {})[unit] = replace(near, place=unit)
            self._searched += 1
            judged += len(likely.units)
            if judged >= STEP:
                self.watch.step("searching", self._searched, len(self._firsts))
                judged = 0

    def _duplicates_among(self, unit: int, likely: _Likely) -> list[Near]:
        """Return which of them are duplicates of a unit; nobody is judged twice who is one."""
        known = self.edges.get(unit, {})
        found = []
        for other, similarity, base in zip(
            likely.units, likely.similarities, likely.bases, strict=True
        ):
            near = known.get(other)
            if near is None:
                probability, verdict = self._judged(unit, other, base)
                if not self.criteria.joins(verdict):
                    continue
                near = Near(other, similarity, probability)
            found.append(near)
        return found

    def _judged(self, unit: int, other: int, base: float) -> tuple[float, Verdict]:
        left, right = self.texts[self._firsts[unit]], self.texts[self._firsts[other]]
        return self.criteria.judged(left, right, base)

    def _near(self, unit: int, free: NDArray[np.bool_]) -> list[Near]:
        if unit not in self._crowded:
            return [near for near in self.edges.get(unit, {}).values() if free[near.place]]
        row, similarities = self._to_all(unit, others := np.flatnonzero(free))
        order = np.lexsort((others, -similarities))
        found = []
        for start in range(0, len(order), STEP):
            self._step()
            part = order[start : start + STEP]
            likely = self._likely(row, similarities[part], others[part])
            if not likely.units:
                break
            found += self._duplicates_among(unit, likely)
        return found

    def _duplicates(self, unit: int, among: AbstractSet[int]) -> AbstractSet[int]:
        self._halves += 1
        found = self.edges.get(unit, {}).keys() & among
        if found or unit not in self._crowded:
            return found
        # Of two that have more duplicates than were looked at, nobody may have seen the other.
        others = np.array(sorted(self._crowded & among)[:HELD_AGAINST], np.int64)
        if not len(others):
            return found
        self._step()
        likely = self._likely(*self._to_all(unit, others), others)
        return {near.place for near in self._duplicates_among(unit, likely)}

    def _apart(self, unit: int, members: Sequence[int]) -> bool:
        apart = self._is_apart(unit, members)
        self._halves += not apart
        return apart

    def _is_apart(self, unit: int, members: Sequence[int]) -> bool:
        known = self.edges.get(unit, {})
        others = np.array([member for member in members if member not in known], np.int64)
        if not len(others):
            return False
        self._step()
        row, similarities = self._to_all(unit, others)
        bases = self.criteria.bases(row, self._seqs[others], similarities, self.view)
        return any(map(self.criteria.cannot_stay, bases)) or any(
            self._judged(unit, other, base)[1] is Verdict.DISTINCT
            for other, base in zip(others.tolist(), bases, strict=True)
        )

    def _to_all(
        self, unit: int, others: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the vector of a unit and its similarity to each of `others`."""
        row = self.view.vectors(self._seqs[[unit]])[0].astype(np.float32)
        return row, self.view.similarities(self._seqs[others], row)

    def _step(self) -> None:
        """Say how far it is: of a group under way, who was looked at counts half, who joined whole.

        Where many do not join it stays where it was, and never goes back.
        """
        done = self._total - self._left + self._halves // 2
        self._shown = min(max(self._shown, done), self._total)
        self.watch.step("grouping", self._shown, self._total)
