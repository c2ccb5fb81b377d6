"""Retrieval: does a question find the rest of its group among many thousands of texts?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import faiss
import numpy as np
from numpy.typing import NDArray

from app.domain.text import canonical_form
from training.errors import TrainingError
from training.graph import groups
from training.metrics import map_at, mrr_at, ndcg_at, recall_at

if TYPE_CHECKING:
    from training.data import Pairs
    from training.encoders import Encoder
    from training.tasks import Figures

# As deep as the deepest metric looks.
_RANKS = 100
_QUERIES_A_BLOCK = 2_048
_DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Questions and what they are to be found among.

    texts: the corpus, distinct; queries: (q,) places in it; group: (len(texts),) a question's
    relevant texts are the others of its group, a text that is in none has -1.
    """

    texts: tuple[str, ...]
    queries: NDArray[np.int64]
    group: NDArray[np.int64]


def retrieval_of(pairs: Pairs, more: Iterable[str] = ()) -> Retrieval:
    """Return the retrieval of duplicates among the texts of pairs and further ones.

    Every text that has a duplicate is a question, the rest of its connected component of duplicate
    pairs its relevant texts. Of `more`, whatever equals an earlier text but for case, white space
    and end punctuation is left out: nobody labelled it, so it would count as a wrong answer.

    Raises TrainingError where no text has a duplicate.
    """
    component = groups(pairs)
    size = np.bincount(component)[component]
    queries = np.flatnonzero(size > 1)
    if not len(queries):
        raise TrainingError("retrieval needs pairs that are duplicates")
    seen = {canonical_form(text) for text in pairs.texts}
    texts = list(pairs.texts)
    for text in more:
        form = canonical_form(text)
        if form not in seen:
            seen.add(form)
            texts.append(text)
    group = np.full(len(texts), -1, dtype=np.int64)
    group[queries] = component[queries]
    return Retrieval(tuple(texts), queries, group)


def evaluate_retrieval(encoder: Encoder, retrieval: Retrieval, *, threads: int = 2) -> Figures:
    """Return how well each question finds the rest of its group by exact search.

    The question itself is no answer. Beside the vectors, memory holds one block of similarities.

    threads: of the search.

    Keys: kind `retrieval`; queries; corpus (texts); ndcg@10, mrr@10, map@100, recall@1, recall@10.
    """
    vectors = encoder.encode(retrieval.texts)
    with _faiss_threads(threads):
        relevance = np.concatenate(list(_relevance(vectors, retrieval)))
    relevant = np.bincount(retrieval.group[retrieval.queries])
    others = relevant[retrieval.group[retrieval.queries]] - 1
    return {
        "kind": "retrieval",
        "queries": len(retrieval.queries),
        "corpus": len(retrieval.texts),
        "ndcg@10": round(ndcg_at(10, relevance, others), _DECIMALS),
        "mrr@10": round(mrr_at(10, relevance, others), _DECIMALS),
        "map@100": round(map_at(100, relevance, others), _DECIMALS),
        "recall@1": round(recall_at(1, relevance, others), _DECIMALS),
        "recall@10": round(recall_at(10, relevance, others), _DECIMALS),
    }


def _relevance(vectors: NDArray[np.float32], retrieval: Retrieval) -> Iterator[NDArray[np.bool_]]:
    """Give, block of queries by block, whether the text at each rank is relevant: (b, ranks)."""
    ranks = min(_RANKS, len(vectors) - 1)
    for start in range(0, len(retrieval.queries), _QUERIES_A_BLOCK):
        queries = retrieval.queries[start : start + _QUERIES_A_BLOCK]
        # One more than is wanted, as the nearest text of a question is itself.
        _, found = faiss.knn(
            vectors[queries], vectors, ranks + 1, metric=faiss.METRIC_INNER_PRODUCT
        )
        other = found != queries[:, None]
        # Texts of equal vectors may come before it and leave it out.
        other[other.all(axis=1), -1] = False
        answers = found[other].reshape(len(queries), ranks)
        yield retrieval.group[answers] == retrieval.group[queries][:, None]


@contextmanager
def _faiss_threads(threads: int) -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
