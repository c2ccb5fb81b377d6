"""Has this been asked before?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.domain.anchors import Anchor, Collection, Filter, Match
from app.domain.errors import Unavailable
from app.domain.explanation import Explanation
from app.domain.ports import AnchorReader, Encoder, VectorIndex, VectorView
from app.domain.verdicts import Verdict, strongest
from app.usecases.matching import Judge, Question

NARROW = 10_000
FURTHER = 20
WIDENING = (256, 2_048, 8_192)

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
class _Found:
    """Candidates, and a view that holds the vector of each."""

    candidates: list[tuple[Anchor, float]]
    view: VectorView


@dataclass(frozen=True, slots=True)
class Lookup:
    """Finds likely duplicates among the anchors of a collection.

    narrow: a filter that admits no more anchors is answered by looking at each of them.
    widening: a wider one is answered out of so many nearest anchors, then out of more.
    further: so many more candidates are judged than matches are asked for: what speaks beside the
    similarity can bring one of them to the front.
    """

    encoder: Encoder
    rows: AnchorReader
    index: VectorIndex
    judge: Judge
    narrow: int = NARROW
    widening: tuple[int, ...] = WIDENING
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
        collection, found = self._consistent(collection_name, question, asked)
        standard = self.judge.standard_of(collection)
        floor = -2.0 if asked.min_similarity is None else asked.min_similarity
        near = [
            (anchor, similarity) for anchor, similarity in found.candidates if similarity >= floor
        ]
        matches = self.judge.matches(question, near, standard, found.view, limit=asked.limit)
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
            self.judge.explanations(question, matches, standard, found.view)
            if asked.explain
            else None,
        )

    def _consistent(
        self, collection_name: str, question: Question, asked: Asked
    ) -> tuple[Collection, _Found]:
        """Return the collection and its candidates, all as they stood at one moment.

        Vectors come from the view, texts from the database, which may be one commit ahead of it:
        then a candidate's version is gone from one of them, and a fresh view has the answer.
        """
        deadline = time.monotonic() + CATCH_UP_SECONDS
        while True:
            collection = self.rows.collection(collection_name)
            view = self.index.view(collection.key)
            found = self._candidates(collection.key, view, question, asked)
            if found is not None:
                return collection, found
            if time.monotonic() > deadline:
                raise Unavailable("the index lags behind the database; try again")
            time.sleep(PAUSE_SECONDS)

    def _candidates(
        self, collection: int, view: VectorView, question: Question, asked: Asked
    ) -> _Found | None:
        """Return candidates with their similarities, None where view and database disagree."""
        wanted = asked.limit + self.further
        if asked.where:
            filtered = self._near_filtered(collection, view, question, asked.where, wanted)
            if filtered is None:
                return None
            near, view = filtered
        else:
            hits = view.search(question.vector, wanted)
            near = dict(zip(hits.seqs.tolist(), hits.similarities.tolist(), strict=True))
        anchors = {
            anchor.seq: anchor
            for anchor in self.rows.found(collection, list(near), question.fingerprint)
        }
        if not near.keys() <= anchors.keys():
            return None
        # Equal texts count however far their vectors lie, but only as the filter admits them.
        further = [
            seq for seq, anchor in anchors.items() if seq not in near and asked.where.admits(anchor)
        ]
        if further:
            seqs = np.array(further, dtype=np.int64)
            similarities = view.similarities(seqs, question.vector)
            if np.isnan(similarities).any():
                return None
            near.update(zip(further, similarities.tolist(), strict=True))
        return _Found([(anchors[seq], similarity) for seq, similarity in near.items()], view)

    def _near_filtered(
        self, collection: int, view: VectorView, question: Question, where: Filter, wanted: int
    ) -> tuple[dict[int, float], VectorView] | None:
        """Return the nearest that `where` admits, None where view and database disagree.

        With them comes a view that holds them all.
        """
        seqs, newer = self.rows.select(collection, where, limit=self.narrow + 1, after=view.seq)
        if seqs.size > self.narrow:
            for k in self.widening:
                hits = view.search(question.vector, k)
                anchors = self.rows.by_seq(hits.seqs.tolist())
                if len(anchors) != hits.seqs.size:
                    break  # a write came in between; the log helps below, and only there
                admitted = [
                    (seq, similarity)
                    for seq, similarity in zip(
                        hits.seqs.tolist(), hits.similarities.tolist(), strict=True
                    )
                    if where.admits(anchors[seq])
                ]
                if len(admitted) >= wanted:
                    return dict(admitted[:wanted]), view
            seqs, newer = self.rows.select(collection, where, limit=None, after=view.seq)
        # Selecting many takes long enough for writes to come in between: the log says which.
        latest = view.apply(newer)
        near = _nearest(latest, seqs, question.vector, wanted)
        return None if near is None else (near, latest)


def _nearest(
    view: VectorView, seqs: NDArray[np.int64], vector: NDArray[np.float32], k: int
) -> dict[int, float] | None:
    """Return the `k` most similar of `seqs`, exactly; None where the view lacks one of them."""
    similarities = view.similarities(seqs, vector)
    if np.isnan(similarities).any():
        return None  # the collection was deleted in the meantime
    order = np.lexsort((seqs, -similarities))[:k]
    return dict(zip(seqs[order].tolist(), similarities[order].tolist(), strict=True))
