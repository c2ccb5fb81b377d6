"""The sample that tests and `make train` run on is what its README says."""

import tomllib
from collections import Counter
from pathlib import Path

import numpy as np

import training
from training.data import NONE_LABEL, read_groups, read_natural_pairs
from training.graph import components, drop_contradictions, groups, split

SAMPLE = Path(training.__file__).parent / "sample"


def test_the_pairs_are_sound() -> None:
    """None is dropped, none contradicts; 261 of 489 are duplicates, in groups of 2, 3 and 4."""
    pairs = read_natural_pairs(SAMPLE / "pairs.tsv")
    assert drop_contradictions(pairs).dropped == ()
    assert (len(pairs), int(pairs.labels.sum())) == (489, 261)
    assert Counter(np.bincount(groups(pairs)).tolist()) == {2: 163, 3: 17, 4: 16}


def test_every_group_has_a_hard_non_duplicate() -> None:
    """Each component holds two groups, close in wording, and non-duplicates between them."""
    pairs = read_natural_pairs(SAMPLE / "pairs.tsv")
    group, component = groups(pairs), components(pairs)
    assert Counter(component[np.unique(group, return_index=True)[1]].tolist()) == dict.fromkeys(
        range(98), 2
    )
    negative = ~pairs.labels
    contrasted = {*group[pairs.left[negative]].tolist(), *group[pairs.right[negative]].tolist()}
    assert contrasted == set(range(196))


def test_a_held_out_part_has_both_kinds() -> None:
    """Whatever the seed, a fifth is enough to measure on, and three tenths to calibrate on."""
    pairs = read_natural_pairs(SAMPLE / "pairs.tsv")
    for seed in range(5):
        fifth = split(pairs, {"train": 0.8, "dev": 0.2}, seed=seed)["dev"]
        assert (len(fifth), int(fifth.labels.sum())) == (98, 52)
        calibrating = split(pairs, {"train": 0.7, "dev": 0.3}, seed=seed)["dev"]
        assert (len(calibrating), int(calibrating.labels.sum())) == (144, 77)


def test_the_intents_are_a_one_shot_set() -> None:
    """Twelve intents of eight texts, ten texts of none, no text twice."""
    intents = read_groups(SAMPLE / "intents.tsv")
    assert intents.dropped == ()
    counts = Counter(intents.labels)
    assert counts.pop(NONE_LABEL) == 10
    assert list(counts.values()) == [8] * 12
    assert len({text.casefold() for text in intents.texts}) == len(intents)


def test_the_wheel_holds_the_sample() -> None:
    """It lies inside a package that is shipped whole."""
    root = SAMPLE.parent.parent
    wheel = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert SAMPLE.parent.name in wheel["targets"]["wheel"]["packages"]
    assert {path.name for path in SAMPLE.iterdir()} == {
        "README.md",
        "config.toml",
        "intents.tsv",
        "pairs.tsv",
    }
