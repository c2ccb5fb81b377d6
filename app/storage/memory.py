"""`AnchorStore` in plain dictionaries: nothing outlives the process.

It stands in for the database in tests, and is the shortest statement of what the port means.
"""

from __future__ import annotations

import secrets
from collections.abc import Generator, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from app.domain.anchors import (
    DEFAULT_COLLECTION,
    Anchor,
    Change,
    Collection,
    CollectionSettings,
    EncodedDraft,
    Filter,
)
from app.domain.cut_offs import IDENTITY, Correction
from app.domain.errors import CollectionNotFound, JobNotFound
from app.domain.feedback import Feedback
from app.domain.jobs import Job
from app.domain.ports import EQUAL_TEXTS, Found, Remembered, SelectedSince
from app.domain.recalibration import Fitted
from app.storage.memory_feedback import MemoryFeedback

_REMEMBERED = timedelta(days=1)
_BATCH = 2


@dataclass(slots=True)
class _Row:
    collection: int
    anchor: Anchor
    vector: NDArray[np.float16]
    encoder: str


@dataclass(slots=True)
class _State:
    """What a transaction works on; copied, so that it can be thrown away."""

    last_seq: int = 0
    last_key: int = 0
    collections: dict[int, Collection] = field(default_factory=dict)
    log_start: dict[int, int] = field(default_factory=dict)
    rows: dict[int, _Row] = field(default_factory=dict)
    log: list[tuple[int, Change]] = field(default_factory=list)
    remembered: dict[tuple[int, str], tuple[datetime, Remembered]] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    results: dict[str, tuple[str, ...]] = field(default_factory=dict)
    feedback: dict[tuple[int, str], Feedback] = field(default_factory=dict)
    corrections: dict[int, Fitted] = field(default_factory=dict)

    def fork(self) -> _State:
        """Return a state of its own with the same content."""
        return _State(*(copy(getattr(self, name)) for name in self.__slots__))

    def of(self, collection: int) -> list[Anchor]:
        """Return the anchors of a collection."""
        return [row.anchor for row in self.rows.values() if row.collection == collection]

    def changes(self, collection: int, after: int) -> list[Change]:
        """Return what the log has after a seq, versions gone since without a vector."""
        rows = self.rows
        return [
            replace(change, vector=rows[change.seq].vector if change.seq in rows else None)
            for of, change in self.log
            if of == collection and change.seq > after
        ]


class _Reads:
    """The point reads, over `self._state`."""

    _state: _State
    _encoder: str

    @property
    def feedback(self) -> MemoryFeedback:
        """Return the feedback."""
        return MemoryFeedback(self._state.feedback)

    def collection(self, name: str) -> Collection:
        """Return a collection. Raises CollectionNotFound."""
        for collection in self._state.collections.values():
            if collection.name == name:
                return self._corrected(collection)
        raise CollectionNotFound(name)

    def known(self, _name: str) -> Collection | None:
        """Return nothing: whatever is asked is looked for."""
        return None

    def collections(self) -> list[Collection]:
        """Return every collection, by name."""
        found = map(self._corrected, self._state.collections.values())
        return sorted(found, key=lambda one: one.name)

    def correction(self, collection: int) -> Fitted | None:
        """Return a collection's correction, whichever encoder it was fitted for."""
        return self._state.corrections.get(collection)

    def _corrected(self, collection: Collection) -> Collection:
        fitted = self.correction(collection.key)
        if fitted is None or fitted.outdated_by(self._encoder, collection.settings.base_rate):
            return replace(collection, correction=IDENTITY)
        return replace(collection, correction=fitted.correction)

    def by_seq(self, seqs: Sequence[int]) -> dict[int, Anchor]:
        """Return the versions that still stand, by seq."""
        rows = self._state.rows
        return {seq: rows[seq].anchor for seq in seqs if seq in rows}

    def found(
        self,
        collection: int,
        seqs: Sequence[int],
        fingerprints: Sequence[bytes],
        near: AbstractSet[int],
        since: int,  # noqa: ARG002 - the port's; looking at each costs nothing here
    ) -> Found | None:
        """Return what `by_seq` and `by_fingerprint` of each would, and what is gone, of one moment.

        Candidates with one of the fingerprints are read too. None where the collection is deleted.
        """
        if collection not in self._state.collections:
            return None
        standing = self.by_seq(list(near))
        anchors = {seq: one for seq, one in standing.items() if one.fingerprint in fingerprints}
        for mark in fingerprints:
            anchors |= {anchor.seq: anchor for anchor in self.by_fingerprint(collection, mark)}
        return Found(anchors | self.by_seq(seqs), frozenset(near - standing.keys()))

    def by_id(self, collection: int, ids: Sequence[str]) -> dict[str, Anchor]:
        """Return the anchors that exist, by id."""
        wanted = set(ids)
        return {anchor.id: anchor for anchor in self._state.of(collection) if anchor.id in wanted}

    def by_fingerprint(self, collection: int, fingerprint: bytes) -> list[Anchor]:
        """Return the anchors of equal canonical text, the oldest version first, 100 at most."""
        found = [
            anchor for anchor in self._state.of(collection) if anchor.fingerprint == fingerprint
        ]
        return sorted(found, key=lambda anchor: anchor.seq)[:EQUAL_TEXTS]

    def select(
        self, collection: int, where: Filter, *, limit: int | None, after: int
    ) -> tuple[NDArray[np.int64], list[Change]]:
        """Return seqs that `where` admits, and the changes after `after`, of one moment."""
        now = self._state
        seqs = sorted(anchor.seq for anchor in now.of(collection) if where.admits(anchor))
        return np.array(seqs[:limit], dtype=np.int64), now.changes(collection, after)

    def select_since(
        self, collection: int, where: Filter, since: int, *, limit: int, after: int
    ) -> SelectedSince | None:
        """Return what has come and gone since a selection that held all changes up to `since`.

        None where the log no longer reaches back so far, or more than `limit` changes came.
        """
        now = self._state
        came = now.changes(collection, since)
        if since < now.log_start.get(collection, since + 1) or len(came) > limit:
            return None
        gone = [change.removed for change in came if change.removed is not None]
        standing = [anchor for anchor in now.of(collection) if anchor.seq > since]
        come = sorted(anchor.seq for anchor in standing if where.admits(anchor))
        newer = now.changes(collection, after)
        return SelectedSince(np.array(gone, np.int64), np.array(come, np.int64), newer)

    def labels_of(self, seqs: Sequence[int]) -> dict[int, str | None]:
        """Return the label of each version that still stands, None of one without."""
        return {seq: anchor.label for seq, anchor in self.by_seq(seqs).items()}

    def labelled(
        self, collection: int, where: Filter, *, limit: int | None, after: int
    ) -> tuple[dict[int, str], list[Change]]:
        """Return labels that `where` admits, and the changes after `after`, of one moment."""
        now = self._state
        found = [
            (anchor.seq, anchor.label)
            for anchor in now.of(collection)
            if anchor.label is not None and where.admits(anchor)
        ]
        return dict(found[:limit]), now.changes(collection, after)

    def page(
        self, collection: int, *, label: str | None, after: str | None, limit: int
    ) -> list[Anchor]:
        """Return anchors in the order of their ids, from the first id greater than `after`."""
        found = [
            anchor
            for anchor in self._state.of(collection)
            if (label is None or anchor.label == label) and (after is None or anchor.id > after)
        ]
        return sorted(found, key=lambda anchor: anchor.id)[:limit]

    def count(self, collection: int) -> tuple[int, int]:
        """Return how many anchors and how many distinct labels a collection holds."""
        anchors = self._state.of(collection)
        return len(anchors), len({anchor.label for anchor in anchors} - {None})

    def job(self, job_id: str) -> Job:
        """Return a job. Raises JobNotFound."""
        job = self._state.jobs.get(job_id)
        if job is None or not self._known(job):
            raise JobNotFound(job_id)
        return job

    def jobs(self) -> list[Job]:
        """Return every job, the oldest first."""
        alive = [job for job in self._state.jobs.values() if self._known(job)]
        return sorted(alive, key=lambda job: (job.created_at, job.id))

    def _known(self, job: Job) -> bool:
        return job.collection in self._state.collections

    def result(self, job_id: str, after: int, limit: int) -> list[str]:
        """Return lines of a job's result, `limit` at most, from the one numbered `after` on."""
        return list(self._state.results.get(job_id, ())[after : after + limit])


class _Moment(_Reads):
    def __init__(self, state: _State, encoder: str) -> None:
        self._state = state
        self._encoder = encoder


class _Transaction(_Moment):
    @property
    def state(self) -> _State:
        return self._state

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        before = self._state.fork()
        try:
            yield
        except BaseException:
            self._state = before
            raise

    def put(
        self,
        collection: int,
        anchors: Sequence[tuple[str, EncodedDraft]],
        new: AbstractSet[str] = frozenset(),
    ) -> list[Change]:
        assert new.isdisjoint(self.by_id(collection, list(new)))
        return [self._put(collection, anchor_id, encoded) for anchor_id, encoded in anchors]

    def _put(self, collection: int, anchor_id: str, encoded: EncodedDraft) -> Change:
        old = self.by_id(collection, [anchor_id]).get(anchor_id)
        if old:
            del self._state.rows[old.seq]
        self._state.last_seq += 1
        seq, now, draft = self._state.last_seq, datetime.now(UTC), encoded.draft
        anchor = Anchor(
            seq,
            anchor_id,
            draft.text,
            draft.label,
            dict(draft.metadata),
            encoded.fingerprint,
            encoded.truncated,
            old.created_at if old else now,
            now,
        )
        self._state.rows[seq] = _Row(collection, anchor, encoded.vector, self._encoder)
        return self._log(collection, Change(seq, old.seq if old else None, encoded.vector))

    def delete(self, collection: int, anchor_id: str) -> Change | None:
        old = self.by_id(collection, [anchor_id]).get(anchor_id)
        if old is None:
            return None
        del self._state.rows[old.seq]
        self._state.last_seq += 1
        return self._log(collection, Change(self._state.last_seq, old.seq, None))

    def _log(self, collection: int, change: Change) -> Change:
        self._state.log.append((collection, change))
        return change

    def put_collection(self, name: str, settings: CollectionSettings) -> bool:
        now = datetime.now(UTC)
        try:
            old = self.collection(name)
        except CollectionNotFound:
            self._state.last_key += 1
            key = self._state.last_key
            self._state.collections[key] = Collection(key, name, settings, now, now)
            self._state.log_start[key] = self._state.last_seq
            return True
        self._state.collections[old.key] = replace(old, settings=settings, updated_at=now)
        return False

    def put_correction(
        self, collection: int, correction: Correction | None, on: tuple[int, int]
    ) -> None:
        self._state.corrections.pop(collection, None)
        if correction is not None:
            base_rate = self._state.collections[collection].settings.base_rate or 0.0
            self._state.corrections[collection] = Fitted(
                correction, *on, self._encoder, datetime.now(UTC), base_rate
            )

    def delete_collection(self, collection: int) -> None:
        del self._state.collections[collection]

    def recall(self, collection: int, key: str) -> Remembered | None:
        at, answer = self._state.remembered.get((collection, key), (None, None))
        return answer if at and at > datetime.now(UTC) - _REMEMBERED else None

    def remember(self, collection: int, key: str, answer: Remembered) -> None:
        self._state.remembered[collection, key] = (datetime.now(UTC), answer)

    def put_job(self, job: Job) -> None:
        self._state.jobs[job.id] = job

    def add_result(self, job_id: str, after: int, lines: Sequence[str]) -> None:
        before = self._state.results.get(job_id, ())
        assert len(before) == after
        self._state.results[job_id] = (*before, *lines)

    def drop_result(self, job_id: str) -> None:
        self._state.results.pop(job_id, None)

    def forget_job(self, job_id: str) -> None:
        self._state.jobs.pop(job_id, None)

    def prune(self, collection: int, seq: int) -> None:
        self._state.log = [
            entry for entry in self._state.log if entry[0] != collection or entry[1].seq > seq
        ]
        self._state.log_start[collection] = max(self._state.log_start[collection], seq)

    def purge(self, rows: int) -> bool:
        alive = self._state.collections
        dead = [seq for seq, row in self._state.rows.items() if row.collection not in alive]
        for seq in dead[:rows]:
            del self._state.rows[seq]
        for job in list(self._state.jobs.values()):
            if not self._known(job):
                del self._state.jobs[job.id]
        for job_id in self._state.results.keys() - self._state.jobs.keys():
            del self._state.results[job_id]
        for collection in set(self._state.corrections) - set(alive):
            del self._state.corrections[collection]
        for collection, feedback_id in list(self._state.feedback):
            if collection not in alive:
                del self._state.feedback[collection, feedback_id]
        return len(dead) > rows


class MemoryAnchorStore(_Reads):
    """Anchors in memory, with the default collection.

    encoder: the fingerprint of the encoder whose vectors it is given.
    """

    def __init__(self, encoder: str) -> None:
        self._encoder = encoder
        self._identity = secrets.token_hex(16)
        self._state = _State()
        with self.write() as transaction:
            transaction.put_collection(DEFAULT_COLLECTION, CollectionSettings())

    @property
    def identity(self) -> str:
        """Return a random name given when it was made."""
        return self._identity

    def reopened(self, encoder: str) -> MemoryAnchorStore:
        """Return what another start with `encoder` would find."""
        store = MemoryAnchorStore(encoder)
        store._identity, store._state = self._identity, self._state.fork()
        return store

    @contextmanager
    def write(self) -> Iterator[_Transaction]:
        """Open a write transaction: kept when left, thrown away if it raises."""
        transaction = _Transaction(self._state.fork(), self._encoder)
        yield transaction
        self._state = transaction.state

    @contextmanager
    def read(self) -> Iterator[_Reads]:
        """Open reads that all see one moment."""
        # A state that was published is never changed, only replaced.
        yield _Moment(self._state, self._encoder)

    def export(self, collection: int) -> Generator[list[Anchor], None, None]:
        """Yield all anchors of one moment, in batches, in the order of their ids."""
        anchors = sorted(self._state.of(collection), key=lambda anchor: anchor.id)
        for start in range(0, len(anchors), _BATCH):
            yield anchors[start : start + _BATCH]

    def vectors(self, collection: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
        """Yield all vectors of one moment, in batches, in ascending seq."""
        rows = [
            (seq, row.vector)
            for seq, row in sorted(self._state.rows.items())
            if row.collection == collection and row.encoder == self._encoder
        ]
        for start in range(0, len(rows), _BATCH):
            part = rows[start : start + _BATCH]
            yield np.array([seq for seq, _ in part]), np.stack([vector for _, vector in part])

    def changes(self, collection: int, after: int) -> list[Change] | None:
        """Return the changes after a seq, ascending; None where the log no longer reaches back."""
        if after < self._state.log_start[collection]:
            return None
        return self._state.changes(collection, after)

    def last_seq(self) -> int:
        """Return the seq of the last change of any collection, 0 before the first."""
        return self._state.last_seq

    def _stale(self) -> list[tuple[int, str]]:
        return [
            (seq, row.anchor.text)
            for seq, row in self._state.rows.items()
            if row.encoder != self._encoder
        ]

    def stale(self, limit: int) -> list[tuple[int, str]]:
        """Return (seq, text) of anchors whose vector another encoder made, `limit` at most."""
        return self._stale()[:limit]

    def count_stale(self) -> int:
        """Return how many anchors have a vector of another encoder."""
        return len(self._stale())

    def replace_vectors(
        self, seqs: Sequence[int], vectors: NDArray[np.float16], truncated: Sequence[bool]
    ) -> None:
        """Store new vectors, (n, dim), of unchanged texts, stamped with this store's encoder."""
        for seq, vector, cut in zip(seqs, vectors, truncated, strict=True):
            row = self._state.rows[seq]
            anchor = replace(row.anchor, truncated=cut)
            self._state.rows[seq] = _Row(row.collection, anchor, vector, self._encoder)

    def close(self) -> None:
        """Do nothing: there is nothing to close."""
