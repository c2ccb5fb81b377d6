"""Searching all rows through 8-bit copies of them, and never with another answer for it."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from app.index import coarse as coarse_module
from app.index import segment as segment_module
from app.index.coarse import LEAST, MOST, Coarse
from app.index.faiss_index import FaissIndex
from app.index.segment import Segment, flat_segment, hnsw_segment
from tests.unit import index_parts as parts

DIMENSION = 64
ROWS = LEAST + 500
K = 38


def spread(count: int, seed: int) -> NDArray[np.float32]:
    """Return random unit vectors."""
    drawn = np.random.default_rng(seed).standard_normal((count, DIMENSION))
    return _unit(drawn)


def crowded(count: int, seed: int) -> NDArray[np.float32]:
    """Return vectors so near to each other that eight bits do not tell them apart."""
    drawn = np.random.default_rng(seed).standard_normal((count, DIMENSION))
    return _unit(np.ones(DIMENSION) + 0.001 * drawn)


def lopsided(count: int, seed: int) -> NDArray[np.float32]:
    """Return vectors of which one component in each takes all of the range."""
    rng = np.random.default_rng(seed)
    drawn = 0.01 * rng.standard_normal((count, DIMENSION))
    drawn[np.arange(count), rng.integers(0, DIMENSION, count)] = rng.choice([-1, 1], count)
    return _unit(drawn)


def extreme(count: int, seed: int) -> NDArray[np.float32]:
    """Return vectors of nothing but largest codes: their products do not fit into 16 bits twice."""
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (count, DIMENSION))
    signs[: count // 2] = 1
    return _unit(signs)


def _unit(drawn: NDArray[np.float64]) -> NDArray[np.float32]:
    unit: NDArray[np.float64] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit.astype(np.float32)


KINDS = [spread, crowded, lopsided, extreme]
Kind = Callable[[int, int], NDArray[np.float32]]


def no_wait() -> None:
    pass


def segment_of(rows: NDArray[np.float32]) -> Segment:
    """Return a flat segment of these rows, with their copy where one is worth it."""
    held = rows.astype(np.float16)
    segment = flat_segment(DIMENSION, [(np.arange(len(rows)), held)], no_wait)
    segment.make_coarse()
    return segment


def scanned(
    segment: Segment, questions: NDArray[np.float32], k: int, alive: NDArray[np.bool_]
) -> Iterator[tuple[list[int], list[float]]]:
    """Yield what FAISS finds among all living rows."""
    bits = np.packbits(alive, bitorder="little")
    parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))
    values, nodes = segment.index.search(questions, k, params=parameters)
    yield from zip(nodes.tolist(), values.tolist(), strict=True)


@pytest.mark.parametrize("kind", KINDS)
def test_no_row_left_out_is_nearer_than_the_bound(kind: Kind) -> None:
    """Whatever rounding did to the rows and to the question."""
    rows = kind(ROWS, 1)
    rows[7] = 0
    held = rows.astype(np.float16)
    # The last are codes exactly: then all of the error is the rows'.
    questions = np.concatenate([kind(30, 2), spread(10, 3), rows[:10], extreme(10, 6)])
    alive = np.random.default_rng(4).random(ROWS) < 0.9
    for living in (None, alive):
        positions, bounds = Coarse(held).candidates(questions, 50, living)
        exact = questions.astype(np.float64) @ held.astype(np.float64).T
        for place, (near, bound) in enumerate(zip(positions, bounds, strict=True)):
            assert len(np.unique(near)) == 50
            others = np.ones(ROWS, np.bool_) if living is None else living.copy()
            assert others[near].all()
            others[near] = False
            assert exact[place, others].max() <= bound


def test_the_bound_is_near() -> None:
    """Or nothing would ever be proven: within three hundredths of the last candidate."""
    rows = spread(ROWS, 1).astype(np.float16)
    questions = spread(30, 2)
    positions, bounds = Coarse(rows).candidates(questions, 50, None)
    exact = questions @ rows.astype(np.float32).T
    for place, (near, bound) in enumerate(zip(positions, bounds, strict=True)):
        assert bound - exact[place, near].min() < 0.03


def test_fewer_come_where_fewer_are_alive() -> None:
    """And nothing else is near then."""
    rows = spread(ROWS, 1).astype(np.float16)
    alive = np.zeros(ROWS, np.bool_)
    alive[[3, 5, 8]] = True
    (near,), (bound,) = Coarse(rows).candidates(spread(1, 2), 50, alive)
    assert sorted(near.tolist()) == [3, 5, 8]
    assert bound < -1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dead", [0.0, 0.2, 0.8])
def test_a_search_finds_what_a_scan_finds(kind: Kind, dead: float) -> None:
    """To the last bit, proven or not, in the same order but for equal similarities."""
    rows = kind(ROWS, 1)
    segment = segment_of(rows)
    alive = np.random.default_rng(5).random(ROWS) >= dead
    questions = np.concatenate([kind(20, 2), spread(20, 3), rows[:10]])
    bits = None if alive.all() else np.packbits(alive, bitorder="little")
    found = list(segment.search_many(questions, K, bits, exact=True))
    expected = list(scanned(segment, questions, K, alive))
    assert len(found) == len(expected)
    for (nodes, values), (expected_nodes, expected_values) in zip(found, expected, strict=True):
        assert values.tolist() == expected_values
        last = expected_values[-1]
        assert set(nodes[values > last].tolist()) == {
            node
            for node, value in zip(expected_nodes, expected_values, strict=True)
            if value > last
        }
        assert alive[nodes].all()


def test_most_questions_need_no_scan() -> None:
    """Those about rows that lie too near to each other do, and those of a mostly dead segment."""

    def proven(segment: Segment, alive: NDArray[np.bool_] | None = None) -> int:
        bits = None if alive is None else np.packbits(alive, bitorder="little")
        return sum(found is not None for found in segment._narrowed(spread(50, 2), K, bits))

    segment = segment_of(spread(ROWS, 1))
    assert proven(segment) >= 48
    assert proven(segment, np.random.default_rng(5).random(ROWS) < 0.9) >= 48
    assert proven(segment, np.random.default_rng(5).random(ROWS) < 0.4) == 0
    assert proven(segment_of(crowded(ROWS, 1))) == 0


@pytest.mark.parametrize("rows", [LEAST - 1, MOST + 1])
def test_few_and_very_many_rows_are_scanned(rows: int) -> None:
    """Eight bits would save nothing, or take too much memory until there is a graph."""
    assert segment_of(spread(rows, 1))._coarse is None


def test_nobody_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first to search a segment that was loaded has the copy made, and scans meanwhile."""
    begun, let_through, made = threading.Event(), threading.Event(), []

    class Slow(Coarse):
        """A copy that takes its time."""

        def __init__(self, rows: NDArray[np.float16]) -> None:
            begun.set()
            assert let_through.wait(parts.SOON)
            super().__init__(rows)
            made.append(self)

    rows = spread(ROWS, 1)
    index = segment_of(rows).index
    monkeypatch.setattr(segment_module, "_PAYS", 1)
    monkeypatch.setattr(segment_module, "Coarse", Slow)
    segment = Segment("flat", index, np.arange(ROWS))
    for row in (4, 8):
        nodes, _ = segment.search(rows[row], K, None, exact=True)
        assert nodes[0] == row
        assert begun.wait(parts.SOON)
    let_through.set()
    for thread in threading.enumerate():
        if thread.name == "deja-coarse":
            thread.join(parts.SOON)
    assert segment._coarse is made[0]
    nodes, _ = segment.search(rows[4], K, None, exact=True)
    assert nodes[0] == 4
    assert len(made) == 1


def test_a_merge_makes_them(tmp_path: Path) -> None:
    """So that no lookup after it has to."""
    index = FaissIndex(tmp_path, parts.DIMENSION, encoder="an encoder", store="a database")
    parts.settle(index, parts.adding(1, ROWS))
    assert index.view(1).segment._coarse is not None
    assert parts.same_answers(index, parts.adding(1, ROWS))
    index.close()


def rounded_down(levels: int) -> NDArray[np.float64]:
    """Return a vector of which all components but the first lose half a step of so many."""
    vector = np.full(DIMENSION, 10.49 / levels)
    vector[0] = 1
    return vector


@pytest.mark.parametrize("rounding", ["of the rows", "of the question"])
def test_one_odd_block_counts(rounding: str) -> None:
    """Of rows that are copied a block at a time the worst makes the bound, wherever it lies."""
    of_rows = rounding == "of the rows"
    rows = 0.003 * spread(ROWS, 1)
    rows[:250] = 3 * _unit((rounded_down(127) if of_rows else np.ones(DIMENSION))[np.newaxis])
    questions = _unit((np.ones(DIMENSION) if of_rows else rounded_down(63))[np.newaxis])
    held = rows.astype(np.float16)
    (near,), (bound,) = Coarse(held).candidates(questions, 10, None)
    exact = questions[0].astype(np.float64) @ held.astype(np.float64).T
    assert np.delete(exact, near).max() <= bound


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_what_is_no_number_has_no_copy(odd: float) -> None:
    """Nothing could be proven about the other rows either."""
    rows = spread(ROWS, 1).astype(np.float16)
    rows[5, 3] = odd
    with pytest.raises(ValueError, match="not finite"):
        Coarse(rows)


def test_products_fit_in_sixteen_bits_in_pairs() -> None:
    """Without VNNI a processor adds two before it widens them, and cuts off what does not fit."""
    largest = coarse_module._MIDDLE + coarse_module._QUESTION_LEVELS
    assert coarse_module._MIDDLE - coarse_module._QUESTION_LEVELS > 0
    assert 2 * largest * coarse_module._ROW_LEVELS < 2**15


def test_the_rows_are_held_once() -> None:
    """In codes: what the session was made of would be as much again."""
    assert Coarse(spread(ROWS, 1).astype(np.float16))._session._model_bytes is None


def test_a_graph_is_scanned_without() -> None:
    """Where a collection shrank below the limit; its rows with one vector share a node."""
    rows = spread(ROWS, 1).astype(np.float16)
    segment = hnsw_segment(DIMENSION, [(np.arange(ROWS), rows)], no_wait)
    segment.make_coarse()
    assert segment._coarse is None
    found, _ = segment.search(rows[3].astype(np.float32), K, None, exact=True)
    assert found[0] == 3


def test_one_question_of_few_rows_scans_them() -> None:
    """A product would take longer to set up; of two it does not."""
    segment = segment_of(spread(ROWS, 1))
    assert segment._narrowed(spread(1, 2), K, None) == [None]
    assert None not in segment._narrowed(spread(2, 2), K, None)


def test_many_wanted_are_scanned() -> None:
    """Behind them the others follow so closely that little would be proven, and the copy lost."""
    segment = segment_of(spread(ROWS, 1))
    assert segment._narrowed(spread(300, 2), 65, None) == [None] * 300
    assert None not in segment._narrowed(spread(2, 2), 20, None)
    for nodes, _ in segment.search_many(spread(2, 2), ROWS, None, exact=True):
        assert len(np.unique(nodes)) == ROWS


def test_more_questions_than_share_a_product_are_answered_in_turn() -> None:
    """Each as it would be alone."""
    segment, questions = segment_of(spread(ROWS, 1)), spread(70, 2)
    together = list(segment.search_many(questions, K, None, exact=True))
    for question, (nodes, values) in zip(questions, together, strict=True):
        alone, alike = segment.search(question, K, None, exact=True)
        assert nodes.tolist() == alone.tolist()
        assert values.tolist() == alike.tolist()


def test_a_copy_that_proves_nothing_is_given_up() -> None:
    """Each question would pay for both ways."""
    segment = segment_of(crowded(ROWS, 1))
    assert list(segment.search_many(spread(254, 2), K, None, exact=True))
    assert segment._coarse is not None
    assert list(segment.search_many(spread(2, 3), K, None, exact=True))
    assert segment._coarse is None
    segment.make_coarse()
    assert segment._coarse is None


def test_what_it_proved_long_ago_does_not_count() -> None:
    """The last few hundred questions do."""
    segment = segment_of(np.concatenate([crowded(ROWS // 2, 1), spread(ROWS // 2, 1)]))
    far = -crowded(256, 2)  # their nearest are all spread
    assert segment._narrowed(far, K, None).count(None) < 100
    assert segment._coarse is not None
    assert segment._narrowed(crowded(256, 3), K, None).count(None) > 200
    assert segment._coarse is None


def test_searches_go_on_where_no_thread_is_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later one tries again."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    rows = spread(ROWS, 1)
    segment = Segment("flat", segment_of(rows).index, np.arange(ROWS))
    monkeypatch.setattr(segment_module, "_PAYS", 1)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    nodes, _ = segment.search(rows[9], K, None, exact=True)
    assert nodes[0] == 9
    assert not segment._making.locked()


def test_searches_go_on_where_none_can_be_made(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried once, and said once."""
    tried = []

    def refuse(rows: NDArray[np.float16]) -> Coarse:
        tried.append(len(rows))
        raise MemoryError("no room")

    monkeypatch.setattr(segment_module, "_PAYS", 1)
    monkeypatch.setattr(segment_module, "Coarse", refuse)
    rows = spread(ROWS, 1)
    segment = segment_of(rows)
    for _ in range(2):
        nodes, _ = segment.search(rows[9], K, None, exact=True)
        assert nodes[0] == 9
    segment.make_coarse()
    assert tried == [ROWS]
    assert "no 8-bit copy" in caplog.text
