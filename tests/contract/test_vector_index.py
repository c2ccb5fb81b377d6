"""What every `VectorIndex` does; the vectors are exact in float16, so values are, too."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from app.domain.anchors import Change
from app.domain.ports import Hits, VectorIndex
from app.index.faiss_index import FaissIndex
from app.index.memory import MemoryIndex

EAST = np.array([1, 0, 0, 0], np.float16)
NORTH = np.array([0, 1, 0, 0], np.float16)
MIDDLE = np.array([0.5, 0.5, 0.5, 0.5], np.float16)
LEANING = np.array([0.5, 0.5, 0.5, -0.5], np.float16)
QUESTION = EAST.astype(np.float32)


def faiss_index(folder: Path, exact_below: int, merge_least: int) -> FaissIndex:
    return FaissIndex(
        folder,
        4,
        encoder="an encoder",
        store="a database",
        exact_below=exact_below,
        merge_least=merge_least,
    )


KINDS: dict[str, Callable[[Path], VectorIndex]] = {
    "memory": lambda _: MemoryIndex(4),
    "faiss, never merged": lambda folder: faiss_index(folder, 1000, 1000),
    "faiss, always merged": lambda folder: faiss_index(folder, 1000, 1),
    "faiss, always a graph": lambda folder: faiss_index(folder, 1, 1),
}


@pytest.fixture(params=KINDS)
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VectorIndex]:
    index = KINDS[request.param](tmp_path)
    yield index
    index.close()


def adding(seq: int, vector: NDArray[np.float16], removed: int | None = None) -> Change:
    return Change(seq, removed, vector)


def found(hits: Hits) -> list[tuple[int, float]]:
    return list(zip(hits.seqs.tolist(), hits.similarities.tolist(), strict=True))


def test_unknown_collection_is_empty(index: VectorIndex) -> None:
    """A collection that the index does not know is an empty one."""
    view = index.view(7)
    assert len(view) == 0
    hits = view.search(QUESTION, 3)
    assert (hits.seqs.dtype.name, len(hits.seqs)) == ("int64", 0)
    assert (hits.similarities.dtype.name, len(hits.similarities)) == ("float32", 0)
    assert np.isnan(view.similarities(np.array([1, 2]), QUESTION)).tolist() == [True, True]


def test_search_is_best_first(index: VectorIndex) -> None:
    """A search returns the most similar first, each with its cosine."""
    index.apply(1, [adding(1, -EAST), adding(2, NORTH), adding(3, MIDDLE), adding(4, EAST)])
    assert found(index.view(1).search(QUESTION, 4)) == [(4, 1.0), (3, 0.5), (2, 0.0), (1, -1.0)]


def test_search_returns_no_more_than_asked(index: VectorIndex) -> None:
    """A search returns the k best, and all where fewer are held."""
    index.apply(1, [adding(1, NORTH), adding(2, MIDDLE), adding(3, EAST)])
    assert found(index.view(1).search(QUESTION, 0)) == []
    assert found(index.view(1).search(QUESTION, 2)) == [(3, 1.0), (2, 0.5)]
    assert found(index.view(1).search(QUESTION, 99)) == [(3, 1.0), (2, 0.5), (1, 0.0)]


def test_ties_go_to_the_older(index: VectorIndex) -> None:
    """Of equally similar vectors the older come first, also where the cut falls among them."""
    index.apply(1, [adding(seq, vector) for seq, vector in enumerate([MIDDLE, LEANING] * 40, 1)])
    index.apply(1, [adding(81, EAST), adding(82, LEANING)])
    assert found(index.view(1).search(QUESTION, 4)) == [(81, 1.0), (1, 0.5), (2, 0.5), (3, 0.5)]


def test_similarity_stays_within_one(index: VectorIndex) -> None:
    """A vector that rounding made longer than 1 has a similarity of 1 at most."""
    index.apply(1, [adding(1, EAST * np.float16(1.001)), adding(2, EAST)])
    assert found(index.view(1).search(QUESTION, 2)) == [(1, 1.0), (2, 1.0)]
    assert found(index.view(1).search(-QUESTION, 2)) == [(1, -1.0), (2, -1.0)]
    assert index.view(1).similarities(np.array([1]), QUESTION).tolist() == [1.0]


def test_update_replaces_the_version(index: VectorIndex) -> None:
    """After an update only the new version is found."""
    index.apply(1, [adding(1, EAST), adding(2, NORTH)])
    index.apply(1, [adding(3, MIDDLE, removed=1)])
    assert len(index.view(1)) == 2
    assert found(index.view(1).search(QUESTION, 5)) == [(3, 0.5), (2, 0.0)]


def test_deletion_removes(index: VectorIndex) -> None:
    """What is deleted is found no more; deleting it again, or what never was, changes nothing."""
    index.apply(1, [adding(1, EAST), adding(2, NORTH)])
    index.apply(1, [Change(3, 1, None), Change(4, 1, None), Change(5, 77, None)])
    assert len(index.view(1)) == 1
    assert found(index.view(1).search(QUESTION, 5)) == [(2, 0.0)]


def test_everything_deleted(index: VectorIndex) -> None:
    """A collection from which everything was deleted is empty, and can be filled again."""
    index.apply(1, [adding(1, EAST), adding(2, NORTH)])
    index.apply(1, [Change(3, 1, None), Change(4, 2, None)])
    assert len(index.view(1)) == 0
    assert found(index.view(1).search(QUESTION, 5)) == []
    index.apply(1, [adding(5, MIDDLE)])
    assert found(index.view(1).search(QUESTION, 5)) == [(5, 0.5)]


def test_added_and_removed_at_once(index: VectorIndex) -> None:
    """Changes of one call may remove what earlier ones of it added."""
    index.apply(1, [adding(1, EAST), adding(2, MIDDLE, removed=1), Change(3, 2, None)])
    assert len(index.view(1)) == 0
    assert found(index.view(1).search(QUESTION, 5)) == []


def test_version_without_its_vector(index: VectorIndex) -> None:
    """A change that lost its vector, as its version is gone by now, still removes and counts."""
    index.apply(1, [adding(1, EAST)])
    index.apply(1, [Change(2, 1, None), adding(3, MIDDLE, removed=2)])
    assert found(index.view(1).search(QUESTION, 5)) == [(3, 0.5)]


def test_replayed_changes_are_passed_over(index: VectorIndex) -> None:
    """Changes that a view has applied already do nothing a second time."""
    changes = [adding(1, EAST), adding(2, NORTH), Change(3, 1, None)]
    index.apply(1, changes)
    index.apply(1, changes)
    index.apply(1, [*changes, adding(4, MIDDLE)])
    assert found(index.view(1).search(QUESTION, 5)) == [(4, 0.5), (2, 0.0)]


def test_a_view_never_changes(index: VectorIndex) -> None:
    """A view that someone holds answers the same whatever is published after it."""
    index.apply(1, [adding(1, EAST), adding(2, NORTH)])
    held = index.view(1)
    index.apply(1, [adding(3, MIDDLE, removed=2), Change(4, 1, None)])
    assert len(held) == 2
    assert found(held.search(QUESTION, 5)) == [(1, 1.0), (2, 0.0)]
    assert held.similarities(np.array([1, 3]), QUESTION)[0] == 1.0
    assert np.isnan(held.similarities(np.array([1, 3]), QUESTION)[1])


def test_two_views_of_one_base(index: VectorIndex) -> None:
    """Views made from the same base with the same seqs but other vectors stay apart."""
    index.apply(1, [adding(1, NORTH)])
    base = index.view(1)
    staged = base.apply([adding(2, EAST), adding(3, NORTH)])
    other = base.apply([adding(2, MIDDLE)])
    further = staged.apply([Change(4, 2, None)])
    index.apply(1, [adding(2, -EAST)])
    assert found(base.search(QUESTION, 5)) == [(1, 0.0)]
    assert found(staged.search(QUESTION, 5)) == [(2, 1.0), (1, 0.0), (3, 0.0)]
    assert found(other.search(QUESTION, 5)) == [(2, 0.5), (1, 0.0)]
    assert found(further.search(QUESTION, 5)) == [(1, 0.0), (3, 0.0)]
    assert found(index.view(1).search(QUESTION, 5)) == [(1, 0.0), (2, -1.0)]


def test_similarities_in_the_order_asked(index: VectorIndex) -> None:
    """Similarities come in the order of the seqs asked for, NaN for one not held."""
    index.apply(1, [adding(10, EAST), adding(20, MIDDLE), adding(30, -EAST), adding(40, NORTH)])
    index.apply(1, [Change(50, 40, None), adding(60, LEANING)])
    asked = np.array([60, 30, 5, 10, 40, 10, 15, 99, 20])
    answer = index.view(1).similarities(asked, QUESTION)
    assert answer.dtype == np.float32
    assert answer[[0, 1, 3, 5, 8]].tolist() == [0.5, -1.0, 1.0, 1.0, 0.5]
    assert np.flatnonzero(np.isnan(answer)).tolist() == [2, 4, 6, 7]
    assert index.view(1).similarities(np.empty(0, np.int64), QUESTION).shape == (0,)


def test_collections_are_separate(index: VectorIndex) -> None:
    """A collection neither sees nor loses another's vectors."""
    index.apply(1, [adding(1, EAST)])
    index.apply(2, [adding(2, MIDDLE)])
    index.drop(1)
    assert len(index.view(1)) == 0
    assert index.saved_seq(1) is None
    assert found(index.view(2).search(QUESTION, 5)) == [(2, 0.5)]


def test_rebuild_replaces_everything(index: VectorIndex) -> None:
    """After a rebuild a view holds exactly the vectors given, and applies only later changes."""
    index.apply(1, [adding(1, EAST), adding(2, EAST)])
    batches = [
        (np.array([3, 5]), np.stack([NORTH, MIDDLE])),
        (np.array([6]), LEANING[np.newaxis]),
    ]
    index.rebuild(1, iter(batches), 8)
    index.apply(1, [adding(8, EAST), adding(9, EAST, removed=3)])
    assert found(index.view(1).search(QUESTION, 5)) == [(9, 1.0), (5, 0.5), (6, 0.5)]


def test_rebuild_of_nothing(index: VectorIndex) -> None:
    """A rebuild without vectors leaves an empty collection."""
    index.apply(1, [adding(1, EAST)])
    index.rebuild(1, iter([]), 4)
    assert len(index.view(1)) == 0
    assert found(index.view(1).search(QUESTION, 5)) == []


def test_nothing_saved(index: VectorIndex) -> None:
    """A collection of which nothing was saved must be rebuilt."""
    assert index.restore(3) is None
    assert index.saved_seq(3) is None


def test_closing_twice(index: VectorIndex) -> None:
    """Closing again does nothing, and what is held can still be read."""
    index.apply(1, [adding(1, EAST)])
    index.close()
    index.close()
    assert found(index.view(1).search(QUESTION, 5)) == [(1, 1.0)]


def test_retain_drops_every_other_collection(index: VectorIndex) -> None:
    """What the truth no longer knows is forgotten."""
    for collection in (1, 2, 3):
        index.apply(collection, [adding(collection, EAST)])
    index.retain({2, 9})
    assert [len(index.view(collection)) for collection in (1, 2, 3)] == [0, 1, 0]


def test_vectors_come_back_as_they_were_stored(index: VectorIndex) -> None:
    """In the order asked for; NaN for a seq that never was and for one that was replaced."""
    index.apply(1, [adding(1, EAST), adding(2, NORTH), adding(3, MIDDLE)])
    index.apply(1, [adding(4, LEANING, removed=2)])
    vectors = index.view(1).vectors(np.array([3, 9, 4, 2, 1], np.int64))
    assert vectors.dtype == np.float16
    assert vectors[[0, 2, 4]].tolist() == [MIDDLE.tolist(), LEANING.tolist(), EAST.tolist()]
    assert np.isnan(vectors[[1, 3]].astype(np.float32)).all()


def test_vectors_of_an_empty_collection(index: VectorIndex) -> None:
    """There are none, and asking for none gives none."""
    assert np.isnan(index.view(7).vectors(np.array([1], np.int64)).astype(np.float32)).all()
    assert index.view(7).vectors(np.array([], np.int64)).shape == (0, 4)
