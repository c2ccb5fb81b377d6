import numpy as np
from numpy.typing import NDArray

from app.index.tail import BLOCK_ROWS, Tail

EAST = np.array([1, 0], np.float32)


def rows(*firsts: float) -> NDArray[np.float16]:
    """Return vectors with these first components, each of which names its row."""
    return np.array([[first, 0.25] for first in firsts], np.float16)


def seqs(start: int, count: int) -> NDArray[np.int64]:
    return np.arange(start, start + count)


def firsts(tail: Tail) -> list[float]:
    everything = tail.rows(np.arange(len(tail)))
    return [float(first) for first in everything[:, 0]]


def test_published_tails_share_one_block() -> None:
    """Appending to the latest tail copies nothing, and the earlier tail does not see it."""
    one = Tail.empty(2).extended(seqs(1, 2), rows(1, 2))
    two = one.extended(seqs(3, 1), rows(3))
    assert two.blocks[0] is one.blocks[0]
    assert (firsts(one), firsts(two)) == ([1, 2], [1, 2, 3])


def test_the_same_rows_again_are_not_copied() -> None:
    """A tail staged and then made again from the same base uses the rows already written."""
    base = Tail.empty(2).extended(seqs(1, 1), rows(1))
    staged = base.extended(seqs(2, 2), rows(2, 3))
    published = base.extended(seqs(2, 3), rows(2, 3, 4))
    assert published.blocks[0] is staged.blocks[0] is base.blocks[0]
    assert (firsts(staged), firsts(published)) == ([1, 2, 3], [1, 2, 3, 4])


def test_other_rows_go_to_a_copy() -> None:
    """After a rollback, other rows in the place of staged ones leave the staged tail as it was."""
    base = Tail.empty(2).extended(seqs(1, 1), rows(1))
    staged = base.extended(seqs(2, 2), rows(2, 3))
    other = base.extended(seqs(2, 2), rows(2, 4))
    later = staged.extended(seqs(4, 1), rows(5))
    assert other.blocks[0] is not staged.blocks[0]
    assert firsts(base) == [1]
    assert firsts(staged) == [1, 2, 3]
    assert firsts(other) == [1, 2, 4]
    assert firsts(later) == [1, 2, 3, 5]


def test_only_the_last_block_is_copied() -> None:
    """Full blocks are shared whatever comes after them."""
    many = np.linspace(0, 1, BLOCK_ROWS + 1).repeat(2).reshape(-1, 2).astype(np.float16)
    base = Tail.empty(2).extended(seqs(1, BLOCK_ROWS + 1), many)
    staged = base.extended(seqs(2000, 1), rows(2))
    other = base.extended(seqs(2000, 1), rows(3))
    assert other.blocks[0] is staged.blocks[0]
    assert other.blocks[1] is not staged.blocks[1]
    assert (firsts(staged)[-2:], firsts(other)[-2:]) == ([1, 2], [1, 3])


def test_rows_across_blocks() -> None:
    """Rows that fill several blocks are found, removed and yielded where they belong."""
    count = 3 * BLOCK_ROWS - 1
    values = np.zeros((count, 2), np.float16)
    values[[5, BLOCK_ROWS, 2 * BLOCK_ROWS + 7], 0] = [0.25, 0.75, 0.5]
    tail = Tail.empty(2).extended(seqs(10, 3), values[:3]).extended(seqs(13, count - 3), values[3:])
    best = tail.nearest(EAST, 2, 1e-6)
    assert best.tolist() == [BLOCK_ROWS, 2 * BLOCK_ROWS + 7]
    rest = tail.without(tail.seqs[best])
    assert rest.nearest(EAST, 1, 1e-6).tolist() == [5]
    assert (len(rest), rest.live) == (count, count - 2)
    assert rest.positions(np.array([15, 10 + BLOCK_ROWS, 9])).tolist() == [5, -1, -1]
    batches = list(rest.batches())
    assert [len(part) for part, _ in batches] == [BLOCK_ROWS, BLOCK_ROWS - 1, BLOCK_ROWS - 2]
    assert np.concatenate([part for part, _ in batches]).tolist() == sorted(
        set(tail.seqs.tolist()) - set(tail.seqs[best].tolist())
    )
