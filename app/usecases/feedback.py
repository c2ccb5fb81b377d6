"""A person's verdict on a match."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from app.domain.errors import AnchorNotFound
from app.domain.feedback import Feedback, FeedbackStatus, pair_of
from app.usecases.matching import Judge, Question
from app.usecases.register import new_id
from app.usecases.writer import Writing


@dataclass(frozen=True, slots=True)
class Given:
    """What a person said.

    vector: (dim,) float32, the question's, unit length.
    duplicate: whether the question and the anchor ask the same.
    """

    question: str
    vector: NDArray[np.float32]
    anchor_id: str
    duplicate: bool


@dataclass(frozen=True, slots=True)
class GiveFeedback:
    """Stores verdicts; runs in the writer, so that texts and figures are of one moment.

    encoder: the name of the encoder that made the vectors.
    """

    judge: Judge
    encoder: str

    def __call__(
        self, writing: Writing, collection_name: str, given: Given
    ) -> tuple[FeedbackStatus, Feedback]:
        """Return what became of a verdict, and how it is stored now.

        The same verdict on the same pair again changes nothing; its opposite takes its place, and
        the conflict is counted. Raises CollectionNotFound or AnchorNotFound.
        """
        collection = writing.rows.collection(collection_name)
        anchor = writing.rows.by_id(collection.key, [given.anchor_id]).get(given.anchor_id)
        if anchor is None:
            raise AnchorNotFound(collection_name, given.anchor_id)
        question = Question.of(given.question, given.vector)
        pair = pair_of(question.fingerprint, anchor.fingerprint)
        before = writing.rows.feedback.of_pair(collection.key, pair)
        if before and before.duplicate == given.duplicate:
            return FeedbackStatus.UNCHANGED, before
        view, seqs = writing.view(collection.key), np.array([anchor.seq], dtype=np.int64)
        similarity = float(view.similarities(seqs, given.vector)[0])
        other = Question(anchor.text, view.vectors(seqs)[0].astype(np.float32), anchor.fingerprint)
        probability, _ = self.judge.of_pair(
            question, other, similarity, self.judge.standard_of(collection)
        )
        now = datetime.now(UTC)
        new = Feedback(
            id=new_id(),
            pair=pair,
            question=given.question,
            anchor_id=anchor.id,
            anchor_text=anchor.text,
            duplicate=given.duplicate,
            similarity=similarity,
            probability=probability,
            encoder=self.encoder,
            conflicts=0,
            created_at=now,
            updated_at=now,
        )
        status = FeedbackStatus.CREATED
        if before:
            status = FeedbackStatus.REPLACED
            conflicts = before.conflicts + 1
            new = replace(new, id=before.id, conflicts=conflicts, created_at=before.created_at)
        writing.rows.feedback.put(collection.key, new)
        return status, new
