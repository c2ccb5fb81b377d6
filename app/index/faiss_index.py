"""The vectors of every collection behind FAISS."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.domain.anchors import Change
from app.index.background import Abandoned, Background, Collection, MergeRule
from app.index.kernels import float16_index
from app.index.saved import Origin, Shelf
from app.index.segment import Pace, Segment, flat_segment
from app.index.view import FaissView

logger = logging.getLogger("deja.index")

_CLOSING = 1.0  # seconds that closing gives the background, and then again to what is unsaved


def _at_full_speed() -> None:
    pass


class FaissIndex:
    """A `VectorIndex`: exact while a collection is small, a graph plus an exact tail above.

    Lookups never wait: they read the view that is current. One background thread merges tails
    into segments and saves them; while that fails, the old view goes on serving.
    """

    def __init__(
        self,
        folder: Path,
        dimension: int,
        *,
        encoder: str,
        store: str,
        exact_below: int = 20_000,
        merge_least: int = 2_048,
        merge_most: int = 16_384,
        quiet_after: float = 5.0,
        retry_after: float = 30.0,
        pace: Pace = _at_full_speed,
    ) -> None:
        """Begin with no collection; `restore` or `rebuild` brings each back.

        folder: where segments are saved. encoder: its fingerprint. store: the database's identity.
        exact_below: with fewer vectors a search is exhaustive; from here on a graph is built.
        merge_least, merge_most: a merge is due when an eighth of the rows came or went since the
        last one, but never for fewer, and always for as many, as these.
        quiet_after: seconds without a change after which a 512th is enough, within the same bounds;
        infinity for never.
        retry_after: seconds until something that failed in the background is tried again.
        pace: called between two steps of background work, at most about a second apart; it may
        wait, to leave the processor to others.
        """
        self._dimension = dimension
        self._exact_below = exact_below
        self._shelf = Shelf(folder, Origin(encoder, store, dimension))
        self._background = Background(
            self._shelf,
            MergeRule(exact_below, merge_least, merge_most, quiet_after),
            retry_after,
            pace,
        )
        empty = Segment("flat", float16_index(dimension), np.empty(0, np.int64))
        self._empty = FaissView.over(empty, None, 0, exact_below)

    def view(self, collection: int) -> FaissView:
        """Return the current view of a collection, an empty one for one it does not know."""
        state = self._background.collections.get(collection)
        return self._empty if state is None else state.view

    def apply(self, collection: int, changes: Sequence[Change]) -> None:
        """Publish one new view with all of `changes`, in ascending seq."""
        background = self._background
        with background.changed:
            state = background.collections.setdefault(collection, Collection(self._empty))
            state.view = state.view.apply(changes)
            state.changed_at = time.monotonic()
            if state.pending is not None:
                state.pending.extend(changes)
            background.consider(collection)

    def restore(self, collection: int) -> int | None:
        """Load what was saved; return the seq it has applied, None where it must be rebuilt."""
        view = self._shelf.load(collection, self._exact_below)
        if view is None:
            return None
        self._replace(collection, Collection(view, saved=view.seq))
        return view.seq

    def rebuild(
        self,
        collection: int,
        batches: Iterable[tuple[NDArray[np.int64], NDArray[np.float16]]],
        seq: int,
    ) -> None:
        """Publish a view of exactly these vectors, which hold every change up to `seq`.

        It is exact whatever its size, so that it can serve at once; a large one becomes a graph in
        the background.
        """
        segment = flat_segment(self._dimension, batches, _at_full_speed)
        view = FaissView.over(segment, None, seq, self._exact_below)
        # Its turn in the background comes once the old files are gone: until then a save of the
        # state before could still bring one back, and a graph would be begun before this is saved.
        state = Collection(view, merge_at=math.inf)
        self._replace(collection, state)
        self._shelf.delete(collection)
        with self._background.changed:
            state.merge_at = 0.0
            state.unsaved = view
            self._background.consider(collection)

    def saved_seq(self, collection: int) -> int | None:
        """Return the seq up to which the change log is no longer needed, None if nothing is saved.

        What an earlier process saved counts once `restore` has accepted it.
        """
        state = self._background.collections.get(collection)
        return None if state is None else state.saved

    def drop(self, collection: int) -> None:
        """Forget a collection and delete what was saved of it."""
        self._replace(collection, None)
        self._shelf.delete(collection)

    def retain(self, collections: AbstractSet[int]) -> None:
        """Drop every collection but these."""
        for collection in (set(self._background.collections) | self._shelf.kept()) - collections:
            self.drop(collection)

    def wait_idle(self, timeout: float) -> bool:
        """Return whether the background had nothing left to do within `timeout` seconds.

        What failed and waits for its next try does not count.
        """
        return self._background.wait_idle(timeout)

    def close(self) -> None:
        """Stop background work and save what a later start would otherwise have to replay.

        It takes two seconds at most: what cannot be saved in one of them is left to the change log.
        """
        if not self._background.stop(_CLOSING):
            return
        deadline = time.monotonic() + _CLOSING

        def pace() -> None:
            if time.monotonic() > deadline:
                raise Abandoned

        # The smallest first: a large one that takes all of the time takes it from no other.
        states = sorted(self._background.collections.items(), key=lambda one: len(one[1].view))
        for collection, state in states:
            try:
                if len(state.view) < self._exact_below and state.view.seq > (state.saved or 0):
                    state.unsaved = state.view = state.view.folded(pace)
                self._background.save(collection, state, pace)
            except Abandoned:
                logger.info("collection %d: too large to save while closing", collection)
            except Exception:
                logger.exception("collection %d: not saved while closing", collection)

    def _replace(self, collection: int, state: Collection | None) -> None:
        background = self._background
        with background.changed:
            if state is None:
                background.collections.pop(collection, None)
            else:
                background.collections[collection] = state
            background.consider(collection)
