"""How far to go from the base: every share measured between the base and the tuned model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.training.small_run import config
from training import run
from training.blends import main
from training.encoders import load_encoder
from training.measure import DevMeasure
from training.prepare import prepare
from training.train import train
from training.tuned import write_model


def test_the_ends_are_the_base_and_the_tuned_model(tiny_model_folder: Path, tmp_path: Path) -> None:
    """A share of 1 has the tuned model's figures, one next to 0 those of the base."""
    chosen = config(tmp_path, tiny_model_folder, dev_limit=20)
    prepared = prepare(chosen)
    run.start(chosen, prepared.summary)
    train(chosen, prepared, resume=False)
    assert main([str(chosen.output), "--shares", "1e-6", "1"]) == 0
    near, whole = json.loads((chosen.output / "blends.json").read_text())["rows"]
    measure = DevMeasure(chosen, prepared)
    base, tuned = (
        measure(load_encoder(str(folder)))["held-out"]
        for folder in (tiny_model_folder, chosen.output / run.MODEL)
    )
    assert near["base"] == whole["base"] == {"held-out": pytest.approx(base)}
    assert near["sets"] == {"held-out": pytest.approx(base)}
    assert whole["sets"] == {"held-out": pytest.approx(tuned)}
    assert base != tuned
    blended = chosen.changed(blend=0.5)
    run.start(blended, prepared.summary)
    write_model(blended, prepared)
    assert main([str(chosen.output), "--shares", "1"]) == 0
    found = json.loads((chosen.output / "blends.json").read_text())
    assert (found["domain"], found["dev_limit"]) == ("held-out", 20)
    (again,) = json.loads((chosen.output / "blends.json").read_text())["rows"]
    assert again["sets"] == whole["sets"]
    assert (near["share"], whole["share"]) == (1e-6, 1)


@pytest.mark.parametrize("share", ["60", "-1", "0", "nan"])
def test_a_share_beyond_the_way_is_refused(
    share: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """60 was meant to be 0.6."""
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--shares", "0.5", share])
    assert f"must be above 0 and at most 1, not {share}" in capsys.readouterr().err


def test_a_run_without_a_model_is_told(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, with the remedy."""
    chosen = config(tmp_path, tiny_model_folder)
    run.start(chosen, {})
    assert main([str(chosen.output)]) == 1
    assert "there is no tuned model; finish the run first" in capsys.readouterr().err
