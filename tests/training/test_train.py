"""A run ends with the same weights, whether it was killed, shared between processes or neither."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.training.small_run import (
    ROOT,
    VERBS,
    command,
    config,
    environment,
    log,
    questions,
    weights,
)
from training import run
from training.config import TrainConfig
from training.encoders import load_encoder
from training.prepare import prepare
from training.stay_close import beside
from training.train import train

MINED = {"mine": 6, "mine_every": 5, "hard": 0.5, "mine_margin": 0.0}
# Steps enough to be killed among; an epoch has 6, so that a checkpoint falls inside one.
LONG = {"steps": 60, "evaluate_every": 10, "log_every": 1, "dropout": 0.2}


def trained(chosen: TrainConfig, *, resume: bool = False) -> Path:
    """Return the run's folder after training in this process."""
    prepared = prepare(chosen)
    run.start(chosen, prepared.summary)
    train(chosen, prepared, resume=resume)
    return chosen.output


def assert_same(one: Path, other: Path, tolerance: float) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, weight in first.items():
        torch.testing.assert_close(second[name], weight, atol=tolerance, rtol=0, msg=name)


def steps_logged(folder: Path) -> list[int]:
    return [entry["step"] for entry in log(folder) if "loss" in entry]


def dev_logged(folder: Path) -> list[int]:
    return [entry["step"] for entry in log(folder) if "dev" in entry]


def kill_when(line: list[str], folder: Path, step: int) -> None:
    """Run a command line and kill it as soon as its log has come to a step."""
    started = subprocess.Popen(
        line, env=environment(), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    file = folder / run.LOG
    until = time.monotonic() + 90
    while time.monotonic() < until and started.poll() is None:
        if file.is_file() and f'"step": {step},' in file.read_text():
            break
        time.sleep(0.002)
    started.kill()
    assert started.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("changed", "kills"), [({}, (14, 37)), ({**MINED, "accumulate": 2}, (27,))], ids=["", "mining"]
)
def test_a_killed_run_goes_on_to_the_same_weights(
    tiny_model_folder: Path, tmp_path: Path, changed: dict[str, Any], kills: tuple[int, ...]
) -> None:
    """Killed in the middle of an epoch and between checkpoints, with dropout, to 1e-5.

    The log has each step once, and what was mined is what was mined without the kills.
    """
    chosen = config(tmp_path, tiny_model_folder, **LONG, **changed)
    whole = trained(chosen.model_copy(update={"output": tmp_path / "whole"}))
    for step in kills:
        kill_when(command(chosen, "--resume"), chosen.output, step)
        assert not (chosen.output / run.MODEL).exists()
    kept = max(
        int(folder.name.split("-")[1]) for folder in chosen.output.glob("checkpoints/checkpoint-*")
    )
    assert max(kills) // 10 * 10 <= kept < 60
    trained(chosen, resume=True)
    assert_same(whole, chosen.output, 1e-5)
    assert steps_logged(chosen.output) == steps_logged(whole) == list(range(1, 61))
    assert dev_logged(chosen.output) == dev_logged(whole) == [0, 10, 20, 30, 40, 50, 60]
    for one, other in zip(log(whole), log(chosen.output), strict=True):
        assert one.get("loss") == pytest.approx(other.get("loss"), abs=2e-5)
    if changed:
        mined = [json.loads((folder / run.MINING).read_text()) for folder in (whole, chosen.output)]
        assert [entry["step"] for entry in mined[0]] == list(range(0, 60, 5))
        assert mined[0] == mined[1]


@pytest.fixture(scope="module")
def whole(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of 24 steps; checkpoints at every fourth."""
    return trained(config(tmp_path_factory.mktemp("whole"), tiny_model_folder))


def again(whole: Path, folder: Path) -> TrainConfig:
    """Return the config of a copy of a run, as a kill leaves it before the model is saved."""
    shutil.copytree(whole.parent, folder, dirs_exist_ok=True)
    shutil.rmtree(folder / "run" / run.MODEL)
    saved = json.loads((folder / "run" / run.CONFIG).read_text())
    base = Path(folder / "run" / saved["base"])
    return config(folder, base)


def test_a_half_written_checkpoint_is_passed_over(whole: Path, tmp_path: Path) -> None:
    """The run goes on from the one before it, over its remains, to the same weights."""
    chosen = again(whole, tmp_path)
    checkpoints = chosen.output / run.CHECKPOINTS
    last = max(checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    assert last.name == "checkpoint-24"
    (last / "trainer_state.json").write_text('{"best_')
    (last / "model.safetensors").write_bytes(b"half")
    trained(chosen, resume=True)
    assert_same(whole, chosen.output, 1e-5)
    assert log(chosen.output)[-1]["step"] == 24
    assert steps_logged(chosen.output) == steps_logged(whole)
    assert dev_logged(chosen.output) == dev_logged(whole)


def test_a_run_killed_at_its_end_is_not_trained_further(whole: Path, tmp_path: Path) -> None:
    """All that is left to do is to take the best checkpoint."""
    chosen = again(whole, tmp_path)
    trained(chosen, resume=True)
    assert_same(whole, chosen.output, 0)
    assert log(chosen.output) == log(whole)


def test_the_best_checkpoint_is_kept(whole: Path) -> None:
    """The weights chosen are those measured best on the dev sets, the first of equal ones."""
    scores = {
        entry["step"]: entry["dev"]["score"]
        for entry in log(whole)
        if "dev" in entry and entry["step"]
    }
    best = max(scores, key=lambda step: (scores[step], -step))
    checkpoint = load_file(whole / run.CHECKPOINTS / f"checkpoint-{best}" / "model.safetensors")
    found = weights(whole)
    assert checkpoint.keys() == found.keys()
    assert all(torch.equal(checkpoint[name], found[name]) for name in found)
    assert (best, list(scores)) == (12, [4, 8, 12, 16, 20, 24])


def test_the_log_says_what_the_losses_are_made_of(whole: Path) -> None:
    """Step, epoch, loss, similarities, learning rate and seconds, of which there are ever more."""
    lines = [entry for entry in log(whole) if "loss" in entry]
    assert [entry["step"] for entry in lines] == [1, *range(2, 25, 2)]
    assert set(lines[0]) == {
        "step",
        "epoch",
        "loss",
        "positive",
        "mean_negative",
        "closest_negative",
        "learning_rate",
        "seconds",
    }
    assert [entry["epoch"] for entry in lines[:3]] == [0.1667, 0.3333, 0.6667]
    assert lines[-1]["loss"] < lines[0]["loss"]
    seconds = [entry["seconds"] for entry in lines]
    assert seconds == sorted(seconds)


@pytest.mark.parametrize("killed", [False, True])
def test_patience_stops_a_run(tiny_model_folder: Path, tmp_path: Path, *, killed: bool) -> None:
    """After two measurements that are no better; a run killed then and resumed stops there too."""
    chosen = config(tmp_path, tiny_model_folder, patience=2)
    stopped = trained(chosen)
    assert dev_logged(stopped) == [0, 4, 8, 12, 16, 20]
    found = weights(stopped)
    if killed:
        lines = log(stopped)
        shutil.rmtree(stopped / run.MODEL)
        trained(chosen, resume=True)
        assert log(stopped) == lines
        assert all(torch.equal(weights(stopped)[name], found[name]) for name in found)
    checkpoint = load_file(stopped / run.CHECKPOINTS / "checkpoint-12" / "model.safetensors")
    assert all(torch.equal(checkpoint[name], found[name]) for name in found)


def test_a_run_may_be_moved_before_it_goes_on(whole: Path, tmp_path: Path) -> None:
    """Its best checkpoint is found where it now is, not where it was written."""
    chosen = again(whole, tmp_path)
    state = chosen.output / run.CHECKPOINTS / "checkpoint-24" / "trainer_state.json"
    said = json.loads(state.read_text())
    assert said["best_model_checkpoint"] == str(whole / run.CHECKPOINTS / "checkpoint-12")
    state.write_text(json.dumps({**said, "best_model_checkpoint": "/nowhere/checkpoint-12"}))
    trained(chosen, resume=True)
    assert_same(whole, chosen.output, 0)


def test_blend_is_half_way_to_the_base(
    whole: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    """With `blend = 0.5` every weight is the mean of the base's and the tuned one's."""
    blended = weights(trained(config(tmp_path, tiny_model_folder, blend=0.5)))
    base, tuned = load_file(tiny_model_folder / "model.safetensors"), weights(whole)
    assert blended.keys() == tuned.keys() == base.keys()
    for name, weight in blended.items():
        torch.testing.assert_close(weight, (base[name] + tuned[name]) / 2, atol=1e-6, rtol=0)
    changed = [name for name in base if not torch.equal(base[name], tuned[name])]
    assert len(changed) > 20


def test_frozen_embeddings_stay_bit_for_bit(tiny_model_folder: Path, tmp_path: Path) -> None:
    """The word embeddings alone; the layers above them learn."""
    frozen = config(tmp_path, tiny_model_folder, freeze_embeddings=True, steps=8)
    found, base = weights(trained(frozen)), load_file(tiny_model_folder / "model.safetensors")
    words = "embeddings.word_embeddings.weight"
    layer = "encoder.layer.1.output.dense.weight"
    assert torch.equal(found[words], base[words])
    assert not torch.equal(found[layer], base[layer])


@pytest.mark.parametrize("own", [True, False], ids=["base", "another"])
def test_staying_close(tiny_model_folder: Path, tmp_path: Path, *, own: bool) -> None:
    """To the base or to another teacher: `away` is logged, and less than without the weight."""
    texts = tmp_path / "unlabelled.txt"
    asked = [f"why is the {one} {other}" for one in VERBS for other in ("late", "new", "old", "no")]
    texts.write_text("\n".join(asked))
    teacher = tmp_path / "teacher"
    if not own:
        shutil.copytree(tiny_model_folder, teacher)
        noise = torch.Generator().manual_seed(1)
        changed = {
            name: weight + 0.3 * torch.randn(weight.shape, generator=noise)
            for name, weight in load_file(teacher / "model.safetensors").items()
        }
        save_file(changed, teacher / "model.safetensors", {"format": "pt"})
    away = {}
    for weight in (5.0, 1e-9):
        chosen = config(
            tmp_path,
            tiny_model_folder,
            output=tmp_path / f"run{weight}",
            unlabelled=texts,
            unlabelled_a_step=16,
            stay_close=weight,
            teacher="" if own else str(teacher),
            dropout=0.0,
        )
        lines = log(trained(chosen))
        away[weight] = [entry["away"] for entry in lines if "away" in entry]
        kept = np.load(chosen.output / "teacher.npy")
        assert (kept.shape, kept.dtype) == ((32, 32), np.float16)
    if own:
        assert away[5.0][0] == pytest.approx(0, abs=1e-3)
    else:
        assert away[5.0][0] > 0.1
    assert away[5.0][-1] < 0.5 * away[1e-9][-1]


def test_two_processes_are_one(tiny_model_folder: Path, tmp_path: Path) -> None:
    """The command under torchrun ends with an artifact, of one process's weights to 1e-4."""
    changed = {**MINED, "dropout": 0.0, "steps": 16}
    alone = trained(config(tmp_path, tiny_model_folder, **changed, output=tmp_path / "alone"))
    shared = config(tmp_path, tiny_model_folder, **changed)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    done = subprocess.run(
        command(shared, launcher=launcher),
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ready; serve it with") == 1
    assert (shared.output / shared.name / "manifest.json").is_file()
    assert_same(alone, shared.output, 1e-4)
    assert steps_logged(shared.output) == steps_logged(alone)
    assert dev_logged(shared.output) == dev_logged(alone)


@pytest.mark.parametrize(("precision", "tolerance"), [("no", 1e-3), ("bf16", 0.03)])
def test_a_teacher_is_followed_in_the_space_of_the_base(
    tiny_model_folder: Path, tmp_path: Path, precision: str, tolerance: float
) -> None:
    """Its vectors of the first texts, turned and mixed, are what the encoder is held to."""
    taught = tmp_path / "teacher"
    taught.mkdir()
    teacher = trained(config(taught, tiny_model_folder)) / run.MODEL
    texts = [row[0] for row in questions()][::2]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    chosen = config(
        tmp_path,
        tiny_model_folder,
        steps=4,
        unlabelled=tmp_path / "texts.txt",
        unlabelled_limit=40,
        unlabelled_a_step=8,
        teacher=str(teacher),
        teacher_share=0.5,
        mixed_precision=precision,
    )
    folder = trained(chosen)
    vectors = [load_encoder(str(one)).encode(texts[:40]) for one in (tiny_model_folder, teacher)]
    expected = beside(vectors[0], vectors[1], share=0.5)
    kept = np.load(folder / "teacher.npy")
    assert kept.shape == (40, 32)
    # In bf16 a teacher's numbers have three digits.
    np.testing.assert_allclose(kept, expected, atol=tolerance)
    assert np.abs(expected - vectors[0]).max() > 3e-3
    assert all(entry["away"] > 0 for entry in log(folder) if "loss" in entry)
