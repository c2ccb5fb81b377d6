"""Has this been asked before?"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.domain.anchors import Anchor, Filter, Match
from app.domain.errors import Unavailable
from app.domain.explanation import Explanation
from app.domain.ports import AnchorReader, Encoder, Hits, VectorIndex, VectorView
from app.domain.verdicts import Verdict, strongest
from app.usecases.filtered import Filtered
from app.usecases.matching import Judge, Question, Standard, in_order

FURTHER = 20

# A version that the view holds and the database no longer does was replaced by a write that is
# about to be published; that takes well under a millisecond. Whoever finds the same again and
# again is told to come back rather than holding a worker.
CATCH_UP_SECONDS = 2.0
PAUSE_SECONDS = 0.002


EVERYTHING = Filter()


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


@dataclass(frozen=True, slots=True)
class _Near:
    """Candidates whose texts are not read yet, and a view of their collection that holds them."""

    collection: int
    hits: Hits
    view: VectorView


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

        They are encoded together; each is answered as it would be alone.
        """
        encoded = self.encoder.encode([asked.text for _, asked in questions])
        outcomes: list[Answer | Exception] = []
        for place, (name, asked) in enumerate(questions):
            try:
                vector, truncated = encoded.vectors[place], encoded.truncated[place]
                outcomes.append(self._answer(name, asked, vector, truncated=truncated))
            except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
                outcomes.append(error)
        return outcomes

    def _answer(
        self, collection_name: str, asked: Asked, vector: NDArray[np.float32], *, truncated: bool
    ) -> Answer:
        question = Question.of(asked.text, vector)
        standard, matches, view = self._consistent(collection_name, question, asked)
        return Answer(
            asked.text,
            strongest(match.verdict for match in matches),
            next(
                (
                    match.anchor.label
                    for match in matches
                    if match.anchor.label is not None and match.verdict is not Verdict.DISTINCT
                ),
                None,
            ),
            matches,
            self.encoder.name,
            truncated,
            self.judge.explanations(question, matches, standard, view) if asked.explain else None,
        )

    def _consistent(
        self, collection_name: str, question: Question, asked: Asked
    ) -> tuple[Standard, list[Match], VectorView]:
        """Return the matches as they stood at one moment, with a view that holds them.

        Vectors come from the view, texts from the database, which may be one commit ahead of it:
        then a candidate's version is gone from one of them, and a fresh view has the answer.
        """
        deadline = time.monotonic() + CATCH_UP_SECONDS
        while True:
            collection = self.rows.collection(collection_name)
            standard = self.judge.standard_of(collection)
            view = self.index.view(collection.key)
            near = self._near(collection.key, view, question, asked)
            if near is not None:
                matches = self._matches(near, question, asked, standard)
                if matches is not None:
                    return standard, matches, near.view
            if time.monotonic() > deadline:
                raise Unavailable("the index lags behind the database; try again")
            time.sleep(PAUSE_SECONDS)

    def _near(
        self, collection: int, view: VectorView, question: Question, asked: Asked
    ) -> _Near | None:
        """Return candidates by their vectors alone, None where view and database disagree."""
        wanted = asked.limit + self.further
        if asked.where:
            filtered = self.filtered(collection, view, asked.where, question.vector, wanted)
            if filtered is None:
                return None
            hits, view = filtered
        else:
            hits = view.search(question.vector, wanted)
        if asked.min_similarity is not None:
            # As float64, or the bound would be rounded to the precision of the similarities.
            near_enough = hits.similarities.astype(np.float64) >= asked.min_similarity
            hits = hits.kept(near_enough)
        return _Near(collection, hits, view)

    def _matches(
        self, near: _Near, question: Question, asked: Asked, standard: Standard
    ) -> list[Match] | None:
        """Return the best of the hits as matches, None where view and database disagree.

        Texts are read of those with the question's own text, of as many others as are wanted, and
        of those behind them that could still come before one of these: most often of none. All
        candidates stood when the first were read, and a version never changes, so what is read
        later stood at that moment too.
        """
        hits = near.hits
        values = zip(hits.similarities.tolist(), self.judge.bases(question, hits), strict=True)
        known = dict(zip(hits.seqs.tolist(), values, strict=True))
        waiting = sorted(known, key=lambda seq: -known[seq][1])
        anchors = self._read(near.collection, waiting[: asked.limit], question, waiting)
        if anchors is None:
            return None
        same = self._same_text(near.view, question, asked, anchors.values(), known)
        if same is None:
            return None
        found = [(anchor, similarity, math.inf) for anchor, similarity in same]
        most = self.judge.calibration.most_evidence
        while True:
            for seq in waiting:
                if (anchor := anchors.get(seq)) and anchor.fingerprint != question.fingerprint:
                    similarity, base = known[seq]
                    log_odds = self.judge.log_odds(question, anchor, base)
                    found.append((anchor, similarity, log_odds))
            reach = _at_place(asked.limit, [log_odds for _, _, log_odds in found])
            waiting = [
                seq for seq in waiting if seq not in anchors and known[seq][1] + most >= reach
            ]
            if not waiting:
                break
            anchors = self._read(near.collection, waiting, question, ())
            if anchors is None:
                return None
        matches = in_order(self.judge.match(*one, standard) for one in found)
        return matches[: asked.limit]

    def _read(
        self, collection: int, seqs: Sequence[int], question: Question, near: Sequence[int]
    ) -> dict[int, Anchor] | None:
        """Return these versions and those of the question's own text, None where one is gone.

        near: all candidates; each has to stand, since one that is not read may have that text too.
        """
        found = self.rows.found(collection, seqs, question.fingerprint, near)
        if found is None:
            return None
        anchors = {anchor.seq: anchor for anchor in found}
        return anchors if all(seq in anchors for seq in seqs) else None

    def _same_text(
        self,
        view: VectorView,
        question: Question,
        asked: Asked,
        anchors: Iterable[Anchor],
        known: Mapping[int, tuple[float, float]],
    ) -> list[tuple[Anchor, float]] | None:
        """Return those of `anchors` with the question's own text, and their similarities.

        They count however far their vectors lie, but only as what is asked admits them. None where
        the view lacks one of them.
        """
        same = [
            anchor
            for anchor in anchors
            if anchor.fingerprint == question.fingerprint and asked.where.admits(anchor)
        ]
        if all(anchor.seq in known for anchor in same):
            return [(anchor, known[anchor.seq][0]) for anchor in same]
        seqs = np.array([anchor.seq for anchor in same], dtype=np.int64)
        similarities = view.similarities(seqs, question.vector)
        if np.isnan(similarities).any():
            return None
        floor = -2.0 if asked.min_similarity is None else asked.min_similarity
        pairs = zip(same, similarities.tolist(), strict=True)
        return [(anchor, similarity) for anchor, similarity in pairs if similarity >= floor]


def _at_place(place: int, values: Sequence[float]) -> float:
    """Return the value at a place, the greatest being at 1; minus infinity where it is empty."""
    return sorted(values, reverse=True)[place - 1] if len(values) >= place else -math.inf
