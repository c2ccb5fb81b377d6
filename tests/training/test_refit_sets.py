"""The sets of a refit hold no text, nor a pair linked to one, twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.errors import PairsError, TrainingError
from training.pairs import Pairs
from training.refit_sets import read_sets

Row = tuple[str, str, int, int]


def write(path: Path, rows: list[Row]) -> Path:
    lines = ["text1\ttext2\tlabel\tnatural", *("\t".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def chains(count: int, name: str = "chain") -> list[Row]:
    """Return two natural pairs each, a duplicate and none, joined by a pair that is not natural."""
    return [
        row
        for number in range(count)
        for row in (
            (f"{name} {number} a", f"{name} {number} b", 1, 1),
            (f"{name} {number} b", f"{name} {number} c", 0, 0),
            (f"{name} {number} c", f"{name} {number} d", 0, 1),
        )
    ]


def whose(pairs: Pairs) -> set[str]:
    return {text.rsplit(" ", 1)[0] for text in pairs.texts}


@pytest.mark.parametrize("seed", range(5))
def test_pairs_that_others_join_stay_together(tmp_path: Path, seed: int) -> None:
    """Though what joins them is not natural and measures nothing."""
    found = read_sets(write(tmp_path / "held.tsv", chains(8)), seed=seed)
    one, other = found.halves
    assert not whose(one) & whose(other)
    assert (len(one), len(other)) == (8, 8)
    assert one.natural.all()
    assert other.natural.all()


def test_pairs_that_others_join_are_of_one_piece(tmp_path: Path) -> None:
    """Both natural pairs of a chain, and no pair of another chain."""
    found = read_sets(write(tmp_path / "held.tsv", chains(8)))
    for half, pieces in zip(found.halves, found.pieces, strict=True):
        assert len(pieces) == len(half) == 8
        chain = [half.texts[place].rsplit(" ", 1)[0] for place in half.left.tolist()]
        assert len(set(pieces.tolist())) == len(set(chain)) == 4
        assert len(set(zip(pieces.tolist(), chain, strict=True))) == 4


def test_what_is_measured_is_not_trained_on_though_linked_by_others(tmp_path: Path) -> None:
    """Of the training pairs, the one that only a pair which is not natural links to it."""
    linked: list[Row] = [
        ("chain 0 a", "between", 0, 0),
        ("between", "further", 1, 1),
        ("own one", "own two", 1, 1),
        ("own two", "own three", 0, 1),
        ("own three", "own four", 0, 0),
    ]
    found = read_sets(
        write(tmp_path / "held.tsv", chains(4)), write(tmp_path / "train.tsv", linked)
    )
    assert found.taught is not None
    assert found.taught.texts == ("own one", "own two", "own three")


def test_elsewhere_loses_only_the_pairs_that_hold_what_was_fitted_on(tmp_path: Path) -> None:
    """Nothing is trained on it, so what is linked to them stays, and those left out are counted."""
    shared: list[Row] = [
        ("Chain 1 A", "new", 0, 1),
        ("new", "newer", 1, 1),
        ("newer", "chain 2 b", 0, 0),
        ("newer", "newest", 0, 1),
    ]
    held = write(tmp_path / "held.tsv", chains(4))
    other = write(tmp_path / "other.tsv", [*chains(2, "other"), *shared])
    found = read_sets(held, None, [other])
    assert list(found.elsewhere) == ["other"]
    assert found.elsewhere["other"].texts[-3:] == ("new", "newer", "newest")
    assert len(found.elsewhere["other"]) == 4 + 2
    assert found.left_out == {"other": 1}  # the natural one: others measure nothing


def test_training_holds_nothing_that_is_measured_elsewhere(tmp_path: Path) -> None:
    """Nor anything linked to it."""
    held = write(tmp_path / "held.tsv", chains(4))
    other = write(tmp_path / "other.tsv", chains(2, "other"))
    train = write(tmp_path / "train.tsv", [*chains(3, "other"), *chains(1, "train")])
    found = read_sets(held, train, [other])
    assert found.left_out == {"other": 0}
    assert found.taught is not None
    assert whose(found.taught) == {"other 2", "train 0"}


def test_elsewhere_with_nothing_left_is_refused(tmp_path: Path) -> None:
    """By its name."""
    held = write(tmp_path / "held.tsv", chains(4))
    same = write(tmp_path / "same.tsv", chains(4))
    with pytest.raises(TrainingError, match="same: has not both duplicates and non-duplicates"):
        read_sets(held, None, [same])


def test_two_sets_of_one_name_are_refused(tmp_path: Path) -> None:
    """Only one of them could be reported."""
    held = write(tmp_path / "held.tsv", chains(4))
    same = write(tmp_path / "held.other.tsv", chains(4, "other"))
    with pytest.raises(TrainingError, match="two sets are called held; rename one"):
        read_sets(held, None, [same])


def test_a_set_needs_natural_pairs_of_both_kinds(tmp_path: Path) -> None:
    """Those that are not natural measure nothing."""
    rows: list[Row] = [("a", "b", 1, 1), ("b", "c", 0, 0), ("d", "e", 1, 1)]
    with pytest.raises(PairsError, match="needs both duplicates and non-duplicates"):
        read_sets(write(tmp_path / "held.tsv", rows))
