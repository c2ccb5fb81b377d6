"""An exhaustive search through 8-bit rows beside a scan of the float16 rows.

    python -m benchmarks.exact_search --data ../shared/data

Vectors are the shipped encoder's. Both ways take turns, call by call, in one thread; the
similarities that they find must be equal to the last bit.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from app.index.segment import Segment, flat_segment
from benchmarks import texts
from benchmarks.growth.bare import encoder

WANTED = 38  # what a lookup for ten matches asks of a segment
ASKED = 1_000
SEED = 7


def main() -> None:
    """Print a table, a line for each size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[5_000, 10_000, 20_000])
    arguments = parser.parse_args()
    bare = encoder()
    held = bare.encode(texts.ballast(arguments.data, max(arguments.sizes))).vectors
    asked = bare.encode(texts.questions(arguments.data, 1, SEED).others[:ASKED]).vectors
    print("ms a question     alone: scan  8 bits     of eight: scan  8 bits     not proven")
    for size in arguments.sizes:
        rows = held[:size].astype(np.float16)
        segment = flat_segment(held.shape[1], [(np.arange(size), rows)], lambda: None)
        segment.make_coarse()
        alone, shared = timed(segment, asked, 1), timed(segment, asked, 8)
        failed = sum(found is None for found in segment._narrowed(asked, WANTED, None))  # noqa: SLF001
        print(
            f"{size:>9,} rows         {alone[0]:.3f}   {alone[1]:.3f}            {shared[0]:.3f}"
            f"   {shared[1]:.3f}         {failed / len(asked):.1%}"
        )


def timed(segment: Segment, asked: NDArray[np.float32], together: int) -> tuple[float, float]:
    """Return the median milliseconds a question of a scan and of a search, `together` at once."""
    taken: tuple[list[float], list[float]] = ([], [])

    def scan(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        values: NDArray[np.float32] = segment.index.search(vectors, WANTED)[0]
        return values

    def search(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        found = segment.search_many(vectors, WANTED, None, exact=True)
        return np.stack([values for _, values in found])

    faiss.omp_set_num_threads(1)
    ways: tuple[Callable[[NDArray[np.float32]], NDArray[np.float32]], ...] = (scan, search)
    for start in range(0, len(asked) - together + 1, together):
        vectors = asked[start : start + together]
        answers: list[NDArray[np.float32]] = []
        for way, times in zip(ways, taken, strict=True):
            started = time.perf_counter()
            answers.append(way(vectors))
            times.append(1e3 * (time.perf_counter() - started) / together)
        if not np.array_equal(answers[0], answers[1]):
            raise SystemExit("the two ways differ")
    return float(np.median(taken[0])), float(np.median(taken[1]))


if __name__ == "__main__":
    main()
