"""Labelled pairs, groups and texts are read whole, or refused with the line."""

import gzip
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from app.importing.rows import LONGEST_TEXT
from training.data import (
    Dropped,
    Pairs,
    Source,
    count_dropped,
    file_kind,
    read_groups,
    read_natural_pairs,
    read_pairs,
    read_texts,
)
from training.errors import PairsError, TrainingError
from training.tables import KINDS

HEADER = "id1\tid2\ttext1\ttext2\tlabel\tnatural\n"
ROWS = (
    "1\t2\tHow old are you?\tWhat is your age?\t1\t1\n"
    '1\t3\tHow old are you?\tWhat is "age"?\t0\t1\n'
    "4\t5\tWho is it?\tWho's there?\t1\t0\n"
)
PLAIN = "text1\ttext2\tlabel\n"
LONG = "x" * (LONGEST_TEXT + 1)


def written(path: Path, text: str) -> Path:
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def listed(pairs: Pairs) -> list[tuple[str, str, bool]]:
    ends = zip(pairs.left.tolist(), pairs.right.tolist(), pairs.labels.tolist(), strict=True)
    return [(pairs.texts[left], pairs.texts[right], label) for left, right, label in ends]


def test_pairs_come_over_their_distinct_texts(tmp_path: Path) -> None:
    """Texts are shared between pairs, quotes untouched; each pair knows its line and file."""
    path = written(tmp_path / "pairs.tsv.gz", HEADER + ROWS)
    pairs = read_pairs(path)
    assert pairs.texts == (
        "How old are you?",
        "What is your age?",
        'What is "age"?',
        "Who is it?",
        "Who's there?",
    )
    np.testing.assert_array_equal(pairs.left, [0, 0, 3])
    np.testing.assert_array_equal(pairs.right, [1, 2, 4])
    np.testing.assert_array_equal(pairs.labels, [True, False, True])
    np.testing.assert_array_equal(pairs.natural, [True, True, False])
    assert pairs.left.dtype == pairs.right.dtype == np.int64
    assert [pairs.origin(pair) for pair in range(3)] == [(path, 2), (path, 3), (path, 4)]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert pairs.fingerprint == digest
    assert pairs.sources == (Source(path, digest),)
    assert len(pairs) == 3
    assert pairs.dropped == ()


def test_only_natural_pairs_come_when_asked(tmp_path: Path) -> None:
    """What measures is drawn at the natural base rate, and of both kinds."""
    path = written(tmp_path / "pairs.tsv.gz", HEADER + ROWS)
    assert len(read_pairs(path, natural_only=True)) == 2
    assert read_natural_pairs(path).texts == (
        "How old are you?",
        "What is your age?",
        'What is "age"?',
    )
    one_kind = written(tmp_path / "one.tsv", PLAIN + "a\tb\t1\n")
    with pytest.raises(PairsError, match="needs both duplicates and non-duplicates"):
        read_natural_pairs(one_kind)
    none = written(tmp_path / "none.tsv", HEADER + "4\t5\ta\tb\t1\t0\n")
    with pytest.raises(PairsError, match="has no natural pair"):
        read_natural_pairs(none)


def test_a_file_without_the_column_is_all_natural(tmp_path: Path) -> None:
    """A file that does not say which pairs are natural is taken whole."""
    path = written(tmp_path / "pairs.tsv", PLAIN + "a\tb\t1\na\tc\t0\n")
    np.testing.assert_array_equal(read_pairs(path).natural, [True, True])
    assert len(read_natural_pairs(path)) == 2


EXPECTED = [
    ("How old are you?", "What is your age?", True),
    ('Say "hi", please', "Greet me", False),
]
CSV = 'text1,text2,label\nHow old are you?,What is your age?,1\n\n"Say ""hi"", please",Greet me,0\n'
CSV_SEMICOLONS = (
    'text1;text2;label\nHow old are you?;What is your age?;1\n"Say ""hi"", please";"Greet me";0\n'
)
TSV = (
    "\ufefftext1\ttext2\tlabel\r\nHow old are you? \tWhat is your age?\t1\r\n"
    'Say "hi", please\t Greet me\t0\r\n'
)
FEEDBACK = (
    '{"text1": "How old are you?", "text2": "What is your age?", "label": 1, "by": "ann"}\n\n'
    '{"label": false, "text2": "Greet me", "text1": "Say \\"hi\\", please", "similarity": 0.5}\n'
)
QUORA = (
    "id,qid1,qid2,question1,question2,is_duplicate\n"
    "0,1,2,How old are you?,What is your age?,1\n"
    '1,3,4,"Say ""hi"", please",Greet me,0\n'
)
QUORA_TABS = (
    "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    "0\t1\t2\tHow old are you?\tWhat is your age?\t1\n"
    '1\t3\t4\t"Say ""hi"", please"\tGreet me\t0\n'
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.csv", CSV),
        ("P.CSV", "\ufeff" + CSV.replace("\n", "\r\n")),
        ("p.csv.gz", CSV),
        ("semicolons.csv", CSV_SEMICOLONS),
        ("tabs.csv", QUORA_TABS),
        ("p.tsv", TSV),
        ("p.jsonl", FEEDBACK),
        ("p.ndjson.gz", FEEDBACK),
        ("quora.csv", QUORA),
    ],
)
def test_every_kind_of_text_file_gives_the_same_pairs(tmp_path: Path, name: str, text: str) -> None:
    """Whatever the kind, the separator, the line ends and the names of the columns."""
    assert listed(read_pairs(written(tmp_path / name, text))) == EXPECTED


@pytest.mark.parametrize("labels", [[1, 0], [True, False], ["1", "0"], [1.0, 0.0]])
def test_parquet_gives_the_same_pairs(tmp_path: Path, labels: list[object]) -> None:
    """Whatever the type of the labels, with columns that mean nothing here."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    left, right, _ = zip(*EXPECTED, strict=True)
    columns = {"other": [[1], [2]], "label": labels, "text2": right, "text1": left}
    path = tmp_path / "pairs.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    pairs = read_pairs(path)
    assert listed(pairs) == EXPECTED
    assert pairs.origin(1) == (path, 2)


def test_a_bad_row_of_parquet_is_named_by_its_number(tmp_path: Path) -> None:
    """Rows count from 1; a file that is no Parquet at all is named as such."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "pairs.parquet"
    parquet.write_table(
        pyarrow.table({"text1": ["a", "b"], "text2": ["c", None], "label": [1, 0]}), path
    )
    with pytest.raises(PairsError) as caught:
        read_pairs(path)
    assert str(caught.value) == f"{path}, row 2: a text is None, not a string"
    assert caught.value.line == 2
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(PairsError, match="is not sound Parquet"):
        read_pairs(path)


def test_parquet_without_pyarrow_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only Parquet needs it, and the message says what to install or do instead."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = written(tmp_path / "pairs.parquet", "PAR1")
    with pytest.raises(TrainingError, match=r"needs pyarrow; install it .* or save the file as"):
        read_pairs(path)


def test_files_are_merged_over_one_table_of_texts(tmp_path: Path) -> None:
    """A text of two files is one; the fingerprint is of both files' bytes, in order."""
    one = written(tmp_path / "one.tsv", PLAIN + "a\tb\t1\n")
    two = written(tmp_path / "two.csv", "text1,text2,label\nb,c,1\na,b,1\n")
    pairs = read_pairs(one, two)
    assert listed(pairs) == [("a", "b", True), ("b", "c", True)]
    assert pairs.dropped == (Dropped("repeated", two, 3, ("a", "b")),)
    assert [pairs.origin(0), pairs.origin(1)] == [(one, 2), (two, 2)]
    both = one.read_bytes() + two.read_bytes()
    assert pairs.fingerprint == hashlib.sha256(both).hexdigest()
    assert read_pairs(two, one).fingerprint != pairs.fingerprint


def test_whatever_cannot_teach_is_dropped_listed_and_counted(tmp_path: Path) -> None:
    """Blank, over-long, self-pair, repetition, both labels: each with its line and its texts."""
    rows = (
        "What?\twhy\t1\n"
        " \twhy\t0\n"
        f"what\t{LONG}\t0\n"
        "WHAT?\twhat \t1\n"
        "Why?\twhat\t1\n"
        "what\twhy\t0\n"
        "p\tq\t0\n"
        "q\tp\t1\n"
    )
    path = written(tmp_path / "pairs.tsv", PLAIN + rows)
    pairs = read_pairs(path)
    assert listed(pairs) == [("What?", "why", True), ("p", "q", True)]
    assert pairs.origin(1) == (path, 9)
    assert pairs.dropped == (
        Dropped("blank", path, 3, ("", "why")),
        Dropped("over-long", path, 4, ("what", LONG)),
        Dropped("self-pair", path, 5, ("WHAT?", "what")),
        Dropped("repeated", path, 6, ("Why?", "what")),
        Dropped("contradiction", path, 7, ("what", "why")),
        Dropped("contradiction", path, 8, ("p", "q")),
    )
    assert count_dropped(pairs.dropped) == {
        "contradiction": 2,
        "blank": 1,
        "over-long": 1,
        "self-pair": 1,
        "repeated": 1,
    }


def test_the_longest_text_the_service_takes_is_kept(tmp_path: Path) -> None:
    """The limit itself is within the limit."""
    path = written(tmp_path / "pairs.tsv", PLAIN + f"a\t{LONG[1:]}\t1\n")
    assert len(read_pairs(path)) == 1


def test_a_pair_is_natural_if_any_of_its_rows_is(tmp_path: Path) -> None:
    """A repetition at the natural base rate is not lost with its row."""
    path = written(tmp_path / "pairs.tsv", HEADER + "1\t2\ta\tb\t1\t0\n1\t2\ta\tb\t1\t1\n")
    np.testing.assert_array_equal(read_pairs(path).natural, [True])


GROUPS = (
    "text\tlabel\n"
    "open the door\topen\n"
    "play a song\tplay\n"
    "door open please\topen\n"
    "Open the door!\topen\n"
    "let me in\topen\n"
    "music\tplay\n"
    "go\topen\n"
    "go\tplay\n"
    "what is love\tNO_NODES_DETECTED\n"
    "tell me\t\n"
    "stop\tstop\n"
    " \tstop\n"
)


def test_labelled_groups_become_chains_of_duplicates(tmp_path: Path) -> None:
    """Each text with the next of its label, none with another label's, none natural."""
    path = written(tmp_path / "intents.tsv", GROUPS)
    pairs = read_pairs(path)
    assert listed(pairs) == [
        ("open the door", "door open please", True),
        ("door open please", "let me in", True),
        ("play a song", "music", True),
    ]
    assert not pairs.natural.any()
    assert {(one.reason, one.line) for one in pairs.dropped} == {
        ("repeated", 5),
        ("contradiction", 8),
        ("contradiction", 9),
        ("unlabelled", 10),
        ("unlabelled", 11),
        ("alone", 12),
        ("blank", 13),
    }
    assert len(pairs.dropped) == 7
    kept = read_pairs(path, none_label="stop")
    assert ("unlabelled", 12) in {(one.reason, one.line) for one in kept.dropped}


def test_of_groups_in_splits_the_train_split_is_taken(tmp_path: Path) -> None:
    """What is there to measure on is not trained on."""
    text = "split,text,label\ntrain,a,1\ntest,b,1\ntrain,c,1\n"
    path = written(tmp_path / "intents.csv", text)
    pairs = read_pairs(path)
    assert listed(pairs) == [("a", "c", True)]
    assert pairs.dropped == (Dropped("other split", path, 3, ("b",)),)


def test_labelled_texts_come_as_they_stand(tmp_path: Path) -> None:
    """Repetitions and other splits stay; blank, over-long and unlabelled texts do not."""
    path = written(tmp_path / "intents.tsv", GROUPS + f"{LONG}\tstop\n")
    found = read_groups(path)
    assert found.texts[:4] == ("open the door", "play a song", "door open please", "Open the door!")
    assert found.labels[-2:] == ("NO_NODES_DETECTED", "stop")
    assert found.split == ()
    assert len(found) == 10
    assert [(one.reason, one.line) for one in found.dropped] == [
        ("unlabelled", 11),
        ("blank", 13),
        ("over-long", 14),
    ]
    assert found.fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()
    text = (
        '{"text": "a", "label": 3, "split": "train"}\n{"text": "b", "label": 4, "split": "test"}\n'
    )
    found = read_groups(written(tmp_path / "intents.jsonl", text))
    assert (found.labels, found.split) == (("3", "4"), ("train", "test"))
    last = found.take([False, True])
    assert (last.texts, last.labels, last.split) == (("b",), ("4",), ("test",))
    assert found.take([1, 0]).texts == ("b", "a")


def test_the_kind_of_a_file_is_seen_from_its_columns(tmp_path: Path) -> None:
    """Pairs under either name, or labelled groups; anything else is refused."""
    assert file_kind(written(tmp_path / "a.tsv", PLAIN)) == "pairs"
    assert file_kind(written(tmp_path / "b.csv", QUORA)) == "pairs"
    assert file_kind(written(tmp_path / "c.tsv", GROUPS)) == "groups"
    with pytest.raises(PairsError, match="text1, text2, label or text, label"):
        file_kind(written(tmp_path / "d.tsv", "a\tb\n"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.txt", "one\n\n two \nthree\n"),
        ("t.txt.gz", "one\n\n two \nthree\n"),
        ("t.tsv.gz", "source\ttext\nx\tone\nx\t\ny\ttwo\ny\tthree\n"),
        ("t.jsonl", '{"text": "one"}\n{"text": " two"}\n{"text": "three"}\n'),
    ],
)
def test_plain_texts_are_read_as_far_as_asked(tmp_path: Path, name: str, text: str) -> None:
    """Lines of a text file or the column `text` of another, blank ones passed over."""
    path = written(tmp_path / name, text)
    assert read_texts(path) == ["one", "two", "three"]
    assert read_texts(path, 2) == ["one", "two"]


READERS: list[Callable[[Path], object]] = [read_pairs, read_groups, read_texts]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.tsv", "there is no such file; check the path"),
        ("folder.tsv", "is a folder; give a file in it"),
        ("empty.csv", "is empty; it needs a header, or JSON objects, and rows"),
        ("zipped.jsonl.gz", "is empty; it needs a header, or JSON objects, and rows"),
        (
            "pairs.xlsx",
            f"its ending says no kind of file known here; it must be {KINDS}",
        ),
    ],
)
def test_what_cannot_be_read_is_one_line_with_the_remedy(
    tmp_path: Path, read: Callable[[Path], object], name: str, message: str
) -> None:
    """Missing, a folder, empty, of unknown kind: said at once, by every reader."""
    (tmp_path / "folder.tsv").mkdir()
    for each in ("empty.csv", "zipped.jsonl.gz"):
        written(tmp_path / each, "")
    written(tmp_path / "pairs.xlsx", "PK")
    with pytest.raises(PairsError) as caught:
        read(tmp_path / name)
    assert str(caught.value) == f"{tmp_path / name}: {message}"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", PLAIN, ": has a header and no rows; add rows below it"),
        (
            "a.tsv",
            PLAIN + "a\ta\t1\n",
            ": no pair is left to use (1 self-pair); add rows or mend these",
        ),
        (
            "a.tsv",
            "text1\ttext2\n",
            (
                ": needs the columns text1, text2, label or text, label; "
                "its first line names 'text1, text2'"
            ),
        ),
        (
            "a.tsv.gz",
            HEADER + ROWS + "6\t7\tonly\n",
            (
                ", line 5: has 3 columns, the header 6 "
                "(quotes mean nothing in a .tsv; if they should, name it .csv)"
            ),
        ),
        ("a.tsv", HEADER + ROWS + "6\t7\ta\tb\tyes\t1\n", ", line 5: label is 'yes', not 0 or 1"),
        ("a.tsv", HEADER + ROWS + "6\t7\ta\tb\t1\t\n", ", line 5: natural is '', not 0 or 1"),
        ("a.csv", CSV + "a,b\n", ", line 5: has 2 columns, the header 3"),
        (
            "a.csv",
            'text1,text2,label\n"two\nlines",b,1\na,b,2\n',
            ", line 4: label is '2', not 0 or 1",
        ),
        (
            "a.csv",
            CSV + 'a,"b,1\nc,d,0\n',
            ", line 5: is not CSV (unexpected end of data); look for a quote that is not closed",
        ),
        ("a.jsonl", FEEDBACK + '{"text1": "a", "text2": "b"}\n', ", line 4: has no 'label'"),
        ("a.jsonl", FEEDBACK + "[1]\n", ", line 4: is not a JSON object"),
        (
            "a.jsonl",
            FEEDBACK + '{"text1": 5, "text2": "b", "label": 1}\n',
            ", line 4: a text is 5, not a string",
        ),
        (
            "a.jsonl",
            FEEDBACK + '{"text1": "a", "text2": "b", "label": null}\n',
            ", line 4: label is None, not 0 or 1",
        ),
        (
            "a.jsonl",
            FEEDBACK + '{"text1": "a\\ud83d", "text2": "b", "label": 1}\n',
            ", line 4: 'text1' holds half of a surrogate pair",
        ),
    ],
)
def test_a_malformed_file_is_refused_with_the_line(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    """What is wrong, and on which line, is said."""
    path = written(tmp_path / name, text)
    with pytest.raises(PairsError) as caught:
        read_pairs(path)
    assert str(caught.value) == f"{path}{message}"


def test_broken_json_is_named_by_its_line(tmp_path: Path) -> None:
    """The decoder's own words follow the line."""
    path = written(tmp_path / "a.jsonl", FEEDBACK + '{"text1": \n')
    with pytest.raises(PairsError, match=r"line 4: is not JSON \(Expecting value"):
        read_pairs(path)


def test_bytes_that_are_no_text_are_named_by_their_line(tmp_path: Path) -> None:
    """Latin-1, and gzip under a name that does not say so."""
    path = tmp_path / "latin.tsv"
    path.write_bytes((PLAIN + "a\tb\t1\ncafé\tbar\t0\n").encode("latin-1"))
    with pytest.raises(PairsError, match=r"latin.tsv, line 3: is not UTF-8 text"):
        read_pairs(path)
    path.write_bytes(gzip.compress(PLAIN.encode()))
    with pytest.raises(PairsError, match=r"is gzipped; add .gz to its name"):
        read_pairs(path)


def test_damaged_gzip_is_named_by_the_line_it_breaks_at(tmp_path: Path) -> None:
    """Cut short, altered or not gzip at all: never half of the pairs."""
    rng = np.random.default_rng(1)
    rows = "".join(f"{a}\t{b}\t1\n" for a, b in rng.integers(0, 10**9, (5000, 2)).tolist())
    whole = gzip.compress((PLAIN + rows).encode())
    path = tmp_path / "pairs.tsv.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PairsError, match="is not sound gzip") as caught:
        read_pairs(path)
    assert caught.value.line is not None
    assert 1000 < caught.value.line < 4000
    path.write_bytes(whole[:-8] + bytes(8))
    with pytest.raises(PairsError, match="is not sound gzip"):
        read_pairs(path)
    path.write_bytes((PLAIN + rows).encode())
    with pytest.raises(PairsError, match=r"line 1: is not sound gzip"):
        read_pairs(path)


def test_taking_pairs_keeps_only_their_texts(tmp_path: Path) -> None:
    """By mask or by places, in the order asked for, with labels, lines and file."""
    path = written(tmp_path / "pairs.tsv", HEADER + ROWS)
    pairs = read_pairs(path)
    assert listed(pairs.take(pairs.labels)) == [
        ("How old are you?", "What is your age?", True),
        ("Who is it?", "Who's there?", True),
    ]
    last_first = pairs.take([2, 1])
    assert listed(last_first) == [
        ("Who is it?", "Who's there?", True),
        ("How old are you?", 'What is "age"?', False),
    ]
    assert last_first.texts == ("How old are you?", 'What is "age"?', "Who is it?", "Who's there?")
    assert [last_first.origin(0), last_first.origin(1)] == [(path, 4), (path, 3)]
    np.testing.assert_array_equal(last_first.natural, [False, True])
    none = pairs.take([])
    assert (len(none), none.texts, none.left.dtype) == (0, (), np.dtype(np.int64))


def test_what_json_says_survives_as_it_is(tmp_path: Path) -> None:
    """Tabs, line ends and letters beyond the basic plane inside a text are kept."""
    text = "a\ttab,\nanother line and 😀"
    path = written(tmp_path / "p.jsonl", json.dumps({"text1": text, "text2": "b", "label": True}))
    assert listed(read_pairs(path)) == [(text, "b", True)]
