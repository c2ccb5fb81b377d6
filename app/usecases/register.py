"""Register anchors one-shot, unless they are duplicates."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from app.domain.anchors import (
    Collection,
    EncodedDraft,
    IfDuplicate,
    Match,
    Registered,
    RegisterStatus,
)
from app.domain.errors import DuplicatesRejected, IdempotencyConflict, InvalidField
from app.domain.ports import Remembered
from app.usecases.matching import Judge, Question
from app.usecases.writer import Writing


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A client's promise that a request with the same key is the same request.

    request: a hash of the request.
    to_answer: what to keep as the answer.
    """

    key: str
    request: bytes
    to_answer: Callable[[Sequence[Registered]], str]


@dataclass(frozen=True, slots=True)
class Register:
    """Stores a whole request of anchors or none of them; runs in the writer."""

    judge: Judge

    def __call__(
        self,
        writing: Writing,
        collection_name: str,
        drafts: Sequence[EncodedDraft],
        if_duplicate: IfDuplicate = IfDuplicate.REGISTER,
        idempotency: Idempotency | None = None,
    ) -> Sequence[Registered] | str:
        """Return what became of each draft, or the answer once given to the same request.

        Raises CollectionNotFound, InvalidField (an id twice), DuplicatesRejected and
        IdempotencyConflict; nothing is stored then.
        """
        collection = writing.rows.collection(collection_name)
        if idempotency:
            remembered = writing.rows.recall(collection.key, idempotency.key)
            if remembered:
                return answer_again(remembered, idempotency.key, idempotency.request)
        ids = [encoded.draft.id for encoded in drafts]
        _require_distinct(ids)
        if if_duplicate is IfDuplicate.REGISTER:
            results = self._store_all(writing, collection.key, drafts)
        else:
            results = self._store_unless_duplicate(
                writing, collection, drafts, reject=if_duplicate is IfDuplicate.REJECT
            )
        if idempotency:
            answer = Remembered(idempotency.request, idempotency.to_answer(results))
            writing.rows.remember(collection.key, idempotency.key, answer)
        return results

    def _store_all(
        self, writing: Writing, collection: int, drafts: Sequence[EncodedDraft]
    ) -> list[Registered]:
        given = [encoded.draft.id for encoded in drafts if encoded.draft.id is not None]
        before = writing.rows.by_id(collection, given)
        results, rows, made = [], [], set()
        for encoded in drafts:
            draft = encoded.draft
            old = before.get(draft.id) if draft.id is not None else None
            anchor_id = draft.id
            if anchor_id is None:
                anchor_id = new_id()
                made.add(anchor_id)
            if old and old.same_content(draft):
                status = RegisterStatus.UNCHANGED
            else:
                status = RegisterStatus.UPDATED if old else RegisterStatus.CREATED
                rows.append((anchor_id, encoded))
            results.append(Registered(anchor_id, status, encoded.truncated))
        writing.record(collection, writing.rows.put(collection, rows, made))
        return results

    def _store_unless_duplicate(
        self,
        writing: Writing,
        collection: Collection,
        drafts: Sequence[EncodedDraft],
        *,
        reject: bool,
    ) -> list[Registered]:
        key = collection.key
        results: list[Registered] = []
        rejected: list[tuple[int, Match]] = []
        # One by one, so that each sees those of the same request that were stored before it.
        for position, encoded in enumerate(drafts):
            draft = encoded.draft
            old = writing.rows.by_id(key, [draft.id]).get(draft.id) if draft.id else None
            if old and old.same_content(draft):
                results.append(Registered(old.id, RegisterStatus.UNCHANGED, encoded.truncated))
                continue
            duplicate = self.judge.find_duplicate(
                Question(draft.text, encoded.vector.astype(np.float32), encoded.fingerprint),
                writing.view(key),
                writing.rows,
                collection,
                except_seq=old.seq if old else None,
            )
            if duplicate:
                rejected.append((position, duplicate))
                results.append(
                    Registered(draft.id, RegisterStatus.SKIPPED, encoded.truncated, duplicate)
                )
                continue
            anchor_id = draft.id if draft.id is not None else new_id()
            made = {anchor_id} if draft.id is None else set()
            writing.record(key, writing.rows.put(key, [(anchor_id, encoded)], made))
            status = RegisterStatus.UPDATED if old else RegisterStatus.CREATED
            results.append(Registered(anchor_id, status, encoded.truncated))
        if reject and rejected:
            raise DuplicatesRejected(rejected)
        return results


def answer_again(remembered: Remembered, key: str, request: bytes) -> str:
    """Return the remembered answer. Raises IdempotencyConflict if the request was another."""
    if remembered.request != request:
        raise IdempotencyConflict(key)
    return remembered.answer


def new_id() -> str:
    """Return a UUIDv7 (RFC 9562): ids sort by the millisecond they were made in."""
    millis = time.time_ns() // 1_000_000
    value = (millis & (2**48 - 1)) << 80 | 0x7 << 76 | secrets.randbits(12) << 64
    return str(uuid.UUID(int=value | 0b10 << 62 | secrets.randbits(62)))


def _require_distinct(ids: Sequence[str | None]) -> None:
    seen: set[str] = set()
    for position, anchor_id in enumerate(ids):
        if anchor_id is None:
            continue
        if anchor_id in seen:
            raise InvalidField(
                ("body", "anchors", position, "id"),
                f"id {anchor_id!r} stands twice in the request",
            )
        seen.add(anchor_id)
