"""From what lies on disk to vectors that can be searched."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import numpy as np

from app.domain.ports import AnchorStore, Encoded, VectorIndex

log = logging.getLogger("deja.startup")

REEMBED_BATCH = 256
REPORT_SECONDS = 5.0


def reembed(
    store: AnchorStore,
    encode: Callable[[Sequence[str]], Encoded],
    report: Callable[[str], None],
) -> int:
    """Give every anchor a vector of the store's encoder; return how many needed one.

    Commits batch by batch: killed in the middle, the next start does only the rest.
    """
    total = store.count_stale()
    if not total:
        return 0
    log.info("another encoder than before: re-embedding %d anchors", total)
    started = reported = time.monotonic()
    done = 0
    while rows := store.stale(REEMBED_BATCH):
        encoded = encode([text for _, text in rows])
        seqs = [seq for seq, _ in rows]
        store.replace_vectors(seqs, encoded.vectors.astype(np.float16), encoded.truncated)
        done += len(rows)
        report(f"re-embedded {done} of {total} anchors")
        now = time.monotonic()
        if now - reported >= REPORT_SECONDS:
            reported = now
            left = (total - done) * (now - started) / done
            log.info("re-embedded %d of %d anchors, about %.0f s left", done, total, left)
    log.info("re-embedded %d anchors in %.1f s", done, time.monotonic() - started)
    return done


def bring_index_up(store: AnchorStore, index: VectorIndex, report: Callable[[str], None]) -> None:
    """Make the index hold what the database holds, collection by collection.

    A saved index gets the tail of the change log; one that is missing, damaged, of another encoder
    or that disagrees with the database afterwards is rebuilt.
    """
    collections = store.collections()
    index.retain({collection.key for collection in collections})
    for collection in collections:
        report(f"loading the index of collection {collection.name!r}")
        key, expected = collection.key, store.count(collection.key)[0]
        saved = index.restore(key)
        if saved is None and not expected:
            continue
        tail = None if saved is None or saved > store.last_seq() else store.changes(key, saved)
        if tail is not None:
            index.apply(key, tail)
        if tail is None or len(index.view(key)) != expected:
            if saved is not None:
                log.warning(
                    "collection %r: the saved index does not fit the database; rebuilding it",
                    collection.name,
                )
            index.rebuild(key, store.vectors(key), store.last_seq())
        held = len(index.view(key))
        log.info("collection %r: %d anchors in the index", collection.name, held)


def report_set_aside(store: AnchorStore, encoder: str) -> int:
    """Say which collections' corrections were fitted for another encoder; return how many.

    encoder: the fingerprint of the one in use.
    """
    count = 0
    for collection in store.collections():
        fitted = store.correction(collection.key)
        if fitted is not None and fitted.encoder != encoder:
            count += 1
            log.warning(
                "collection %r: its correction was fitted for another encoder and is set aside; "
                "fit it again with `deja calibrate -c %s`",
                collection.name,
                collection.name,
            )
    return count
