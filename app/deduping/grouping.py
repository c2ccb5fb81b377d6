"""From the rows of a file to groups: encoded with all cores, grouped as a collection is."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.domain.ports import Encoder, VectorView
from app.domain.text import fingerprint
from app.index.memory import MemoryView
from app.index.segment import hnsw_segment
from app.index.view import FaissView
from app.usecases.grouping import Criteria, Group, Grouping, Text, Watch

# Up to here comparing each with each takes less time than making a graph to search in.
EACH_WITH_EACH = 200_000
# Texts of about one length that a thread encodes at a time.
TOGETHER = 64


@dataclass(frozen=True, slots=True)
class Grouped:
    """What was found.

    groups: by the rows' places. truncated: the places of texts longer than the encoder reads.
    distinct: how many texts there are after folding equal ones.
    """

    groups: list[Group]
    truncated: list[int]
    distinct: int


def group_rows(
    texts: Sequence[str], encoder: Encoder, criteria: Criteria, watch: Watch, threads: int
) -> Grouped:
    """Return the groups of duplicates among texts; of equals, the first is canonical."""
    listed = [Text(place, text, fingerprint(text)) for place, text in enumerate(texts)]
    firsts: dict[bytes, int] = {}
    for text in listed:
        firsts.setdefault(text.fingerprint, text.seq)
    places = np.array(list(firsts.values()), np.int64)
    vectors, cut = _encode([texts[place] for place in firsts.values()], encoder, watch, threads)
    view = _view(places, vectors, watch)
    truncated = places[cut].tolist()
    # Comparing each with each takes all cores by itself.
    searching = 1 if isinstance(view, MemoryView) else threads
    grouping = Grouping(view, listed, criteria, watch, searching)
    return Grouped(grouping(), truncated, len(places))


def _encode(
    texts: Sequence[str], encoder: Encoder, watch: Watch, threads: int
) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """Return the vectors, (n, dim), and which texts were cut."""
    vectors = np.empty((len(texts), encoder.dimension), np.float16)
    cut = np.zeros(len(texts), np.bool_)
    # Texts of like length together: an encoder that batches by length finds full batches.
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    done = 0

    def one(part: list[int]) -> int:
        encoded = encoder.encode([texts[place] for place in part])
        vectors[part] = encoded.vectors
        cut[part] = encoded.truncated
        return len(part)

    watch.step("encoding", 0, len(texts))
    pool = ThreadPoolExecutor(threads)
    try:
        parts = [order[start : start + TOGETHER] for start in range(0, len(order), TOGETHER)]
        for finished in as_completed([pool.submit(one, part) for part in parts]):
            done += finished.result()
            watch.step("encoding", done, len(texts))
    finally:
        pool.shutdown(cancel_futures=True)  # whoever interrupts waits for a batch, not for all
    return vectors, cut


def _view(places: NDArray[np.int64], vectors: NDArray[np.float16], watch: Watch) -> VectorView:
    if len(places) <= EACH_WITH_EACH:
        return MemoryView(places, vectors, int(places[-1]) if len(places) else 0)
    batches = 0

    def pace() -> None:
        nonlocal batches
        batches += 1
        watch.step("arranging", min(batches * 256, len(places)), len(places))

    segment = hnsw_segment(vectors.shape[1], [(places, vectors)], pace)
    return FaissView.over(segment, None, int(places[-1]), EACH_WITH_EACH)
