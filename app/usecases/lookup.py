"""Has this been asked before?"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from app.domain.anchors import Filter, Match
from app.domain.errors import Unavailable
from app.domain.explanation import Explanation
from app.domain.ports import AnchorReader, Encoder, Hits, VectorIndex, VectorView
from app.domain.verdicts import Verdict, strongest
from app.usecases.filtered import Filtered
from app.usecases.matching import Judge, Question, Standard
from app.usecases.shortlist import Shortlist

FURTHER = 20

# A version that the view holds and the database no longer does was replaced by a write that is
# about to be published; that takes well under a millisecond. Whoever finds the same again and
# again is told to come back rather than holding a worker.
CATCH_UP_SECONDS = 2.0
PAUSE_SECONDS = 0.002


EVERYTHING = Filter()
_NONE: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with what narrows its answer.

    limit: how many matches to return at most; explain: whether to say why each is one.
    min_similarity: cosine below which nothing matches, None for no such bound.
    """

    text: str
    limit: int = 10
    min_similarity: float | None = None
    where: Filter = EVERYTHING
    explain: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found.

    label: the label of the best match that has one and is not distinct.
    truncated: whether the question was longer than the encoder reads.
    explanations: one a match, in their order; None where they were not asked for.
    """

    question: str
    verdict: Verdict
    label: str | None
    matches: Sequence[Match]
    encoder: str
    truncated: bool
    explanations: Sequence[Explanation] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Open:
    """A question that is not answered yet. place: among those asked together."""

    place: int
    question: Question
    asked: Asked
    truncated: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Near:
    """The nearest of an open question, and the view of its collection that holds them."""

    one: _Open
    shortlist: Shortlist
    view: VectorView


@contextmanager
def _failing_alone(outcomes: dict[int, Answer | Exception], place: int) -> Iterator[None]:
    """Make what is raised inside the outcome of one question: the others have no part in it."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
        outcomes[place] = error


@dataclass(frozen=True, slots=True)
class Lookup:
    """Finds likely duplicates among the anchors of a collection.

    filtered: finds the nearest that a filter admits.
    further: so many more candidates are judged than matches are asked for: what speaks beside the
    similarity can bring one of them to the front.
    """

    encoder: Encoder
    rows: AnchorReader
    index: VectorIndex
    judge: Judge
    filtered: Filtered
    further: int = FURTHER

    def __call__(self, collection_name: str, asked: Asked) -> Answer:
        """Return the likely duplicates of a question. Raises CollectionNotFound."""
        (outcome,) = self.many([(collection_name, asked)])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def many(self, questions: Sequence[tuple[str, Asked]]) -> list[Answer | Exception]:
        """Return, for each (collection, question), its answer or what prevented it.

        They share calls of the encoder, of the index and of the database; each is answered as it
        would be alone.
        """
        encoded = self.encoder.encode([asked.text for _, asked in questions])
        outcomes: dict[int, Answer | Exception] = {}
        by_collection: dict[str, list[_Open]] = {}
        for place, (name, asked) in enumerate(questions):
            with _failing_alone(outcomes, place):
                question = Question.of(asked.text, encoded.vectors[place])
                one = _Open(place, question, asked, encoded.truncated[place])
                by_collection.setdefault(name, []).append(one)
        for name, together in by_collection.items():
            try:
                self._answer(name, together, outcomes)
            except Exception as error:  # noqa: BLE001 - it belongs to those who asked
                for one in together:
                    outcomes.setdefault(one.place, error)
        return [outcomes[place] for place in range(len(questions))]

    def _answer(
        self, collection_name: str, together: list[_Open], outcomes: dict[int, Answer | Exception]
    ) -> None:
        """Answer questions of one collection, each as things stood at one moment.

        Vectors come from the view, texts from the database, which may be one commit ahead of it:
        then a candidate's version is gone from one of them, and a fresh view has the answer.
        outcomes: by place, where each goes as soon as it is there.
        """
        deadline = time.monotonic() + CATCH_UP_SECONDS
        while True:
            collection = self.rows.collection(collection_name)
            standard = self.judge.standard_of(collection)
            view = self.index.view(collection.key)
            waiting = self._near(collection.key, view, together, outcomes)
            first = True
            while waiting:
                waiting = self._read(collection.key, waiting, standard, outcomes, first=first)
                first = False
            together = [one for one in together if one.place not in outcomes]
            if not together:
                return
            if time.monotonic() > deadline:
                raise Unavailable("the index lags behind the database; try again")
            time.sleep(PAUSE_SECONDS)

    def _near(
        self,
        collection: int,
        view: VectorView,
        together: Sequence[_Open],
        outcomes: dict[int, Answer | Exception],
    ) -> list[_Near]:
        """Return the nearest of each question by vectors alone, where view and database agree."""
        found: list[tuple[_Open, Hits, VectorView]] = []
        plain: dict[int, list[_Open]] = {}
        for one in together:
            wanted = one.asked.limit + self.further
            if not one.asked.where:
                plain.setdefault(wanted, []).append(one)
                continue
            with _failing_alone(outcomes, one.place):
                filtered = self.filtered(
                    collection, view, one.asked.where, one.question.vector, wanted
                )
                if filtered is not None:
                    hits, held = filtered
                    found.append((one, _near_enough(hits, one.asked.min_similarity), held))
        for wanted, some in plain.items():
            vectors = np.stack([one.question.vector for one in some])
            every = view.search_many(vectors, wanted, -math.inf)
            found += [
                (one, _near_enough(hits, one.asked.min_similarity), view)
                for one, hits in zip(some, every, strict=True)
            ]
        near: list[_Near] = []
        scores = self.judge.scores_each([(one.question, hits) for one, hits, _ in found])
        for (one, hits, held), each in zip(found, scores, strict=True):
            with _failing_alone(outcomes, one.place):
                shortlist = Shortlist(self.judge, one.question, one.asked.limit, hits, each)
                near.append(_Near(one, shortlist, held))
        return near

    def _read(
        self,
        collection: int,
        waiting: Sequence[_Near],
        standard: Standard,
        outcomes: dict[int, Answer | Exception],
        *,
        first: bool,
    ) -> list[_Near]:
        """Read what these wait for in one statement; return those that have to read more.

        Those that are answered or failed are among the outcomes; about all others view and database
        disagree. All candidates stood when the first were read, and a version never changes, so
        what is read later stood at that moment too.
        """
        found = self.rows.found(
            collection,
            sorted({seq for near in waiting for seq in near.shortlist.wanted}),
            list({near.one.question.fingerprint for near in waiting}) if first else [],
            frozenset(seq for near in waiting for seq in near.shortlist.seqs) if first else _NONE,
            min(near.view.seq for near in waiting),
        )
        more: list[_Near] = []
        if found is None:
            return more  # deleted in between, which the next look at the collection tells
        for near in waiting:
            one, shortlist, asked = near.one, near.shortlist, near.one.asked
            with _failing_alone(outcomes, one.place):
                if first and not (
                    found.gone.isdisjoint(shortlist.seqs)
                    and shortlist.take_same(
                        found.anchors, near.view, asked.where, asked.min_similarity
                    )
                ):
                    continue
                if not shortlist.take(found.anchors):
                    continue
                if shortlist.wanted:
                    more.append(near)
                else:
                    outcomes[one.place] = self._answered(near, standard)
        return more

    def _answered(self, near: _Near, standard: Standard) -> Answer:
        one, asked = near.one, near.one.asked
        matches = near.shortlist.matches(standard)
        labels = (
            match.anchor.label
            for match in matches
            if match.anchor.label is not None and match.verdict is not Verdict.DISTINCT
        )
        return Answer(
            asked.text,
            strongest(match.verdict for match in matches),
            next(labels, None),
            matches,
            self.encoder.name,
            one.truncated,
            self.judge.explanations(one.question, matches, standard, near.view)
            if asked.explain
            else None,
        )


def _near_enough(hits: Hits, least: float | None) -> Hits:
    """Return the hits that are similar enough; all where nothing is asked of them."""
    # As float64, or the bound would be rounded to the precision of the similarities.
    return hits if least is None else hits.kept(hits.similarities.astype(np.float64) >= least)
