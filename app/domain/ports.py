"""What the use cases need from the outside, each as small as its callers allow.

`Encoder` turns text into vectors. `AnchorStore` is the truth: it reads what is committed and opens
write transactions. `VectorIndex` is derived from it and can always be rebuilt; a lookup holds one
of its immutable `VectorView`s. Similarity is cosine everywhere: higher is more similar.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.domain.anchors import (
    Anchor,
    Change,
    Collection,
    CollectionSettings,
    EncodedDraft,
    Filter,
)
from app.domain.cut_offs import Correction
from app.domain.feedback import FeedbackStore, FeedbackWriter
from app.domain.jobs import JobReads, JobWrites
from app.domain.recalibration import Fitted

# Anchors of one canonical text that are read at most; beyond them a text is found by its vector.
EQUAL_TEXTS = 100


@dataclass(frozen=True, slots=True)
class Encoded:
    """Texts as vectors, in the order given.

    vectors: (n, dim) float32, unit length.
    tokens: how many tokens of each text were read, special ones included.
    truncated: whether a text had more tokens than the encoder reads.
    """

    vectors: NDArray[np.float32]
    tokens: tuple[int, ...]
    truncated: tuple[bool, ...]


class Encoder(Protocol):
    """Turns texts into vectors; safe to call from several threads at once."""

    @property
    def name(self) -> str:
        """Return the name of its artifact."""
        ...

    @property
    def fingerprint(self) -> str:
        """Return its manifest's SHA-256 (hex): vectors compare only where it is equal."""
        ...

    @property
    def dimension(self) -> int:
        """Return the length of a vector."""
        ...

    @property
    def max_tokens(self) -> int:
        """Return how many tokens of a text it reads, special ones included."""
        ...

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Return the vectors of `texts`; a text's vector does not depend on the others."""
        ...


@dataclass(frozen=True, slots=True)
class Hits:
    """What a search found, most similar first; equal similarities by the older seq.

    seqs: (k,) int64, the anchor versions.
    similarities: (k,) float32, cosine, -1 to 1.
    vectors: (k, dim) float16, as they are stored.
    """

    seqs: NDArray[np.int64]
    similarities: NDArray[np.float32]
    vectors: NDArray[np.float16]

    def kept(self, places: NDArray[np.bool_] | NDArray[np.int64]) -> Hits:
        """Return those at these places."""
        return Hits(self.seqs[places], self.similarities[places], self.vectors[places])


class VectorView(Protocol):
    """One collection's vectors at one moment; nothing ever changes in it."""

    @property
    def seq(self) -> int:
        """Return the last change it has applied."""
        ...

    def __len__(self) -> int:
        """Return how many vectors it holds."""
        ...

    def search(self, vector: NDArray[np.float32], k: int) -> Hits:
        """Return the `k` most similar, fewer where it holds fewer. vector: (dim,) unit length."""
        ...

    def similarities(
        self, seqs: NDArray[np.int64], vector: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the cosine of each of `seqs`, exactly; NaN for one it does not hold."""
        ...

    def nearest(self, seqs: NDArray[np.int64], vector: NDArray[np.float32], k: int) -> Hits | None:
        """Return the `k` most similar of `seqs`, exactly; None where it does not hold one of them.

        seqs: distinct. vector: (dim,) unit length.
        """
        ...

    def vectors(self, seqs: NDArray[np.int64]) -> NDArray[np.float16]:
        """Return the stored vector of each of `seqs`, (n, dim); NaN for one it does not hold."""
        ...

    def search_many(self, vectors: NDArray[np.float32], k: int, least: float) -> Sequence[Hits]:
        """Return, for each vector, what `search` does, without what is less similar than `least`.

        vectors: (n, dim), best some dozens at a time: they share their overhead.
        """
        ...

    def compacted(self, pace: Callable[[], None]) -> VectorView:
        """Return the same vectors, arranged so that each of many searches is quick.

        pace: called between two steps; it may wait, or raise to abandon the work.
        """
        ...

    def apply(self, changes: Sequence[Change]) -> VectorView:
        """Return the view after `changes`, in ascending seq; this one stays as it is."""
        ...


class VectorIndex(Protocol):
    """The vectors of every collection, each behind its current view.

    One thread at a time calls what changes it; any thread calls `view`.
    """

    def view(self, collection: int) -> VectorView:
        """Return the current view of a collection, an empty one for one it does not know."""
        ...

    def apply(self, collection: int, changes: Sequence[Change]) -> None:
        """Publish one new view with all of `changes`, in ascending seq."""
        ...

    def restore(self, collection: int) -> int | None:
        """Load what was saved; return the seq it has applied, None where it must be rebuilt."""
        ...

    def rebuild(
        self,
        collection: int,
        batches: Iterable[tuple[NDArray[np.int64], NDArray[np.float16]]],
        seq: int,
    ) -> None:
        """Publish a view of exactly these vectors.

        batches: (n,) seqs, ascending over all batches, with their (n, dim) vectors.
        seq: the last change they include.
        """
        ...

    def saved_seq(self, collection: int) -> int | None:
        """Return the seq up to which the log is no longer needed, None if nothing is saved."""
        ...

    def drop(self, collection: int) -> None:
        """Forget a collection and delete what was saved of it."""
        ...

    def retain(self, collections: AbstractSet[int]) -> None:
        """Drop every collection but these: a crash may have come between truth and index."""
        ...

    def close(self) -> None:
        """Stop background work and save what a later start would otherwise have to replay."""
        ...


@dataclass(frozen=True, slots=True)
class SelectedSince:
    """What a selection lacks to be one of now.

    gone: seqs of versions that no longer stand, whether it held them or not; come: later ones
    that it admits, ascending; newer: the changes after the seq that was asked for.
    """

    gone: NDArray[np.int64]
    come: NDArray[np.int64]
    newer: list[Change]


@dataclass(frozen=True, slots=True)
class Found:
    """What `AnchorReader.found` read, all of one moment.

    anchors: by seq. gone: those of the candidates that no longer stood.
    """

    anchors: dict[int, Anchor]
    gone: frozenset[int]


class AnchorReader(Protocol):
    """Point reads over the truth; inside a write transaction they see what it has staged."""

    def collection(self, name: str) -> Collection:
        """Return a collection. Raises CollectionNotFound."""
        ...

    def collections(self) -> list[Collection]:
        """Return every collection, by name."""
        ...

    def correction(self, collection: int) -> Fitted | None:
        """Return a collection's correction, whichever encoder it was fitted for.

        `Collection.correction` is that of this store's encoder and the present base rate alone.
        """
        ...

    def by_seq(self, seqs: Sequence[int]) -> dict[int, Anchor]:
        """Return the versions that still stand, by seq."""
        ...

    def found(
        self,
        collection: int,
        seqs: Sequence[int],
        fingerprints: Sequence[bytes],
        near: AbstractSet[int],
        since: int,
    ) -> Found | None:
        """Return what `by_seq` and `by_fingerprint` of each would, and what is gone, of one moment.

        None where the collection is deleted.
        near: candidates of which those with one of the fingerprints are read too.
        since: a seq up to which the changes of the collection are known to leave them standing.
        """
        ...

    def by_id(self, collection: int, ids: Sequence[str]) -> dict[str, Anchor]:
        """Return the anchors that exist, by id."""
        ...

    def by_fingerprint(self, collection: int, fingerprint: bytes) -> list[Anchor]:
        """Return the anchors of equal canonical text, the `EQUAL_TEXTS` oldest versions at most.

        The oldest comes first.
        """
        ...

    def select(
        self, collection: int, where: Filter, *, limit: int | None, after: int
    ) -> tuple[NDArray[np.int64], list[Change]]:
        """Return the seqs of the anchors that `where` admits, ascending; any `limit` of them.

        With them, of the same moment, the changes after the seq `after`: a view that had applied
        all up to it holds, with these, exactly what was selected from.
        """
        ...

    def select_since(
        self, collection: int, where: Filter, since: int, *, limit: int, after: int
    ) -> SelectedSince | None:
        """Return what has come and gone since a selection that held all changes up to `since`.

        Of one moment, as `select`. None where the log no longer reaches back so far, or more than
        `limit` changes came: then selecting anew is the thing to do.
        """
        ...

    def labels_of(self, seqs: Sequence[int]) -> dict[int, str | None]:
        """Return the label of each version that still stands, None of one without."""
        ...

    def labelled(
        self, collection: int, where: Filter, *, limit: int | None, after: int
    ) -> tuple[dict[int, str], list[Change]]:
        """Return the labels of the anchors that have one and `where` admits; any `limit` of them.

        With them, of the same moment, the changes after the seq `after`, as `select` does.
        """
        ...

    def page(
        self, collection: int, *, label: str | None, after: str | None, limit: int
    ) -> list[Anchor]:
        """Return anchors in the order of their ids, from the first id greater than `after`."""
        ...

    def count(self, collection: int) -> tuple[int, int]:
        """Return how many anchors and how many distinct labels a collection holds."""
        ...


@dataclass(frozen=True, slots=True)
class Remembered:
    """The answer once given to an idempotency key.

    request: a hash of the request it answered.
    """

    request: bytes
    answer: str


class WriteTransaction(AnchorReader, JobWrites, Protocol):
    """Writes that become durable and visible together, or not at all."""

    @property
    def feedback(self) -> FeedbackWriter:
        """Return the feedback, to read and to write."""
        ...

    def savepoint(self) -> AbstractContextManager[None]:
        """Undo what is written inside if it raises, and only that."""
        ...

    def put(
        self,
        collection: int,
        anchors: Sequence[tuple[str, EncodedDraft]],
        new: AbstractSet[str] = frozenset(),
    ) -> list[Change]:
        """Insert or replace anchors by id (distinct ids); return the changes, in their order.

        new: ids that were made for these anchors, under which nothing stands.
        """
        ...

    def delete(self, collection: int, anchor_id: str) -> Change | None:
        """Delete an anchor; return the change, None where there was none."""
        ...

    def put_collection(self, name: str, settings: CollectionSettings) -> bool:
        """Create a collection or replace its settings; return whether it was created."""
        ...

    def put_correction(
        self, collection: int, correction: Correction | None, on: tuple[int, int]
    ) -> None:
        """Set a collection's correction for this store's encoder and the base rate of its settings.

        None takes it away; under another base rate it does not apply.
        on: how many verdicts, duplicate and distinct, it was fitted on.
        """
        ...

    def delete_collection(self, collection: int) -> None:
        """Make a collection unreachable at once; its rows go with `purge`."""
        ...

    def recall(self, collection: int, key: str) -> Remembered | None:
        """Return what was answered to an idempotency key in the last day."""
        ...

    def remember(self, collection: int, key: str, answer: Remembered) -> None:
        """Keep an answer for an idempotency key."""
        ...

    def prune(self, collection: int, seq: int) -> None:
        """Forget the change log of a collection up to and including `seq`."""
        ...

    def purge(self, rows: int) -> bool:
        """Delete up to `rows` rows that nothing can reach any more; return whether some remain."""
        ...


class AnchorStore(AnchorReader, JobReads, Protocol):
    """The truth: anchors with their vectors, collections, and the change log.

    It is opened for one encoder, with whose fingerprint it stamps every vector it is given.
    """

    @property
    def feedback(self) -> FeedbackStore:
        """Return the committed feedback."""
        ...

    def known(self, name: str) -> Collection | None:
        """Return a collection as `collection` does, or None where it would have to be read."""
        ...

    def write(self) -> AbstractContextManager[WriteTransaction]:
        """Open a write transaction: committed and durable when left, rolled back if it raises.

        Raises StorageFailed where the database refuses.
        """
        ...

    def read(self) -> AbstractContextManager[AnchorReader]:
        """Open reads that all see one moment; leave it soon, as until then it is held."""
        ...

    def export(self, collection: int) -> Generator[list[Anchor], None, None]:
        """Yield all anchors of one moment, in batches, in the order of their ids.

        Close it if it is not read to its end: until then it holds that moment.
        """
        ...

    def vectors(self, collection: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
        """Yield all vectors of one moment, in batches, in ascending seq."""
        ...

    def changes(self, collection: int, after: int) -> list[Change] | None:
        """Return the changes after a seq, ascending; None where the log no longer reaches back.

        A version that a later change removed again may come without its vector, as if deleted.
        """
        ...

    def last_seq(self) -> int:
        """Return the seq of the last change of any collection, 0 before the first."""
        ...

    def stale(self, limit: int) -> list[tuple[int, str]]:
        """Return (seq, text) of anchors whose vector another encoder made, `limit` at most."""
        ...

    def count_stale(self) -> int:
        """Return how many anchors have a vector of another encoder."""
        ...

    def replace_vectors(
        self, seqs: Sequence[int], vectors: NDArray[np.float16], truncated: Sequence[bool]
    ) -> None:
        """Store new vectors, (n, dim), of unchanged texts, stamped with this store's encoder."""
        ...

    @property
    def identity(self) -> str:
        """Return a random name given when the database was made; saved indexes carry it."""
        ...

    def close(self) -> None:
        """Close the database."""
        ...
