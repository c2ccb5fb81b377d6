"""What a step trains on depends on the step alone, for one process and for several."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from training.errors import TrainingError
from training.graph import groups
from training.pairs import Pairs
from training.steps import StepBatches, Unlabelled

GROUPS = 12


def example() -> Pairs:
    """Return 12 duplicates; of each group's two texts, the first has two non-duplicates.

    And two more non-duplicates of one text that has no duplicate.
    """
    texts = [f"{kind}{n}" for n in range(GROUPS) for kind in "abxy"] + ["lone", "far", "away"]
    place = {text: index for index, text in enumerate(texts)}
    rows = [(f"a{n}", f"b{n}", True) for n in range(GROUPS)]
    rows += [(f"a{n}", f"{kind}{n}", False) for n in range(GROUPS) for kind in "xy"]
    rows += [("lone", "far", False), ("lone", "away", False)]
    labels = np.array([label for _, _, label in rows])
    return Pairs(
        texts=tuple(texts),
        left=np.array([place[left] for left, _, _ in rows]),
        right=np.array([place[right] for _, right, _ in rows]),
        labels=labels,
        natural=np.ones_like(labels),
        fingerprint="",
    )


def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return columns, as the collator of sentence-transformers makes them."""
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
    if "label" in columns:
        columns["label"] = torch.tensor(columns["label"])
    return columns


def steps(pairs: Pairs | None = None, **options: Any) -> StepBatches:
    chosen = example() if pairs is None else pairs
    return StepBatches(
        chosen, groups(chosen), **{"batch": 4, "seed": 3, "collate": collate, **options}
    )


def mined_for(batches: StepBatches, pairs: Pairs) -> NDArray[np.int64]:
    """Return mined negatives: of each side, the same side of the next group."""
    place = {text: index for index, text in enumerate(pairs.texts)}
    negatives = np.full(batches.sides.shape, -1)
    for row, side in np.ndindex(*batches.sides.shape):
        text = pairs.texts[batches.sides[row, side]]
        if text[1:].isdigit():
            negatives[row, side] = place[f"{text[0]}{(int(text[1:]) + 1) % GROUPS}"]
    return negatives


def test_a_step_depends_on_itself_alone() -> None:
    """In any order, over and over, from the middle of any epoch: the same rows."""
    one, other = steps(epochs=4), steps(epochs=4)
    in_order = [one.rows(step) for step in range(len(one))]
    assert len(one) == 12
    for step in (11, 0, 5, 5, 2, 7):
        assert other.rows(step) == in_order[step]
    assert in_order[0] != in_order[3]
    assert steps(epochs=4, seed=4).rows(0) != in_order[0]


def test_every_pair_comes_once_an_epoch() -> None:
    """Either of its texts may be the anchor; over the epochs both are."""
    batches = steps(epochs=20, labelled_negatives=False)
    anchors = set()
    for epoch in range(20):
        rows = [row for step in range(3) for row in batches.rows(3 * epoch + step)]
        assert sorted(row["label"][0] for row in rows) == sorted(
            np.unique(groups(example())[example().left[example().labels]]).tolist()
        )
        anchors |= {row["anchor"] for row in rows}
    assert anchors == {f"{kind}{n}" for n in range(GROUPS) for kind in "ab"}
    assert "negative" not in batches.rows(0)[0]
    assert batches.rows(0)[0]["label"][1] == -1


def test_how_many_steps_there_are() -> None:
    """By passes, of which the last may be cut short, or as many as asked for; whole ones."""
    assert (len(steps()), len(steps(epochs=2.5)), len(steps(steps=5))) == (3, 8, 5)
    assert (len(steps(accumulate=2)), len(steps(steps=5, accumulate=2))) == (4, 10)
    batches = steps(epochs=3)
    assert batches.steps_an_epoch == 3
    assert [batches.epoch_start(step) for step in (0, 2, 3, 7)] == [0, 0, 3, 6]


def test_slices_of_several_processes_are_the_batch() -> None:
    """Together and in order, whatever their number."""
    whole = [steps(lone_negatives=True)[step] for step in range(4)]
    for processes in (2, 3):
        shared = [
            steps(lone_negatives=True, rank=rank, processes=processes) for rank in range(processes)
        ]
        for step in range(4):
            slices = [batches[step] for batches in shared]
            for column in ("anchor", "positive", "negative"):
                assert [text for part in slices for text in part[column]] == whole[step][column]
            assert torch.equal(torch.cat([part["label"] for part in slices]), whole[step]["label"])


def test_a_batch_too_small_to_share_is_told() -> None:
    """A process without a row would leave the others waiting."""
    with pytest.raises(TrainingError, match="a batch of 4 pairs cannot be shared by 5 processes"):
        steps(rank=0, processes=5)
    assert len(steps(rank=0, processes=4)[0]["anchor"]) == 1


def test_a_labelled_negative_is_one_of_its_group() -> None:
    """What is no duplicate of one text is none of the other: over the epochs all of them come."""
    pairs, anchors, found = example(), set(), set()
    group = dict(zip(pairs.texts, groups(pairs).tolist(), strict=True))
    batches = steps(epochs=20)
    for step in range(len(batches)):
        for row in batches.rows(step):
            number = row["anchor"][1:]
            assert {row["anchor"], row["positive"]} == {f"a{number}", f"b{number}"}
            assert row["negative"] in {f"x{number}", f"y{number}"}
            assert row["label"] == [group[row["anchor"]], group[row["negative"]]]
            anchors.add(row["anchor"])
            found.add((row["anchor"][0], row["negative"]))
    assert anchors == {f"{kind}{n}" for n in range(GROUPS) for kind in "ab"}
    assert {(kind, negative[0]) for kind, negative in found} == {*product("ab", "xy")}
    assert {negative for _, negative in found} == {f"{k}{n}" for n in range(GROUPS) for k in "xy"}


def test_a_mined_negative_is_one_of_its_anchor() -> None:
    """Beside labelled ones it has its share; either text can then be the anchor."""
    pairs = example()
    batches = steps(epochs=20)
    batches.mined(mined_for(batches, pairs))
    kinds = {"labelled": 0, "mined": 0}
    anchors = set()
    for step in range(len(batches)):
        for row in batches.rows(step):
            anchor, negative = row["anchor"], row["negative"]
            anchors.add(anchor[0])
            number = int(anchor[1:])
            if negative[0] in "xy":
                assert number == int(negative[1:])
                kinds["labelled"] += 1
            else:
                assert negative == f"{anchor[0]}{(number + 1) % GROUPS}"
                kinds["mined"] += 1
            assert row["label"][1] == groups(pairs)[pairs.texts.index(negative)]
    assert anchors == {"a", "b"}
    # Of three choices, whichever text is the anchor, two are labelled.
    assert kinds == {"labelled": pytest.approx(160, abs=20), "mined": pytest.approx(80, abs=20)}


def test_only_mined_negatives() -> None:
    """Where a text has none, the row has none: its column is blank and its group -1."""
    pairs = example()
    batches = steps(labelled_negatives=False)
    negatives = mined_for(batches, pairs)
    negatives[0] = -1
    batches.mined(negatives)
    rows = [row for step in range(3) for row in batches.rows(step)]
    without = [row for row in rows if {row["anchor"], row["positive"]} == {"a0", "b0"}]
    assert [(row["negative"], row["label"][1]) for row in without] == [("", -1)]
    assert sum(row["label"][1] >= 0 for row in rows) == GROUPS - 1


def test_lone_negatives_join_as_triplets_of_a_text_and_itself() -> None:
    """A text without duplicates comes once an epoch, with either of its non-duplicates."""
    batches = steps(epochs=10, lone_negatives=True)
    assert len(batches.sides) == GROUPS + 1
    assert batches.steps_an_epoch == 4
    lone = [
        row
        for step in range(len(batches))
        for row in batches.rows(step)
        if row["anchor"] == row["positive"]
    ]
    assert [row["anchor"] for row in lone] == ["lone"] * 10
    assert {row["negative"] for row in lone} == {"far", "away"}
    assert len(steps(lone_negatives=False).sides) == GROUPS
    assert len(steps(lone_negatives=True, labelled_negatives=False).sides) == GROUPS


def test_labels_are_two_numbers_a_row() -> None:
    """(n, 2) int64: the group of the pair, and that of its negative."""
    label = steps()[0]["label"]
    assert (label.shape, label.dtype) == ((4, 2), torch.int64)


def test_unlabelled_texts_go_round_with_their_vectors() -> None:
    """Step after step the next ones, from the beginning after the last; sliced like the batch."""
    texts = [f"u{n}" for n in range(5)]
    vectors = np.arange(10, dtype=np.float16).reshape(5, 2)
    batches = steps(steps=3)
    batches.unlabelled(Unlabelled(texts, vectors), 3)
    assert [batches[step]["unlabelled"] for step in range(3)] == [
        ["u0", "u1", "u2"],
        ["u3", "u4", "u0"],
        ["u1", "u2", "u3"],
    ]
    given = batches[1]["unlabelled_teacher"]
    assert given.dtype == torch.float32
    assert given.tolist() == [[6, 7], [8, 9], [0, 1]]
    second = steps(steps=3, rank=1, processes=2)
    second.unlabelled(Unlabelled(texts, vectors), 3)
    assert second[1]["unlabelled"] == ["u0"]
    assert second[1]["unlabelled_teacher"].tolist() == [[0, 1]]


def test_neighbours_join_from_the_next_epoch_on() -> None:
    """The epoch under way keeps the batches that it began with, so a pair comes once in it."""
    pairs = example()
    numbers = groups(pairs)
    neighbours = np.full((numbers.max() + 1, 1), -1)
    own = numbers[pairs.left[pairs.labels]]
    neighbours[own, 0] = np.roll(own, -1)
    plain, hard = steps(epochs=3, hard=0.5), steps(epochs=3, hard=0.5)
    assert hard.rows(0) == plain.rows(0)
    hard.mined(None, neighbours)
    assert [hard.rows(step) for step in (1, 2)] == [plain.rows(step) for step in (1, 2)]
    for step in (3, 4, 5):
        near = {row["label"][0] for row in hard.rows(step)}
        assert sum(int(neighbours[group, 0]) in near for group in near) >= 2
    again = steps(epochs=3, hard=0.5)
    again.mined(None, neighbours)
    assert again.rows(4) == hard.rows(4)
