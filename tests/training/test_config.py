"""Every setting is a flag; flags win over the file; what is wrong is one line with its remedy."""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import pytest

import training
from training.config import TrainConfig, add_flags, read_config
from training.errors import TrainingError

SAMPLE = Path(training.__file__).parent / "sample" / "config.toml"
# A value for each setting, as a command line gives it, and as the config then has it.
GIVEN: dict[str, tuple[list[str], Any]] = {
    "output": (["o"], Path("o")),
    "name": (["n"], "n"),
    "release": (["2"], "2"),
    "base": (["b"], "b"),
    "pairs": (["p.tsv", "q.csv"], (Path("p.tsv"), Path("q.csv"))),
    "max_pairs": (["9"], 9),
    "dev": (["d.tsv"], (Path("d.tsv"),)),
    "dev_share": (["0.2"], 0.2),
    "dev_limit": (["50"], 50),
    "none_label": (["none"], "none"),
    "population": (["asked"], "asked"),
    "terms": (["free"], "free"),
    "loss": (["softmax"], "softmax"),
    "alpha": (["0.5"], 0.5),
    "closest": (["semi-hard"], "semi-hard"),
    "mean_weight": (["2"], 2.0),
    "closest_weight": (["3"], 3.0),
    "scale": (["30"], 30.0),
    "ranking": (["2"], 2.0),
    "labelled_negatives": ([], True),
    "lone_negatives": ([], True),
    "mine": (["4"], 4),
    "mine_margin": (["0.1"], 0.1),
    "mine_every": (["5"], 5),
    "hard": (["0.25"], 0.25),
    "unlabelled": (["u.txt"], Path("u.txt")),
    "unlabelled_a_step": (["8"], 8),
    "unlabelled_limit": (["99"], 99),
    "stay_close": (["0.5"], 0.5),
    "teacher": (["t"], "t"),
    "teacher_share": (["0.5"], 0.5),
    "blend": (["0.5"], 0.5),
    "whiten": (["0.2"], 0.2),
    "batch": (["32"], 32),
    "accumulate": (["2"], 2),
    "epochs": (["1.5"], 1.5),
    "steps": (["7"], 7),
    "learning_rate": (["1e-4"], 1e-4),
    "warmup": (["0"], 0.0),
    "weight_decay": (["0"], 0.0),
    "dropout": (["0"], 0.0),
    "freeze_embeddings": ([], True),
    "mixed_precision": (["bf16"], "bf16"),
    "device": (["cpu"], "cpu"),
    "threads": (["2"], 2),
    "seed": (["3"], 3),
    "log_every": (["6"], 6),
    "evaluate_every": (["8"], 8),
    "patience": (["2"], 2),
    "precision": (["fp32"], "fp32"),
    "largest_loss": (["1"], 1.0),
    "corpus": (["c.tsv"], (Path("c.tsv"),)),
    "corpus_limit": (["100"], 100),
    "beside": (["m", "n"], ("m", "n")),
    "install": (["i"], Path("i")),
}


def parse(*arguments: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return vars(parser.parse_args(arguments))


def flag(setting: str) -> str:
    return "--" + setting.replace("_", "-")


def test_every_setting_is_a_flag() -> None:
    """Given all of them, each arrives in the config as what it is."""
    assert set(GIVEN) == set(TrainConfig.model_fields)
    line = [word for setting, (values, _) in GIVEN.items() for word in (flag(setting), *values)]
    config = read_config(None, parse(*line))
    assert {name: getattr(config, name) for name in GIVEN} == {
        name: value for name, (_, value) in GIVEN.items()
    }


def test_a_switch_can_be_turned_off() -> None:
    """Those that are on by default too."""
    flags = parse("--no-lone-negatives", "--no-labelled-negatives", "--output=o", "--pairs=p")
    config = read_config(None, flags)
    assert (config.lone_negatives, config.labelled_negatives) == (False, False)


def test_what_is_not_given_is_not_parsed() -> None:
    """So that a default never wins over the file."""
    assert parse() == {}
    assert parse("--batch", "3") == {"batch": "3"}


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    """The rest stays as the file has it."""
    file = tmp_path / "c.toml"
    file.write_text('output = "o"\npairs = ["p.tsv"]\nbatch = 8\nalpha = 0.3\n')
    config = read_config(file, parse("--batch", "16"))
    assert (config.batch, config.alpha) == (16, 0.3)


def test_paths_are_relative_to_where_they_are_written(tmp_path: Path) -> None:
    """Of a file to its folder, a single one or several; of flags to the working directory."""
    file = tmp_path / "c.toml"
    file.write_text(
        'output = "o"\npairs = "p.tsv"\ndev = ["a/d.tsv", "/e.tsv"]\nbase = "models/b"\n'
    )
    config = read_config(file, parse("--unlabelled", "u.txt"))
    assert config.output == tmp_path / "o"
    assert config.pairs == (tmp_path / "p.tsv",)
    assert config.dev == (tmp_path / "a" / "d.tsv", Path("/e.tsv"))
    assert config.unlabelled == Path("u.txt")
    assert config.base == "models/b"
    assert config.install is None


def test_a_saved_config_is_read_back(tmp_path: Path) -> None:
    """As JSON with paths relative to the run, from anywhere; nothing differs."""
    config = TrainConfig(
        output=tmp_path / "run",
        pairs=(tmp_path / "data" / "p.tsv",),
        install=tmp_path / "encoders",
        beside=("a", "b"),
        mine=5,
    )
    config.output.mkdir()
    file = config.output / "config.json"
    file.write_text(json.dumps(config.saved()))
    assert json.loads(file.read_text())["pairs"] == ["../data/p.tsv"]
    again = read_config(file, {})
    assert again.differences(config) == []
    assert config.differences(again.model_copy(update={"mine": 6, "name": "x"})) == ["name", "mine"]


def test_the_sample_is_a_config() -> None:
    """All it lacks is where to write."""
    config = read_config(SAMPLE, {"output": "o"})
    assert config.pairs == (SAMPLE.parent / "pairs.tsv",)
    assert all(path.is_file() for path in (*config.pairs, *config.dev))
    with pytest.raises(TrainingError, match="output: is needed; give --output"):
        read_config(SAMPLE, {})


BASIS = 'output = "o"\npairs = ["p.tsv"]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('pairs = ["p"]', "output: is needed; give --output or set it in a config file"),
        ('output = "o"', "pairs: is needed; give --pairs or set it in a config file"),
        (BASIS + "batches = 3", "batches: there is no such setting"),
        (BASIS + 'batch = "many"', "batch: Input should be a valid integer"),
        (BASIS + "batch = 1", "batch: Input should be greater than or equal to 2"),
        (BASIS + 'loss = "best"', "loss: Input should be 'full', 'mean_negative'"),
        (BASIS + 'name = "a b"', "name: String should match pattern"),
        (BASIS + "pairs = [", "is malformed"),
        ("output = o", "is malformed"),
        (BASIS + 'teacher = "t"', "teacher: needs unlabelled texts to learn on"),
        (
            BASIS + 'loss = "original"\nlabelled_negatives = false',
            "loss: original needs explicit negatives",
        ),
        (BASIS + "ranking = 1\nlabelled_negatives = false", "ranking: needs explicit negatives"),
        (BASIS + 'ranking = 1\nloss = "original"', "ranking: joins a loss over the batch"),
        ('output = "o"\npairs = []', "pairs: Tuple should have at least 1 item"),
        ('output = "o"\npairs = [1]', "pairs.0: Input is not a valid path"),
    ],
)
def test_a_mistake_in_a_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    """It names the file, the setting and what is wrong with it."""
    file = tmp_path / "c.toml"
    file.write_text(text)
    with pytest.raises(TrainingError) as error:
        read_config(file, {})
    assert str(error.value).startswith(f"{file}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_mistake_in_a_flag_is_one_line() -> None:
    """It names the setting; no file is to blame."""
    with pytest.raises(TrainingError, match=r"^batch: Input should be a valid integer"):
        read_config(None, {"output": "o", "pairs": ["p"], "batch": "x"})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.toml", None, "there is no such config file"),
        ("list.json", b"[1]", "must hold settings by name"),
        ("broken.json", b'{"output": ', "is malformed"),
        ("latin.toml", b'name = "\xe9"', "cannot be read"),
    ],
)
def test_a_file_that_is_no_config_is_one_line(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    """Missing, of another kind, cut off or not UTF-8."""
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(TrainingError, match=re.escape(f"{file}: {message}")) as error:
        read_config(file, {})
    assert "\n" not in str(error.value)


def test_help_tells_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    """With its default, where it has one."""
    with pytest.raises(SystemExit):
        parse("--help")
    told = " ".join(capsys.readouterr().out.split())
    assert all(flag(setting) in told for setting in GIVEN)
    assert "Duplicate pairs in a batch, over all processes. (64)" in told
