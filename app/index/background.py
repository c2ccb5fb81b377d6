"""Merging tails into segments and saving them, in one thread, while lookups go on."""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import dataclass, field

from app.domain.anchors import Change
from app.index.saved import Shelf
from app.index.segment import Pace
from app.index.view import FaissView
from app.priority import step_back

logger = logging.getLogger("deja.index")

_SHARE = 8  # a merge is due when one row in so many came or went since the last one
# And one in so many once nothing changes it: each lookup reads what is loose (decision 3), but a
# large graph is slow to copy.
_QUIET_SHARE = 512
# Changes applied again while the writer waits: about a millisecond, more where all cores are busy.
_CATCH_UP = 256
# Saving writes all of a collection, whatever little has changed: it gets one part in so many of the
# time. What is not saved is replayed from the database when the service starts.
_SAVING_SHARE = 20
_LONGEST_REST = 120.0  # seconds: on a slow disk the log and what is to be replayed grow meanwhile
# Whoever lets go of an old view last frees its segment. Of a large one that takes long enough to be
# felt, so this thread keeps it for so many seconds, until most lookups that began with it are over.
_LARGE = 100_000
_FAREWELL = 1.0
# Of niceness: lookups and registering go before merges. Not as far back as bulk work, for the sake
# of a tail that grows while anchors are registered one by one without a pause (decision 19).
_STEPS = 5


class Abandoned(Exception):
    """Background work is no longer wanted: the index closes, or the collection was replaced."""


@dataclass(slots=True, eq=False)
class Collection:
    """What is known of one collection; to replace or drop it is to put another in its place.

    pending: the changes since the running merge took its base, None while none runs.
    unsaved: a view of a segment alone that is to be saved.
    saved: the last change that is saved.
    merge_at, save_at: monotonic seconds before which what failed is not tried again.
    rest_until: monotonic seconds before which it is not saved again.
    changed_at: monotonic seconds of the last change.
    """

    view: FaissView
    pending: list[Change] | None = None
    unsaved: FaissView | None = None
    saved: int | None = None
    merge_at: float = 0.0
    save_at: float = 0.0
    rest_until: float = 0.0
    changed_at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class MergeRule:
    """When a merge is worth its time.

    exact_below: from so many vectors on a flat segment becomes a graph.
    least, most: the bounds of the number of loose rows that are too many.
    quiet_after: seconds without a change after which fewer are: each lookup reads them all, and no
    more of them come that a later merge could take along.
    """

    exact_below: int
    least: int
    most: int
    quiet_after: float

    def due(self, view: FaissView) -> bool:
        """Return whether a view should be merged; it never should right after a merge."""
        if view.worn or (view.segment.kind == "flat" and len(view) >= self.exact_below):
            return True
        return view.loose >= max(1, min(max(len(view) // _SHARE, self.least), self.most))

    def due_when_quiet(self, view: FaissView) -> bool:
        """Return whether a view should be merged once nothing has changed it for a while."""
        return view.loose >= max(1, min(max(len(view) // _QUIET_SHARE, self.least), self.most))


class Background:
    """The collections and the thread that tends them.

    collections: by key. Whoever changes it, or an entry, holds `changed`; reading one needs no
    lock. Afterwards `consider` says whether there is something to do.
    """

    def __init__(self, shelf: Shelf, rule: MergeRule, retry_after: float, pace: Pace) -> None:
        """Start the thread. retry_after: seconds."""
        self.collections: dict[int, Collection] = {}
        self.changed = threading.Condition()
        self._shelf = shelf
        self._rule = rule
        self._retry_after = retry_after
        self._pace = pace
        self._due: set[int] = set()
        self._busy = False
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="deja-index", daemon=True)
        self._thread.start()

    def consider(self, collection: int) -> None:
        """Wake the thread if there is work on a collection; call with `changed` held."""
        state = self.collections.get(collection)
        if state is not None and self._due_at(state) < math.inf:
            self._due.add(collection)
        elif collection in self._due:
            self._due.remove(collection)
        else:
            return
        self.changed.notify_all()  # the thread, or who waits until it has nothing left to do

    def wait_idle(self, timeout: float) -> bool:
        """Return whether there was nothing left to do within `timeout` seconds."""
        with self.changed:
            return self.changed.wait_for(lambda: not (self._busy or self._expecting()), timeout)

    def stop(self, timeout: float) -> bool:
        """End the thread; return whether it ended in time, False also if it had been told before.

        timeout: seconds.
        """
        with self.changed:
            if self._stopping:
                return False
            self._stopping = True
            self.changed.notify_all()
        self._thread.join(timeout)
        if self._thread.is_alive():
            logger.warning("the disk is busy: closed without saving the index")
        return not self._thread.is_alive()

    def save(self, collection: int, state: Collection, pace: Pace) -> None:
        """Save what is unsaved of a collection, if anything is."""
        view = state.unsaved
        if view is None:
            return
        started = time.monotonic()
        size = self._shelf.save(
            collection, view, pace, lambda: self.collections.get(collection) is state
        )
        if size is None:
            raise Abandoned
        took = time.monotonic() - started
        state.unsaved = None
        state.saved = view.seq
        state.rest_until = started + took + min(_SAVING_SHARE * took, _LONGEST_REST)
        logger.info(
            "collection %d: saved %d vectors and all changes up to %d, %.1f MB in %.1f s",
            collection,
            len(view),
            view.seq,
            size / 1e6,
            took,
        )

    def _ready(self) -> list[int]:
        """Return the collections to tend now, the smallest first; call with `changed` held."""
        now = time.monotonic()
        states = self.collections
        ready = [collection for collection in self._due if self._due_at(states[collection]) <= now]
        return sorted(ready, key=lambda collection: len(states[collection].view))

    def _due_at(self, state: Collection) -> float:
        """Return the monotonic second from which on there is something to do; infinity for none."""
        save_at = math.inf if state.unsaved is None else max(state.save_at, state.rest_until)
        return min(save_at, self._merge_due_at(state))

    def _merge_due_at(self, state: Collection) -> float:
        if self._rule.due(state.view):
            return state.merge_at
        if self._rule.due_when_quiet(state.view):
            return max(state.merge_at, state.changed_at + self._rule.quiet_after)
        return math.inf

    def _expecting(self) -> bool:
        """Return whether something is to do now, or once it is quiet; call with `changed` held."""
        now = time.monotonic()
        return any(
            (state.unsaved is not None and state.save_at <= now)
            or (state.merge_at <= now and self._merge_due_at(state) < math.inf)
            for state in map(self.collections.__getitem__, self._due)
        )

    def _pause(self) -> float | None:
        """Return the seconds until something is to do, None for never; `changed` is held."""
        times = [self._due_at(self.collections[collection]) for collection in self._due]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _work(self) -> None:
        step_back(_STEPS)
        while True:
            with self.changed:
                while not self._stopping and not (ready := self._ready()):
                    self.changed.wait(self._pause())
                if self._stopping:
                    return
                self._busy = True
            self._tend(ready[0])
            with self.changed:
                self._busy = False
                self.changed.notify_all()

    def _tend(self, collection: int, interrupted: int | None = None) -> None:
        """Save and merge a collection as far as it is due.

        interrupted: the collection between two steps of whose tending this happens.
        """
        state = self.collections.get(collection)
        if state is None:
            return

        def pace() -> None:
            self._pace()
            if self._stopping or self.collections.get(collection) is not state:
                raise Abandoned
            if interrupted is None:
                self._tend_small(collection)

        try:
            self._try_save(collection, state, pace)
            if self._merge_due_at(state) <= time.monotonic():
                self._merge(collection, state, pace)
                self._try_save(collection, state, pace)
        except Abandoned:
            pass
        except Exception:
            state.merge_at = time.monotonic() + self._retry_after
            logger.exception(
                "collection %d: not merged, tried again in %.0f s", collection, self._retry_after
            )
        with self.changed:
            state.pending = None
            self.consider(collection)

    def _tend_small(self, interrupted: int) -> None:
        """Tend small collections, so that none waits for the graph of a large one."""
        with self.changed:
            ready = self._ready()
        for collection in ready:
            state = self.collections.get(collection)
            small = state is not None and len(state.view) < self._rule.exact_below
            if small and collection != interrupted:
                self._tend(collection, interrupted)

    def _merge(self, collection: int, state: Collection, pace: Pace) -> None:
        """Put a new segment in the place of a collection's segment and tail."""
        started = time.monotonic()
        with self.changed:
            base = state.view
            pending: list[Change] = []
            state.pending = pending
        merged = base.folded(pace)
        pace()
        merged.segment.make_coarse()  # or the first lookups would do without
        view = merged
        done = 0
        while True:
            with self.changed:
                if self.collections.get(collection) is not state:
                    raise Abandoned
                since = pending[done:]
                if len(since) <= _CATCH_UP:
                    state.view = view.apply(since)
                    state.unsaved = merged
                    state.pending = None
                    break
            view = view.apply(since)
            done += len(since)
        logger.info(
            "collection %d: merged %d rows, %s segment of %d, in %.1f s",
            collection,
            base.loose,
            merged.segment.kind,
            len(merged.segment),
            time.monotonic() - started,
        )
        if len(base.segment) >= _LARGE:
            with self.changed:
                self.changed.wait_for(lambda: self._stopping, _FAREWELL)

    def _try_save(self, collection: int, state: Collection, pace: Pace) -> None:
        if max(state.save_at, state.rest_until) > time.monotonic():
            return
        try:
            self.save(collection, state, pace)
        except Abandoned:
            raise
        except Exception:
            if self.collections.get(collection) is not state:
                raise Abandoned from None  # its folder was deleted under the save
            state.save_at = time.monotonic() + self._retry_after
            logger.exception(
                "collection %d: not saved, tried again in %.0f s", collection, self._retry_after
            )
