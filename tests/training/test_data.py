"""Labelled pairs are read whole, or refused with the line."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from training.data import read_pairs
from training.errors import PairsError

HEADER = "id1\tid2\ttext1\ttext2\tlabel\tnatural\n"
ROWS = (
    "1\t2\tHow old are you?\tWhat is your age?\t1\t1\n"
    '1\t3\tHow old are you?\tWhat is "age"?\t0\t1\n'
    "4\t5\tWho is it?\tWho's there?\t1\t0\n"
)


def written(path: Path, text: str) -> Path:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write(text)
    return path


def test_natural_pairs_are_kept_and_texts_shared(tmp_path: Path) -> None:
    """Only pairs at the natural base rate come back, over distinct texts, quotes untouched."""
    path = written(tmp_path / "pairs.tsv.gz", HEADER + ROWS)
    pairs = read_pairs(path)
    assert pairs.texts == ("How old are you?", "What is your age?", 'What is "age"?')
    np.testing.assert_array_equal(pairs.left, [0, 0])
    np.testing.assert_array_equal(pairs.right, [1, 2])
    np.testing.assert_array_equal(pairs.labels, [True, False])
    assert pairs.fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(pairs) == 2


def test_all_pairs_come_back_when_asked(tmp_path: Path) -> None:
    """With `natural_only` off, the added positives count too."""
    path = written(tmp_path / "pairs.tsv.gz", HEADER + ROWS)
    assert len(read_pairs(path, natural_only=False)) == 3


def test_a_file_without_the_column_is_taken_whole(tmp_path: Path) -> None:
    """A file that does not say which pairs are natural is all natural."""
    text = "text1\ttext2\tlabel\na\tb\t1\na\tc\t0\n"
    assert len(read_pairs(written(tmp_path / "pairs.tsv.gz", text))) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": is empty"),
        ("text1\ttext2\n", ", line 1: has no column 'label'"),
        (HEADER + ROWS + "6\t7\tonly\n", ", line 5: has 3 columns, the header 6"),
        (HEADER + ROWS + "6\t7\ta\tb\tyes\t1\n", ", line 5: label is 'yes', not 0 or 1"),
        (HEADER + "1\t2\ta\tb\t1\t1\n", ": needs both duplicates and non-duplicates"),
    ],
)
def test_a_malformed_file_is_refused_with_the_line(tmp_path: Path, text: str, message: str) -> None:
    """What is wrong, and on which line, is said."""
    path = written(tmp_path / "pairs.tsv.gz", text)
    with pytest.raises(PairsError) as caught:
        read_pairs(path)
    assert str(caught.value) == f"{path}{message}"


def test_a_missing_or_uncompressed_file_is_refused(tmp_path: Path) -> None:
    """A path with nothing there, or with plain text, is named."""
    with pytest.raises(PairsError, match="there is no such file"):
        read_pairs(tmp_path / "gone.tsv.gz")
    (tmp_path / "plain.tsv.gz").write_text(HEADER + ROWS)
    with pytest.raises(PairsError, match="cannot be read as gzipped UTF-8 text"):
        read_pairs(tmp_path / "plain.tsv.gz")
