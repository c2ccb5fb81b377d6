"""The trainer's parts: whole checkpoints, a log without repetition, patience, weights."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import nn

from training.progress import Progress, line
from training.trainer import (
    EverySteps,
    Patience,
    blend,
    freeze_embeddings,
    freeze_unused,
    last_checkpoint,
    rewind_log,
    set_dropout,
)

PARTS = ("model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json")


def checkpoint(folder: Path, step: int, *, without: str = "", state: str = "{}") -> Path:
    made = folder / f"checkpoint-{step}"
    made.mkdir()
    for part in PARTS:
        if part != without:
            (made / part).write_text(state if part.endswith("json") else "")
    return made


def test_the_newest_checkpoint_is_the_last(tmp_path: Path) -> None:
    """By step, not by name; none where there is none."""
    assert last_checkpoint(tmp_path / "missing") is None
    checkpoint(tmp_path, 900)
    newest = checkpoint(tmp_path, 1000)
    assert last_checkpoint(tmp_path) == newest


@pytest.mark.parametrize("part", PARTS)
def test_a_checkpoint_that_lacks_a_part_is_passed_over(tmp_path: Path, part: str) -> None:
    """For the one before it, or for none."""
    checkpoint(tmp_path, 20, without=part)
    assert last_checkpoint(tmp_path) is None
    whole = checkpoint(tmp_path, 10)
    assert last_checkpoint(tmp_path) == whole


def test_a_checkpoint_with_half_a_state_is_passed_over(tmp_path: Path) -> None:
    """The state is written last, so a kill may have cut it off."""
    whole = checkpoint(tmp_path, 10)
    checkpoint(tmp_path, 20, state='{"global_step": 2')
    assert last_checkpoint(tmp_path) == whole


def test_the_log_is_rewound_to_its_checkpoint(tmp_path: Path) -> None:
    """Later lines go, and one that a kill cut off; what belongs to the checkpoint stays."""
    log = tmp_path / "log.jsonl"
    rewind_log(log, 3)
    assert not log.exists()
    kept = ['{"step": 2, "loss": 1}', '{"step": 4, "loss": 1}', '{"step": 4, "dev": {}}']
    log.write_text("\n".join([*kept, '{"step": 6, "loss": 1}', '{"step": 8, "lo']))
    rewind_log(log, 4)
    assert log.read_text() == "".join(f"{one}\n" for one in kept)
    rewind_log(log, 0)
    assert log.read_text() == ""
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def control() -> Any:
    return SimpleNamespace(
        should_training_stop=False, should_log=True, should_evaluate=True, should_save=True
    )


def history(*scores: float) -> Any:
    """Return the state of a trainer after measurements, the first before any step."""
    entries = [{"step": step, "eval_dev/score": score} for step, score in enumerate(scores)]
    return SimpleNamespace(log_history=[{"step": 1, "loss": 1.0}, *entries])


@pytest.mark.parametrize(
    ("scores", "stops"),
    [
        ((0.5,), False),
        ((0.9, 0.5, 0.4), False),
        ((0.9, 0.5, 0.4, 0.5), True),
        ((0.1, 0.5, 0.4, 0.6), False),
        ((0.1, 0.5, 0.4, 0.6, 0.6, 0.6), True),
    ],
)
def test_patience_runs_out(scores: tuple[float, ...], *, stops: bool) -> None:
    """After two measurements without a better score; an equal one is no better."""
    said = control()
    Patience(2).on_evaluate(None, history(*scores), said)
    assert said.should_training_stop is stops
    assert said.should_save
    again = control()
    Patience(2).on_step_end(None, history(*scores), again)
    assert again.should_training_stop is stops
    assert again.should_save is not stops
    assert again.should_evaluate is not stops


def test_every_so_many_steps() -> None:
    """At each of them but the last; never, where it is 0."""
    done: list[int] = []
    for every in (3, 0):
        callback = EverySteps(every, done.append)
        for step in range(1, 10):
            callback.on_step_end(None, SimpleNamespace(global_step=step, max_steps=9), None)
    assert done == [3, 6]


def test_blend_is_between_base_and_tuned() -> None:
    """By share; whole numbers, which are no weights, are the tuned ones."""
    base = {"w": torch.tensor([0.0, 2.0]), "n": torch.tensor([1])}
    tuned = {"w": torch.tensor([4.0, 0.0]), "n": torch.tensor([7])}
    mixed = blend(base, tuned, 0.25)
    assert mixed["w"].tolist() == [1.0, 1.5]
    assert mixed["n"].tolist() == [7]
    assert torch.equal(blend(base, tuned, 1.0)["w"], tuned["w"])


def test_dropout_is_set_everywhere() -> None:
    """And nothing else is changed."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1), nn.Sequential(nn.Dropout(0.1)))
    set_dropout(model, 0.3)
    assert [module.p for module in model.modules() if isinstance(module, nn.Dropout)] == [0.3, 0.3]


def test_what_is_frozen(tiny_model: SentenceTransformer) -> None:
    """BERT's own pooler, which has no part in the vectors; and the word embeddings, if asked."""

    def frozen() -> set[str]:
        return {
            name.split("model.")[-1]
            for name, weight in tiny_model.named_parameters()
            if not weight.requires_grad
        }

    freeze_unused(tiny_model)
    assert frozen() == {"pooler.dense.weight", "pooler.dense.bias"}
    freeze_embeddings(tiny_model)
    assert frozen() - {"pooler.dense.weight", "pooler.dense.bias"} == {
        "embeddings.word_embeddings.weight"
    }


def test_a_line_of_progress() -> None:
    """Short, in words, figures of the dev sets in percent."""
    entry = {"step": 40, "loss": 0.01834, "positive": 0.871, "mean_negative": 0.02, "away": 0.1}
    assert line(entry, 200) == (
        "step 40/200  loss 0.0183  positive 0.87  mean negative 0.02  away 0.10"
    )
    dev = {"step": 40, "dev": {"asked/dev": 0.7361, "intents": 0.552, "score": 0.64405}}
    assert line(dev, 200) == "step 40/200  dev: asked/dev 73.6  intents 55.2  mean 64.4"


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_says_how_long_is_left(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> None:
    """A terminal has a bar, which goes on where the run does; elsewhere each line says it."""
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    clock = iter([100.0, 120.0])
    monkeypatch.setattr("training.progress.time.monotonic", lambda: next(clock))
    progress = Progress()
    state = SimpleNamespace(global_step=10, max_steps=50, is_world_process_zero=True)
    progress.on_train_begin(None, state, None)
    state.global_step = 20
    progress.on_step_end(None, state, None)
    progress.say(json.loads('{"step": 20, "loss": 1}'))
    progress.on_train_end(None, state, None)
    shown = screen.getvalue()
    if terminal:
        assert "20/50" in shown
        assert "step 20/50  loss 1.0000\n" in shown
    else:
        # Ten steps took 20 seconds, 30 are to come.
        assert shown == "step 20/50  loss 1.0000  01:00 left\n"
