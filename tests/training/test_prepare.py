"""What is trained on and what is measured on share no text and no link."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.text import canonical_form
from training import run
from training.config import TrainConfig
from training.data import Dropped, LabelledTexts, read_pairs
from training.errors import TrainingError
from training.graph import components, drop_contradictions
from training.pairs import Pairs
from training.prepare import Prepared, prepare

Row = tuple[str, str, int]


def table(file: Path, rows: list[Row], header: str = "text1\ttext2\tlabel") -> Path:
    file.write_text("\n".join([header, *("\t".join(map(str, row)) for row in rows)]) + "\n")
    return file


def prepared(folder: Path, rows: list[Row], **settings: Any) -> Prepared:
    pairs = table(folder / "pairs.tsv", rows)
    return prepare(TrainConfig(output=folder / "run", pairs=(pairs,), **settings))


def told(pairs: Pairs) -> set[Row]:
    return {
        (pairs.texts[left], pairs.texts[right], int(label))
        for left, right, label in zip(pairs.left, pairs.right, pairs.labels, strict=True)
    }


def chain(name: str) -> list[Row]:
    """Return two duplicates and a non-duplicate, linked to nothing else."""
    return [
        (f"{name} 1", f"{name} 2", 1),
        (f"{name} 2", f"{name} 3", 1),
        (f"{name} 1", f"{name}", 0),
    ]


def test_pairs_linked_to_a_dev_set_are_left_out(tmp_path: Path) -> None:
    """Through a duplicate of a duplicate, a non-duplicate, or another spelling of the text."""
    dev = table(tmp_path / "asked.tsv", [("B  3", "x", 1), ("y", "z", 0)])
    rows = [*chain("a"), *chain("b"), ("b", "c 1", 0), ("c 1", "c 2", 1), *chain("d")]
    found = prepared(tmp_path, rows, dev=(dev,))
    assert told(found.pairs) == {*chain("a"), *chain("d")}
    assert found.summary["linked_to_dev"] == 5
    assert found.held_out == "asked"
    assert found.population == "asked"
    assert told(found.calibration_pairs) == {("B  3", "x", 1), ("y", "z", 0)}
    assert found.summary["dev"] == {"asked": 2}


def test_texts_of_intents_are_not_trained_on_either(tmp_path: Path) -> None:
    """A set of intents does not calibrate, so a part of the pairs is held out as well."""
    intents = tmp_path / "intents.tsv"
    intents.write_text("text\tlabel\nA 1\tone\nsomething\ttwo\n")
    rows = [row for name in "abcdefghijk" for row in chain(name)]
    found = prepared(tmp_path, rows, dev=(intents,), dev_share=0.2)
    held_out = found.calibration_pairs
    assert found.summary["linked_to_dev"] == 3
    assert list(found.dev) == ["held-out", "intents"]
    assert isinstance(found.dev["intents"], LabelledTexts)
    assert (len(found.pairs), len(held_out)) == (24, 6)
    assert told(found.pairs) | told(held_out) == {row for row in rows if not row[0].startswith("a")}
    assert found.population == "20% of pairs.tsv"


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 30), st.booleans()), min_size=4, max_size=60
    ),
    dev=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.booleans()), max_size=6),
    seed=st.integers(0, 3),
)
def test_nothing_is_both_trained_and_measured_on(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[int, int, bool]],
    dev: list[tuple[int, int, bool]],
    seed: int,
) -> None:
    """Whatever the pairs: in the graph of all of them no path leads from one to the other."""
    folder = tmp_path_factory.mktemp("any")
    given_rows = [(f"t{left}", f"t{right}", int(label)) for left, right, label in rows]
    files: tuple[Path, ...] = ()
    if dev:
        asked = [(f"T{left}", f"t{right}", int(label)) for left, right, label in dev]
        files = (table(folder / "asked.tsv", asked),)
    try:
        found = prepared(folder, given_rows, dev=files, seed=seed, dev_share=0.3)
    except TrainingError:
        return
    measured = {
        canonical_form(text) for found_dev in found.dev.values() for text in found_dev.texts
    }
    # By hand: spread from what is measured along every pair of the file until nothing is new.
    kept = [(left, right) for left, right, _ in told(found.pairs)]
    links = [(f"t{left}", f"t{right}") for left, right, _ in rows if left != right]
    dropped = {frozenset(one.texts) for one in contradicted(folder)}
    links = [link for link in links if frozenset(link) not in dropped]
    before = -1
    while len(measured) > before:
        before = len(measured)
        for link in links:
            if measured & set(link):
                measured |= set(link)
    assert not measured & {text for pair in kept for text in pair}


def contradicted(folder: Path) -> tuple[Dropped, ...]:
    """Return the pairs that are no links, since they are of no use."""
    return drop_contradictions(read_pairs(folder / "pairs.tsv")).dropped


def test_the_summary_is_what_data_json_says(tmp_path: Path) -> None:
    """Counts of what is trained on, of what was dropped and why, and examples of it."""
    dev = table(tmp_path / "asked.tsv", [("x", "y", 1), ("y", "z", 0)])
    rows = [*chain("a"), *chain("b"), ("a 1", "a 3", 0), ("", "w", 1), ("b 2", "b 1", 1)]
    summary = prepared(tmp_path, rows, dev=(dev,)).summary
    assert json.loads(json.dumps(summary)) == summary
    (file,) = summary.pop("files")
    assert (file["path"], len(file["sha256"])) == ("pairs.tsv", 64)
    assert summary.pop("dev_files") == [
        {"path": "asked.tsv", "sha256": hashlib.sha256(dev.read_bytes()).hexdigest()}
    ]
    assert summary == {
        "pairs": 6,
        "positives": 4,
        "negatives": 2,
        "texts": 8,
        "groups": 2,
        "largest_group": 3,
        "linked_to_dev": 0,
        "dropped": {"blank": 1, "repeated": 1, "contradiction": 1},
        "dropped_examples": [
            {"reason": "blank", "file": "pairs.tsv", "line": 9, "texts": ["", "w"]},
            {"reason": "repeated", "file": "pairs.tsv", "line": 10, "texts": ["b 2", "b 1"]},
            {"reason": "contradiction", "file": "pairs.tsv", "line": 8, "texts": ["a 1", "a 3"]},
        ],
        "dev": {"asked": 2},
        "unlabelled": [],
    }


def test_some_of_the_pairs(tmp_path: Path) -> None:
    """At most as many duplicates as asked for, in whole pieces, so that no group is cut."""
    dev = table(tmp_path / "asked.tsv", [("x", "y", 1), ("y", "z", 0)])
    rows = [row for letter in "abcdefghij" for row in chain(letter)]
    found = prepared(tmp_path, rows, dev=(dev,), max_pairs=5).pairs
    letters = {left[0] for left, _, _ in told(found)}
    assert (int(found.labels.sum()), len(letters)) == (4, 2)
    assert told(found) == {row for letter in letters for row in chain(letter)}
    assert prepared(tmp_path, rows, dev=(dev,), max_pairs=5).pairs.texts == found.texts
    other = prepared(tmp_path, rows, dev=(dev,), max_pairs=5, seed=1).pairs
    assert other.texts != found.texts
    assert len(prepared(tmp_path, rows, dev=(dev,), max_pairs=20).pairs) == 30


def test_groups_are_those_of_the_pairs_that_are_left(tmp_path: Path) -> None:
    """One number a text; duplicates share it."""
    dev = table(tmp_path / "asked.tsv", [("x", "y", 1), ("y", "z", 0)])
    found = prepared(tmp_path, [*chain("a"), *chain("b")], dev=(dev,))
    assert len(found.groups) == len(found.pairs.texts) == 8
    same = found.groups[found.pairs.left] == found.groups[found.pairs.right]
    np.testing.assert_array_equal(same, found.pairs.labels)
    assert len(np.unique(components(found.pairs))) == 2


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        (
            [*chain("a")],
            {},
            "pairs.tsv: 3 pairs in 1 linked pieces leave nothing for the part 'dev'",
        ),
        (
            [("a", "b", 1), ("c", "d", 1), ("e", "f", 1)],
            {"dev_share": 0.4},
            "held-out: needs both duplicates and non-duplicates to measure and calibrate on; give",
        ),
        (
            [("a", "b", 1), ("b", "c", 1), ("a", "d", 0), *chain("e")],
            {"dev_share": 0.5, "max_pairs": 1},
            "pairs.tsv: 0 duplicate pairs are left to train on, at least 2 are needed",
        ),
    ],
)
def test_too_little_is_told(
    tmp_path: Path, rows: list[Row], settings: dict[str, Any], message: str
) -> None:
    """One line with a remedy, and nothing is written."""
    with pytest.raises(TrainingError, match=re.escape(message)) as error:
        prepared(tmp_path, rows, **settings)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.tsv"]


def test_original_needs_explicit_negatives(tmp_path: Path) -> None:
    """Of pairs without any, mining can find some."""
    dev = table(tmp_path / "asked.tsv", [("x", "y", 1), ("y", "z", 0)])
    rows: list[Row] = [("a", "b", 1), ("c", "d", 1)]
    with pytest.raises(TrainingError, match=r"loss: original needs .* give --mine 10"):
        prepared(tmp_path, rows, dev=(dev,), loss="original")
    assert len(prepared(tmp_path, rows, dev=(dev,), loss="original", mine=10).pairs) == 2


@pytest.mark.parametrize("max_pairs", [0, 5])
def test_everything_linked_to_the_dev_set_is_told(tmp_path: Path, max_pairs: int) -> None:
    """Then nothing is left to train on."""
    dev = table(tmp_path / "asked.tsv", [("a", "y", 1), ("y", "z", 0)])
    with pytest.raises(TrainingError, match=r"0 duplicate pairs are left to train on"):
        prepared(tmp_path, [("a", "b", 1), ("b", "c", 1)], dev=(dev,), max_pairs=max_pairs)


def test_two_dev_sets_of_one_name_are_told(tmp_path: Path) -> None:
    """Their figures could not be told apart."""
    (tmp_path / "other").mkdir()
    rows = [("x", "y", 1), ("y", "z", 0)]
    files = (table(tmp_path / "asked.tsv", rows), table(tmp_path / "other" / "asked.tsv", rows))
    with pytest.raises(TrainingError, match="dev: two of the files have the same name"):
        prepared(tmp_path, chain("a"), dev=files)


def test_a_dev_set_of_one_kind_is_told(tmp_path: Path) -> None:
    """By name."""
    dev = table(tmp_path / "asked.tsv", [("x", "y", 1)])
    with pytest.raises(TrainingError, match=r"^asked: needs both duplicates and non-duplicates"):
        prepared(tmp_path, [*chain("a"), *chain("b")], dev=(dev,))


def test_pairs_that_are_not_natural_measure_nothing_and_are_not_trained_on(tmp_path: Path) -> None:
    """Of a dev set with both, the natural ones measure; texts of either are kept apart."""
    dev = tmp_path / "asked.tsv"
    dev.write_text("text1\ttext2\tlabel\tnatural\nx\ty\t1\t1\ny\tz\t0\t1\na 2\tw\t0\t0\n")
    found = prepared(tmp_path, [*chain("a"), *chain("b")], dev=(dev,))
    assert told(found.calibration_pairs) == {("x", "y", 1), ("y", "z", 0)}
    assert told(found.pairs) == set(chain("b"))


@pytest.mark.parametrize(
    ("changed", "before", "after"),
    [("asked.tsv", "z", "w"), ("texts.txt", "two", "ten"), ("pairs.tsv", "b 3", "b 4")],
)
def test_a_run_is_not_gone_on_with_on_other_texts(
    tmp_path: Path, changed: str, before: str, after: str
) -> None:
    """The vectors kept of the unlabelled texts, and what was measured, would be of others."""
    dev = table(tmp_path / "asked.tsv", [("x", "y", 1), ("y", "z", 0)])
    texts = tmp_path / "texts.txt"
    texts.write_text("one\ntwo\n")
    rows = [*chain("a"), *chain("b")]
    given: dict[str, Any] = {"dev": (dev,), "unlabelled": texts}
    first = prepared(tmp_path, rows, **given)
    config = TrainConfig(output=tmp_path / "run", pairs=(tmp_path / "pairs.tsv",), **given)
    run.start(config, first.summary)
    run.start(config, prepare(config).summary)
    file = tmp_path / changed
    file.write_text(file.read_text().replace(before, after))
    with pytest.raises(TrainingError, match=r"data\.json: the files have changed since the run"):
        run.start(config, prepare(config).summary)
