"""Tasks against figures worked out by hand; the command, its cache and its errors."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.encoders.artifact import SHIPPED, load_artifact
from training.data import LabelledTexts, Pairs, read_pairs
from training.devsets import read_retrieval, read_set, set_name
from training.errors import PairsError, TrainingError
from training.evaluate import evaluate, main
from training.metrics import average_precision
from training.retrieval import Retrieval, evaluate_retrieval, retrieval_of
from training.speed import evaluate_speed
from training.tasks import CURVE_POINTS, evaluate_one_shot, evaluate_pairs

ARTIFACT = "all-minilm-l6-v2"
SETS = {
    "pets.tsv": "text1\ttext2\tlabel\n"
    "How do I bathe a cat?\tWhat is the way to wash a cat?\t1\n"
    "How do I bathe a cat?\tHow do I bake a cake?\t0\n"
    "Why does my dog bark?\tWhat makes a dog bark?\t1\n"
    "Why does my dog bark?\tWhy does my car smoke?\t0\n",
    "shop.tsv": "split\ttext\tlabel\n"
    "train\tWhere is my parcel?\tdelivery\n"
    "train\tI forgot my password\tlogin\n"
    "test\tMy parcel has not come\tdelivery\n"
    "test\tReset my password please\tlogin\n"
    "test\tDo you like jazz?\tNO_NODES_DETECTED\n"
    "test\t \tlogin\n",
}


class Table:
    """An encoder whose vectors are given, and that counts how often it is used."""

    name = "table"
    fingerprint = "f" * 64

    def __init__(self, vectors: Mapping[str, Sequence[float]]) -> None:
        self.vectors = vectors
        self.used = 0

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return the vectors that were given."""
        self.used += 1
        return np.array([self.vectors[text] for text in texts], dtype=np.float32)


def angles(**degrees: float) -> Table:
    """Return an encoder into the plane: texts and the direction of each."""
    turned = {text: np.deg2rad(value) for text, value in degrees.items()}
    return Table({text: (np.cos(value), np.sin(value)) for text, value in turned.items()})


def pairs_of(*rows: tuple[str, str, int]) -> Pairs:
    texts = tuple(dict.fromkeys(text for row in rows for text in row[:2]))
    places = [[texts.index(text) for text in row[:2]] for row in rows]
    return Pairs(
        texts=texts,
        left=np.array([left for left, _ in places]),
        right=np.array([right for _, right in places]),
        labels=np.array([bool(row[2]) for row in rows]),
        natural=np.ones(len(rows), dtype=np.bool_),
        fingerprint="",
    )


def labelled(*rows: tuple[str, str, str]) -> LabelledTexts:
    """Return texts out of (split, text, label)."""
    split, texts, labels = zip(*rows, strict=True)
    return LabelledTexts(texts, labels, split if any(split) else (), "")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    for name, content in SETS.items():
        (tmp_path / name).write_text(content)
    return {name.split(".")[0]: tmp_path / name for name in SETS}


def test_pairs_are_told_apart_by_similarity() -> None:
    """Duplicates 10 and 50 degrees apart, others 30 and 90: hits at ranks 1 and 3."""
    encoder = angles(a=0, b=10, c=50, d=30, e=90)
    rows = ("a", "b", 1), ("a", "c", 1), ("a", "d", 0), ("a", "e", 0)
    assert evaluate_pairs(encoder, pairs_of(*rows)) == {
        "kind": "pairs",
        "pairs": 4,
        "duplicates": 0.5,
        "average_precision": 0.833333,
        "roc_auc": 0.75,
        "best_f1": 0.8,
        "accuracy": 0.75,
        "curve": {"recall": [0.5, 1.0], "precision": [1.0, 0.666667]},
    }


def test_a_long_curve_is_thinned_to_its_shape() -> None:
    """Of 1,000 duplicates 200 points are kept, the first and the last hit among them."""
    rng = np.random.default_rng(1)
    texts = [f"t{number}" for number in range(2001)]
    places = rng.permutation(2000)
    vectors = {"t0": (1.0, 0.0)}
    for text, place in zip(texts[1:], places, strict=True):
        vectors[text] = (float(np.cos(place / 2000)), float(np.sin(place / 2000)))
    labels = [int(number <= 1000) for number in range(1, 2001)]
    pairs = pairs_of(*(("t0", text, label) for text, label in zip(texts[1:], labels, strict=True)))
    found = evaluate_pairs(Table(vectors), pairs)
    similarities = [-place for place in places]
    assert found["average_precision"] == pytest.approx(
        average_precision(similarities, labels), abs=1e-3
    )
    recall, precision = found["curve"]["recall"], found["curve"]["precision"]
    assert len(recall) == len(precision) == CURVE_POINTS
    assert recall[-1] == 1.0
    assert np.all(np.diff(recall) > 0)
    area = float(np.sum(np.diff(recall, prepend=0.0) * precision))
    assert area == pytest.approx(found["average_precision"], abs=0.01)


def test_pairs_of_one_kind_are_refused() -> None:
    """Without non-duplicates there is nothing to tell apart."""
    with pytest.raises(TrainingError, match="need both duplicates and non-duplicates"):
        evaluate_pairs(angles(a=0, b=1), pairs_of(("a", "b", 1)))


def test_anchors_come_from_train_and_questions_from_test() -> None:
    """Texts of other splits count for nothing, nor do questions of a class without an anchor."""
    encoder = angles(a=0, b=90, c=180, a1=10, a2=80, b1=70)
    texts = labelled(
        ("train", "a", "A"),
        ("train", "b", "B"),
        ("valid", "c", "A"),
        ("test", "a1", "A"),
        ("test", "a2", "A"),
        ("test", "b1", "B"),
        ("test", "c", "C"),
    )
    found = evaluate_one_shot(encoder, texts, draws=3)
    assert found == {
        "kind": "one_shot",
        "classes": 2,
        "questions": 3,
        "accuracy": {"mean": 0.666667, "std": 0.0, "draws": [0.666667] * 3},
        "open_set_auroc": None,
    }


def test_without_a_split_the_anchor_itself_is_not_asked() -> None:
    """Were anchors among the questions, each would find itself: here nothing finds its class.

    All six texts are at right angles, so every question takes the first label: one of three.
    """
    names = ["a1", "a2", "b1", "b2", "c1", "c2"]
    vectors = {name: np.eye(6)[place].tolist() for place, name in enumerate(names)}
    texts = labelled(*(("", name, name[0]) for name in names))
    found = evaluate_one_shot(Table(vectors), texts, draws=4)
    assert found["questions"] == 3
    assert found["accuracy"]["draws"] == [0.333333] * 4


def test_draws_are_seeded_and_their_spread_is_that_of_a_sample() -> None:
    """A seed gives the same draws again, further ones follow, another seed gives others."""
    rng = np.random.default_rng(3)
    names = [f"{label}{number}" for label in "abcd" for number in range(30)]
    vectors = {name: rng.normal(size=3).tolist() for name in names}
    texts = labelled(*(("", name, name[0]) for name in names))
    three = evaluate_one_shot(Table(vectors), texts, draws=3, seed=1)["accuracy"]
    ten = evaluate_one_shot(Table(vectors), texts, draws=10, seed=1)["accuracy"]
    other = evaluate_one_shot(Table(vectors), texts, draws=10, seed=2)["accuracy"]
    assert ten["draws"][:3] == three["draws"]
    assert ten["draws"] != other["draws"]
    assert len(set(ten["draws"])) > 1
    assert ten["mean"] == pytest.approx(np.mean(ten["draws"]), abs=1e-6)
    assert ten["std"] == pytest.approx(np.std(ten["draws"], ddof=1), abs=1e-6)


def test_texts_of_no_class_are_told_by_a_low_best_similarity() -> None:
    """Nearest anchors at 10 and 40 degrees against 30 and 60: three of four pairs in order."""
    encoder = angles(a=0, b=180, a1=10, b1=140, n0=5, n1=30, n2=120)
    texts = labelled(
        ("train", "a", "A"),
        ("train", "b", "B"),
        ("train", "n0", "none"),
        ("test", "a1", "A"),
        ("test", "b1", "B"),
        ("test", "n1", "none"),
        ("test", "n2", "none"),
    )
    found = evaluate_one_shot(encoder, texts, draws=2, none_label="none")
    assert found["classes"] == 2
    assert found["questions"] == 2
    assert found["accuracy"]["mean"] == 1.0
    assert found["open_set_auroc"] == {"mean": 0.75, "std": 0.0, "draws": [0.75, 0.75]}


def test_one_class_or_no_question_is_refused() -> None:
    """There must be classes to choose from, and something to ask."""
    encoder = angles(a=0, b=90)
    with pytest.raises(TrainingError, match="needs two classes"):
        evaluate_one_shot(encoder, labelled(("", "a", "A"), ("", "b", "A")))
    with pytest.raises(TrainingError, match="no questions besides the anchors"):
        evaluate_one_shot(encoder, labelled(("", "a", "A"), ("", "b", "B")))


def test_a_question_is_to_find_the_rest_of_its_group() -> None:
    """Chains of duplicates are one group; what has no duplicate is in the corpus only."""
    pairs = pairs_of(("a", "b", 1), ("b", "c", 1), ("d", "e", 1), ("a", "f", 0))
    found = retrieval_of(pairs, ["g", "A?", "a ", "G!", "h"])
    assert found.texts == ("a", "b", "c", "d", "e", "f", "g", "h")
    np.testing.assert_array_equal(found.queries, [0, 1, 2, 3, 4])
    assert len(set(found.group[:3])) == len(set(found.group[3:5])) == 1
    assert found.group[0] != found.group[3]
    np.testing.assert_array_equal(found.group[5:], [-1, -1, -1])


def test_retrieval_by_hand() -> None:
    """From a and b the rest of {a, b, c} is at ranks 2 and 7, from c at 5 and 7; d and e find
    each other first.

    From a, by angle: f 4, b 10, d 90, e 91, g 100, h 130, c 180; from b: f 6, a 10, d 80, e 81,
    g 90, h 140, c 170; from c: h 50, g 80, e 89, d 90, b 170, f 176, a 180.
    """
    encoder = angles(a=0, b=10, c=180, d=90, e=91, f=4, g=100, h=230)
    pairs = pairs_of(("a", "b", 1), ("b", "c", 1), ("d", "e", 1))
    found = evaluate_retrieval(encoder, retrieval_of(pairs, "fgh"))
    gain = {rank: 1 / np.log2(1 + rank) for rank in (1, 2, 5, 7)}
    ideal = gain[1] + gain[2]
    assert found == {
        "kind": "retrieval",
        "queries": 5,
        "corpus": 8,
        "ndcg@10": pytest.approx(
            ((2 * (gain[2] + gain[7]) + gain[5] + gain[7]) / ideal + 1 + 1) / 5, abs=1e-6
        ),
        "mrr@10": pytest.approx((1 / 2 + 1 / 2 + 1 / 5 + 1 + 1) / 5),
        "map@100": pytest.approx(
            (2 * (1 / 2 + 2 / 7) / 2 + (1 / 5 + 2 / 7) / 2 + 1 + 1) / 5, abs=1e-6
        ),
        "recall@1": pytest.approx(2 / 5),
        "recall@10": 1.0,
    }


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), texts=st.integers(4, 300))
def test_the_search_is_exact(seed: int, texts: int) -> None:
    """Whatever the vectors and groups, the figures are those of sorting all similarities."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(texts, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    component = rng.integers(0, max(2, texts // 3), texts)
    component[:2] = 0
    queries = np.flatnonzero(np.bincount(component)[component] > 1)
    group = np.full(texts, -1)
    group[queries] = component[queries]
    names = tuple(f"t{place}" for place in range(texts))
    encoder = Table(dict(zip(names, vectors.tolist(), strict=True)))
    found = evaluate_retrieval(encoder, Retrieval(names, queries, group))
    reciprocal, recalls = [], []
    for query in queries:
        order = np.argsort(-(vectors @ vectors[query]), kind="stable")
        hits = component[order[order != query]] == component[query]
        first = int(np.argmax(hits))
        reciprocal.append(1 / (first + 1) if first < 10 else 0.0)
        recalls.append(hits[:10].sum() / hits.sum())
    assert found["mrr@10"] == pytest.approx(np.mean(reciprocal), abs=1e-5)
    assert found["recall@10"] == pytest.approx(np.mean(recalls), abs=1e-5)


def test_texts_of_equal_vectors_do_not_shift_the_ranks() -> None:
    """Where 150 texts look alike, a question that is not among its own answers changes nothing."""
    names = tuple(f"t{place}" for place in range(150))
    encoder = Table(dict.fromkeys(names, (1.0, 0.0)))
    group = np.zeros(150, dtype=np.int64)
    found = evaluate_retrieval(encoder, Retrieval(names, np.arange(150), group))
    assert [found["ndcg@10"], found["map@100"], found["recall@1"]] == [1.0, 1.0, round(1 / 149, 6)]


def test_retrieval_without_duplicates_is_refused() -> None:
    """No text has anything to find."""
    with pytest.raises(TrainingError, match="needs pairs that are duplicates"):
        retrieval_of(pairs_of(("a", "b", 0)))


class Clocked(Table):
    """An encoder that takes a millisecond a token, and ten times that for its first calls."""

    def __init__(self, slow: int) -> None:
        super().__init__({})
        self.now = 0.0
        self.slow = slow

    def count_tokens(self, text: str) -> int:
        """Return the words and two special tokens."""
        return len(text.split()) + 2

    def encode_alone(self, text: str) -> None:
        """Let the time pass."""
        self.used += 1
        self.now += self.count_tokens(text) / 1e3 * (10 if self.used <= self.slow else 1)


def test_speed_is_the_median_after_a_warm_up() -> None:
    """Slow first calls do not show, and each length is asked with exactly its tokens."""
    encoder = Clocked(slow=60)
    found = evaluate_speed(encoder, calls=11, clock=lambda: encoder.now)
    assert found == {"5": 5.0, "13": 13.0, "40": 40.0}


def test_a_length_that_no_question_has_is_refused() -> None:
    """Two special tokens leave no question of two."""
    encoder = Clocked(slow=0)
    with pytest.raises(TrainingError, match="table: no question of 2 tokens can be made"):
        evaluate_speed(encoder, tokens=[2], clock=lambda: encoder.now)


def test_sets_are_known_by_their_columns_and_named_by_their_files(files: dict[str, Path]) -> None:
    """Pairs and labelled texts are told apart; what was left out is counted."""
    encoder = Table(dict.fromkeys(all_texts(files), (1.0, 0.0)))
    pets, shop = read_set(files["pets"]), read_set(files["shop"])
    assert [pets.name, shop.name] == ["pets", "shop"]
    assert pets.measure(encoder)["kind"] == "pairs"
    assert shop.measure(encoder)["kind"] == "one_shot"
    assert [pets.dropped, shop.dropped] == [{}, {"blank": 1}]
    assert set_name(Path("data/qqp/dev.tsv.gz")) == "qqp/dev"


def test_retrieval_searches_pairs_corpus_and_ballast(
    files: dict[str, Path], tmp_path: Path
) -> None:
    """Six texts of pairs, two of a file of pairs, one of a list, two of the ballast's three."""
    more = tmp_path / "more.csv"
    more.write_text("question1,question2,is_duplicate\nIs it far?,Is it long?,0\n")
    lines = tmp_path / "lines.txt"
    lines.write_text("Is it red?\n\nwhy does my dog bark\n")
    ballast = tmp_path / "ballast.tsv"
    ballast.write_text("source\ttext\nx\tIs it hot?\nx\tIs it wet?\nx\tIs it new?\n")
    found = read_retrieval([files["pets"]], corpus=[more, lines], ballast=ballast, ballast_count=2)
    texts = [*all_texts(files), "Is it far?", "Is it long?", "Is it red?", "Is it hot?"]
    encoder = Table(dict.fromkeys([*texts, "Is it wet?"], (1.0, 0.0)))
    figures = found.measure(encoder)
    assert found.name == "pets retrieval"
    assert [figures["queries"], figures["corpus"]] == [4, 11]


def all_texts(files: dict[str, Path]) -> Iterator[str]:
    yield from read_pairs(files["pets"]).texts
    for line in files["shop"].read_text().splitlines()[1:]:
        yield line.split("\t")[1]


def test_figures_are_kept_for_an_equal_encoder_and_set(
    files: dict[str, Path], tmp_path: Path
) -> None:
    """A second time nothing is encoded; a changed set, setting or encoder is measured."""
    encoder = Table(dict.fromkeys(all_texts(files), (1.0, 0.0)))
    cache = tmp_path / "kept"
    first = evaluate(encoder, [read_set(files["shop"])], cache=cache)
    assert encoder.used == 1
    assert evaluate(encoder, [read_set(files["shop"])], cache=cache) == first
    assert encoder.used == 1
    for number, changed in enumerate(({"draws": 3}, {"seed": 1}, {"none_label": "x"}), start=2):
        evaluate(encoder, [read_set(files["shop"], **changed)], cache=cache)  # type: ignore[arg-type]
        assert encoder.used == number
    files["shop"].write_text(SETS["shop.tsv"] + "test\tWhere is my parcel?\tdelivery\n")
    evaluate(encoder, [read_set(files["shop"])], cache=cache)
    assert encoder.used == 5
    encoder.fingerprint = "e" * 64
    evaluate(encoder, [read_set(files["shop"])], cache=cache)
    assert encoder.used == 6
    assert len(list(cache.iterdir())) == 6


def test_kept_figures_that_cannot_be_read_are_named(files: dict[str, Path], tmp_path: Path) -> None:
    """A damaged file is an error with its remedy, not a figure."""
    encoder = Table(dict.fromkeys(all_texts(files), (1.0, 0.0)))
    evaluate(encoder, [read_set(files["shop"])], cache=tmp_path / "kept")
    (kept,) = (tmp_path / "kept").iterdir()
    kept.write_text(kept.read_text()[:40])
    with pytest.raises(TrainingError, match=f"{kept.name}: no figures can be read from it; remove"):
        evaluate(encoder, [read_set(files["shop"])], cache=tmp_path / "kept")


def test_the_command_prints_a_table_and_writes_json(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every task's figures are in both; the table fits 100 columns."""
    output = tmp_path / "out" / "evaluation.json"
    sets = ["--sets", str(files["pets"]), str(files["shop"]), "--retrieval", str(files["pets"])]
    assert main([ARTIFACT, "--alone", *sets, "--speed", "--output", str(output)]) == 0
    shown = capsys.readouterr()
    assert shown.err == "shop: left out 1 blank\n"
    (found,) = json.loads(output.read_text())["encoders"]
    assert found["name"] == "all-minilm-l6-v2 int8"
    assert found["fingerprint"] == load_artifact(SHIPPED / ARTIFACT).fingerprint
    assert list(found["sets"]) == ["pets", "shop", "pets retrieval"]
    assert found["sets"]["pets"]["average_precision"] == 1.0
    assert found["sets"]["shop"]["accuracy"]["mean"] == 1.0
    assert found["sets"]["shop"]["open_set_auroc"]["mean"] == 1.0
    assert found["sets"]["pets retrieval"]["recall@1"] == 1.0
    assert list(found["speed"]) == ["5", "13", "40"]
    assert max(len(line) for line in shown.out.splitlines()) <= 100
    rows = [line.split() for line in shown.out.splitlines()]
    assert ["pets", "all-minilm-l6-v2", "int8", "4", *["100.0"] * 4] in rows
    assert "± 0.0" in shown.out
    assert "40 tokens" in shown.out


def test_an_encoder_is_measured_beside_the_base(
    files: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The base comes first and once; where the reference's weights are not, stderr says so."""
    monkeypatch.setenv("HOME", str(tmp_path))
    output = tmp_path / "evaluation.json"
    arguments = ["--sets", str(files["pets"]), "--output", str(output)]
    assert main(["all-MiniLM-L6-v2", ARTIFACT, *arguments]) == 0
    names = [one["name"] for one in json.loads(output.read_text())["encoders"]]
    assert names == ["all-MiniLM-L6-v2", "all-minilm-l6-v2 int8"]
    assert capsys.readouterr().err == (
        "note: measuring without all-mpnet-base-v2 (all-mpnet-base-v2: its weights are not in "
        f"{tmp_path}/.cache/deja/all-mpnet-base-v2; run python -m training.weights "
        "all-mpnet-base-v2)\n"
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("text1\ttext2\tlabel\na\tb\t2\n", "line 2: label is '2', not 0 or 1"),
        ("text1\ttext2\tlabel\na\tb\t1\n", "needs both duplicates and non-duplicates"),
        ("text\tlabel\na\tA\nb\tA\n", "needs two classes"),
    ],
)
def test_a_set_that_cannot_be_measured_is_named(
    content: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line on stderr says which and why, and no figures are written."""
    (tmp_path / "mine.tsv").write_text(content)
    output = tmp_path / "evaluation.json"
    arguments = ["--alone", "--sets", str(tmp_path / "mine.tsv"), "--output", str(output)]
    assert main([ARTIFACT, *arguments]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert "mine" in shown.err
    assert problem in shown.err
    assert shown.err.count("\n") == 1
    assert not output.exists()


def test_a_missing_file_is_named_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sets are read first, so the encoder that is not there either is not looked for."""
    assert main([str(tmp_path / "no-encoder"), "--sets", str(tmp_path / "gone.tsv")]) == 1
    assert "gone.tsv: there is no such file" in capsys.readouterr().err
    with pytest.raises(PairsError, match="no such file"):
        read_set(tmp_path / "gone.tsv")


def test_two_sets_of_one_name_are_refused(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of them would be lost from the figures."""
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "pets.tsv"
    other.write_text(SETS["pets.tsv"])
    assert main([ARTIFACT, "--alone", "--sets", str(files["pets"]), str(other)]) == 1
    assert capsys.readouterr().err == ("error: two sets are called pets; rename one of the files\n")


def test_figures_that_cannot_be_written_are_an_error(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file where a folder should be is named."""
    (tmp_path / "taken").write_text("")
    output = tmp_path / "taken" / "evaluation.json"
    arguments = ["--alone", "--sets", str(files["pets"]), "--output", str(output)]
    assert main([ARTIFACT, *arguments]) == 1
    assert f"{output}: cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([ARTIFACT], "nothing to measure"),
        (["--alone", "--speed"], "--alone needs an encoder"),
        ([ARTIFACT, "--speed", "--ballast", "x.tsv"], "are for --retrieval"),
        ([ARTIFACT, "--speed", "--draws", "0"], "invalid"),
    ],
)
def test_commands_that_make_no_sense_are_refused(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the usage, before anything is read."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert problem in capsys.readouterr().err
