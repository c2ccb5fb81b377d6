"""Losses are compared on one budget, every row a run of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.training.small_run import config, log, write_pairs
from training import run
from training.compare import compare, main
from training.config import TrainConfig, read_config
from training.encoders import load_encoder
from training.finish import measured
from training.prepare import prepare


@pytest.fixture(scope="module")
def chosen(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    return config(tmp_path_factory.mktemp("compared"), tiny_model_folder, steps=6, evaluate_every=3)


def test_every_row_is_a_run(chosen: TrainConfig) -> None:
    """Of the same settings but the loss; its figures are those of the model that it left."""
    file = compare(chosen, ("original", "full", "softmax"))
    assert file == chosen.output / "comparison.json"
    found = json.loads(file.read_text())
    assert [row["loss"] for row in found["rows"]] == ["original", "full", "softmax"]
    prepared = prepare(chosen)
    base = measured(load_encoder(chosen.base), chosen, prepared)
    for row in found["rows"]:
        folder = chosen.output / row["run"]
        made = read_config(folder / run.CONFIG, {})
        other = [] if row["loss"] == chosen.loss else ["loss"]
        assert made.differences(chosen) == ["output", *other]
        assert made.loss == row["loss"]
        model = load_encoder(str(folder / run.MODEL))
        assert row["sets"] == measured(model, chosen, prepared)
        assert row["base"] == base
        assert (row["steps"], log(folder)[-1]["step"]) == (6, 6)
    assert found["budget"]["steps"] == 6
    assert found["budget"]["pairs_a_batch"] == 8
    assert found["budget"]["seconds"] == max(row["seconds"] for row in found["rows"])
    losses = [
        [entry["loss"] for entry in log(chosen.output / loss) if "loss" in entry]
        for loss in ("original", "full", "softmax")
    ]
    assert len({each[0] for each in losses}) == 3


def test_what_is_done_is_not_done_again(chosen: TrainConfig) -> None:
    """A further loss is trained beside those that are there."""
    compare(chosen, ("full",))
    model = chosen.output / "full" / run.MODEL / "model.safetensors"
    before = model.stat().st_mtime_ns
    found = json.loads(compare(chosen, ("full", "mean_negative")).read_text())
    assert [row["loss"] for row in found["rows"]] == ["full", "mean_negative"]
    assert model.stat().st_mtime_ns == before


def test_the_ranking_is_left_out_of_every_row(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only some losses can have it beside them; said once, and the same command goes on."""
    chosen = config(tmp_path, tiny_model_folder, steps=2, evaluate_every=2, ranking=4.0)
    run.write_json(tmp_path / "recipe.json", chosen.model_dump(mode="json"))
    given = ["--config", str(tmp_path / "recipe.json"), "--losses", "original", "full"]
    for _ in range(2):
        assert main(given) == 0
        told = capsys.readouterr().err
        assert told.count("without the ranking (4)") == 1
    for loss in ("original", "full"):
        made = read_config(chosen.output / loss / run.CONFIG, {})
        assert (made.loss, made.ranking) == (loss, 0)
    found = json.loads((chosen.output / "comparison.json").read_text())
    assert found["left_out"] == {"ranking": 4.0}


def test_every_loss_is_checked_before_any_trains(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Settings that one of them cannot have, and a run that another one is."""
    chosen = config(tmp_path, tiny_model_folder, labelled_negatives=False)
    run.write_json(tmp_path / "recipe.json", chosen.model_dump(mode="json"))
    given = ["--config", str(tmp_path / "recipe.json"), "--losses", "full", "original"]
    assert main(given) == 1
    assert "loss: original needs explicit negatives (labelled" in capsys.readouterr().err
    assert not chosen.output.exists()
    other = chosen.changed(loss="softmax", seed=3, output=chosen.output / "softmax")
    run.start(other, {})
    assert main([*given[:3], "full", "softmax"]) == 1
    assert "cannot be resumed with other settings (seed)" in capsys.readouterr().err
    assert not (chosen.output / "full").exists()


def test_a_loss_that_the_pairs_cannot_serve_is_told_first(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """L_original without a non-duplicate is refused before the others have trained."""
    rows = [(f"how do i open {one}", f"way to open {one}", 1) for one in "abcdefgh"]
    pairs = write_pairs(tmp_path / "pairs.tsv", rows)
    dev = write_pairs(tmp_path / "asked.tsv", [("a", "b", 1), ("b", "c", 0)])
    given = ["--pairs", str(pairs), "--dev", str(dev), "--output", str(tmp_path / "compared")]
    assert main([*given, "--base", str(tiny_model_folder), "--losses", "full", "original"]) == 1
    assert capsys.readouterr().err.startswith("error: loss: original needs explicit negatives")
    assert not (tmp_path / "compared").exists()


def test_a_loss_that_there_is_not_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """With those that there are."""
    with pytest.raises(SystemExit):
        main(["--losses", "best"])
    assert "invalid choice: 'best'" in capsys.readouterr().err


def test_other_settings_are_refused(
    chosen: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows of two budgets are no comparison."""
    compare(chosen, ("full",))
    file = chosen.output / "full" / run.CONFIG
    given = ["--config", str(file), "--output", str(chosen.output), "--losses", "full"]
    assert main([*given, "--alpha", "0.5"]) == 1
    assert "cannot be resumed with other settings (alpha)" in capsys.readouterr().err
    assert main(given) == 0
    assert capsys.readouterr().out == f"{chosen.output / 'comparison.json'}: 1 losses compared\n"
