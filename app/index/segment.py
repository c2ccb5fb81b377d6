"""Segments: rows in a FAISS index to which nothing is added once it is published."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from app.index.coarse import LEAST, MOST, Coarse
from app.index.freeing import give_back
from app.index.kernels import float16_index, scan, single_thread
from app.index.twins import Finder, Twins

logger = logging.getLogger("deja.index")

Kind = Literal["flat", "hnsw"]
Batches = Iterable[tuple[NDArray[np.int64], NDArray[np.float16]]]
# Called between two steps of long work; it may wait, or raise to abandon the work.
Pace = Callable[[], None]

LINKS = 24  # neighbours a row keeps in the graph, twice as many on the lowest level (FAISS's M)
BUILD_EFFORT = 120  # candidates kept while a row finds its neighbours (FAISS's efConstruction)
_GRAPH_CHUNK = 256  # rows added between two calls of pace: about a quarter of a second
_FLAT_CHUNK = 8192
# Candidates beyond those wanted, among which the nearest have to be proven to be: the more, the
# less often that fails. Behind many wanted rows the others follow too closely (decision 18).
_SPARE = 64
_MOST_WANTED = 64
_PAYS = 8_192  # rows by questions; fewer are scanned sooner than a product is set up
_TOGETHER = 32  # questions of one product, whose estimates of all rows are held at once
_TRIED = 256  # questions, of which a copy has to prove half, or is given up

_Found = tuple[NDArray[np.int64], NDArray[np.float32]]


class Segment:
    """Rows at positions 0..n-1, with the seq of each.

    `flat` is searched exhaustively, `hnsw` through a graph of neighbours. Both hold float16
    vectors, and both can be searched exhaustively. What is searched are nodes: in a graph, rows
    with the same vector share one; otherwise a row is a node.

    twins: which rows share a node, None where a row's position is its node.
    vectors: the nodes' where FAISS keeps them, (nodes, dim) float16; not to be written to, and gone
    with the segment.
    """

    __slots__ = (
        "_coarse",
        "_making",
        "_storage",
        "_unproven",
        "index",
        "kind",
        "seqs",
        "twins",
        "vectors",
    )

    def __init__(
        self, kind: Kind, index: Any, seqs: NDArray[np.int64], twins: Twins | None = None
    ) -> None:
        """Take an index that no one will add to. seqs: (n,) ascending."""
        self._storage = faiss.downcast_index(index.storage) if kind == "hnsw" else index
        self.vectors = _vectors(self._storage)
        self.kind = kind
        self.index = index
        self.seqs = seqs
        self.twins = twins
        self._coarse: Coarse | None = None
        # Held while the copy is made, and for good where there is to be none.
        self._making = threading.Lock()
        if kind == "hnsw" or not LEAST <= len(seqs) <= MOST:
            self._making.acquire()
        self._unproven = [0, 0]

    def __del__(self) -> None:
        """Give back the memory of the index, which is this segment's alone."""
        if hasattr(self, "index"):  # it does not where the index was not what it was said to be
            give_back(self._storage.codes)
            if self.kind == "hnsw":
                give_back(self.index.hnsw.neighbors)

    def __len__(self) -> int:
        """Return how many rows it holds."""
        return len(self.seqs)

    @property
    def dimension(self) -> int:
        """Return the length of a vector."""
        return int(self.index.d)

    @property
    def nodes(self) -> int:
        """Return how many nodes it has."""
        return int(self.index.ntotal)

    def rows(self, positions: NDArray[np.int64]) -> NDArray[np.float16]:
        """Return the vectors at `positions`, (n, dim) float16."""
        nodes = positions if self.twins is None else self.twins.node_of[positions]
        return np.take(self.vectors, nodes, axis=0)

    def positions(self, seqs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the position of each of `seqs`, -1 for one that is not here."""
        if not len(self):
            return np.full(len(seqs), -1, np.int64)
        found = np.minimum(np.searchsorted(self.seqs, seqs), len(self) - 1)
        return np.where(self.seqs[found] == seqs, found, -1)

    def search(
        self, vector: NDArray[np.float32], k: int, alive: NDArray[np.uint8] | None, *, exact: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the nearest nodes and their similarities, best first; a graph's are estimates.

        k: how many; fewer come only where fewer are alive (or, through the graph, reachable).
        alive: a bit for each node, lowest first; None where all are.
        exact: search exhaustively whatever the kind.
        """
        ((nodes, values),) = self.search_many(vector[np.newaxis], k, alive, exact=exact)
        return nodes, values

    def search_many(
        self, vectors: NDArray[np.float32], k: int, alive: NDArray[np.uint8] | None, *, exact: bool
    ) -> Iterator[_Found]:
        """Yield, for each of `vectors`, (n, dim), what `search` returns."""
        if self.kind == "hnsw" and not exact:
            parameters = faiss.SearchParametersHNSW(
                efSearch=effort(self.nodes, k), **_selecting(alive)
            )
            yield from _searched(self.index, vectors, k, parameters)
            return
        narrowed = self._narrowed(vectors, k, alive)
        rest = [place for place, found in enumerate(narrowed) if found is None]
        scanned: Iterator[_Found] = iter(())
        if rest:  # most often there is none
            parameters = faiss.SearchParameters(**_selecting(alive))
            scanned = _searched(self._storage, vectors[rest], k, parameters)
        for found in narrowed:
            yield next(scanned) if found is None else found

    def make_coarse(self) -> None:
        """Make the 8-bit copy of a flat segment's rows, where it is worth it and nobody does.

        Where it cannot be made searches go on without.
        """
        if self._coarse is not None or not self._making.acquire(blocking=False):
            return
        try:
            self._coarse = self._coarse or Coarse(self.vectors)
        except Exception:
            logger.exception("no 8-bit copy of %d rows: each search scans them", len(self))
        else:
            self._making.release()

    def _narrowed(
        self, vectors: NDArray[np.float32], k: int, alive: NDArray[np.uint8] | None
    ) -> list[_Found | None]:
        """Return what a scan of all rows would find, without one; None where that is not proven."""
        nothing: list[_Found | None] = [None] * len(vectors)
        if k > _MOST_WANTED or len(self) * len(vectors) < _PAYS:
            return nothing
        coarse = self._coarse
        if coarse is None:
            self._have_made()
            return nothing
        living = None
        if alive is not None:
            living = np.unpackbits(alive, count=len(self), bitorder="little").view(np.bool_)
            if np.count_nonzero(living) * 2 < len(self):
                return nothing  # a scan passes over dead rows, a product does not
        narrowed: list[_Found | None] = []
        for start in range(0, len(vectors), _TOGETHER):
            some = vectors[start : start + _TOGETHER]
            positions, bounds = coarse.candidates(some, k + _SPARE, living)
            rows = np.take(self.vectors, np.concatenate(positions), axis=0)
            first = 0
            for vector, where, bound in zip(some, positions, bounds, strict=True):
                order, values = scan(rows[first : first + len(where)], vector, k)
                first += len(where)
                narrowed.append((where[order], values) if values[-1] > bound else None)
        self._note(narrowed)
        return narrowed

    def _have_made(self) -> None:
        """Have a thread make the 8-bit copy, unless there is to be none: nobody waits for it.

        The thread keeps this segment, and so the memory of its rows, until it is done.
        """
        if self._making.locked():
            return
        try:
            threading.Thread(target=self.make_coarse, name="deja-coarse").start()
        except RuntimeError:  # no more threads are to be had: perhaps for the next search
            logger.warning("no thread for the 8-bit copy of %d rows", len(self))

    def _note(self, narrowed: Sequence[_Found | None]) -> None:
        """Give the copy up where it proves too little: what is not proven takes both ways.

        Two threads at once may lose a count, which does not matter.
        """
        tried, failed = self._unproven
        tried += len(narrowed)
        failed += narrowed.count(None)
        self._unproven = [tried, failed]
        if tried < _TRIED:
            return
        self._unproven = [0, 0]
        if failed * 2 > tried and self._making.acquire(blocking=False):
            self._coarse = None


def _selecting(alive: NDArray[np.uint8] | None) -> dict[str, Any]:
    """Return what makes FAISS find only what is alive."""
    return {} if alive is None else {"sel": faiss.IDSelectorBitmap(alive)}


def _searched(
    index: Any, vectors: NDArray[np.float32], k: int, parameters: Any
) -> Iterator[_Found]:
    """Yield the `k` nearest that an index finds for each vector, fewer where it finds fewer."""
    single_thread()
    all_values, all_nodes = index.search(vectors, k, params=parameters)
    for nodes, values in zip(all_nodes, all_values, strict=True):
        found = nodes >= 0
        yield nodes[found], values[found]


def effort(nodes: int, k: int) -> int:
    """Return how many candidates a graph search keeps (efSearch).

    Chosen so that recall@10 stays at 0.99 or above, also with a fifth of the rows dead (decision 3
    has figures): what it takes grows with the answer's length, and slowly with the graph.
    """
    return 96 + int(24 * math.log2(max(nodes / 20_000, 1))) + 2 * k


def flat_segment(dimension: int, batches: Batches, pace: Pace) -> Segment:
    """Return a flat segment of these rows, in ascending seq."""
    single_thread()
    index = float16_index(dimension)
    seqs = [np.empty(0, np.int64)]
    for part, vectors in _chunks(batches, _FLAT_CHUNK):
        pace()
        index.add_sa_codes(np.ascontiguousarray(vectors, np.float16).view(np.uint8))
        seqs.append(part)
    return Segment("flat", index, np.concatenate(seqs))


def hnsw_segment(dimension: int, batches: Batches, pace: Pace) -> Segment:
    """Return an HNSW segment of these rows, in ascending seq."""
    single_thread()
    index = faiss.IndexHNSWSQ(
        dimension, faiss.ScalarQuantizer.QT_fp16, LINKS, faiss.METRIC_INNER_PRODUCT
    )
    index.hnsw.efConstruction = BUILD_EFFORT
    return _grown(index, np.empty(0, np.int64), None, batches, pace)


def extended_segment(segment: Segment, batches: Batches, pace: Pace) -> Segment:
    """Return a copy of an HNSW segment with more rows, all of later seqs."""
    single_thread()
    index = faiss.clone_index(segment.index)
    return _grown(index, segment.seqs, segment.twins, batches, pace)


def _grown(
    index: Any, seqs: NDArray[np.int64], twins: Twins | None, batches: Batches, pace: Pace
) -> Segment:
    """Return a segment of a graph that holds rows already, and of more rows, which are added."""
    storage = faiss.downcast_index(index.storage)
    finder = Finder(_vectors(storage))
    all_seqs = [seqs]
    node_of = [np.arange(index.ntotal) if twins is None else twins.node_of]
    for part, rows in _chunks(batches, _GRAPH_CHUNK):
        pace()
        nodes, fresh = finder.assign(rows, _vectors(storage))
        if len(fresh):
            index.add(rows[fresh].astype(np.float32))
        all_seqs.append(part)
        node_of.append(nodes)
    nodes = np.concatenate(node_of)
    grown = Twins(nodes) if len(nodes) > index.ntotal else None
    return Segment("hnsw", index, np.concatenate(all_seqs), grown)


def _vectors(storage: Any) -> NDArray[np.float16]:
    size = storage.codes.size()
    if not size:
        return np.empty((0, storage.d), np.float16)
    codes = faiss.rev_swig_ptr(storage.codes.data(), size)
    vectors: NDArray[np.float16] = codes.view(np.float16).reshape(-1, storage.d)
    return vectors


def _chunks(batches: Batches, rows: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
    for seqs, vectors in batches:
        for start in range(0, len(seqs), rows):
            yield seqs[start : start + rows], vectors[start : start + rows]
