"""sentence-transformers' trainer, on batches that are a function of the step alone."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.evaluation import BaseEvaluator
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback

from training import run
from training.progress import Progress
from training.steps import StepBatches

STATE = "trainer_state.json"
# What the trainer writes into a checkpoint before its state, which comes last.
_PARTS = ("model.safetensors", "optimizer.pt", "scheduler.pt", STATE)
# What is said of a set of weights: how good it is on each dev set, and their mean, `score`.
Measure = Callable[[SentenceTransformer], dict[str, float]]


class TripletTrainer(SentenceTransformerTrainer):  # type: ignore[misc]
    """Trains on the steps it is given, each process on its slice, and logs to a file."""

    def __init__(self, *, batches: StepBatches, log: Path, **options: Any) -> None:
        super().__init__(**options)
        self._steps = batches
        self._log_file = log
        self._statistics: dict[str, list[float]] = defaultdict(list)
        self._began = time.monotonic() - _seconds_logged(log)
        self.remove_callback(PrinterCallback)
        self._progress = Progress()
        self.add_callback(self._progress)
        self.add_callback(BestInPlace)

    def get_train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Return the steps in their order.

        Not prepared by accelerate, which would hand each process other batches: here every
        process has its slice of the same one already.
        """
        return DataLoader(self._steps, batch_size=1, shuffle=False, collate_fn=itemgetter(0))

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the loss, and keep the similarities behind it for the log."""
        result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        for name, value in self.loss.statistics.items():
            self._statistics[name].append(value)
        return result

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as usual, and add a line to the run's log."""
        super().log(logs, start_time)
        if not self.is_world_process_zero():
            return
        step = self.state.global_step
        if "loss" in logs:
            batches = step * self.args.gradient_accumulation_steps
            self._append(
                {
                    "step": step,
                    "epoch": round(batches / self._steps.steps_an_epoch, 4),
                    "loss": round(logs["loss"], 6),
                    **{name: _mean(values) for name, values in self._statistics.items()},
                    "learning_rate": float(f"{logs['learning_rate']:.4g}"),
                    "seconds": round(time.monotonic() - self._began, 1),
                }
            )
            self._statistics.clear()
        dev = {
            name.removeprefix("eval_dev/"): round(value, 5)
            for name, value in logs.items()
            if name.startswith("eval_dev/")
        }
        if dev:
            self._append({"step": step, "dev": dev})

    def _save_checkpoint(self, *given: Any, **named: Any) -> None:
        with run.writing(self._log_file.parent):
            super()._save_checkpoint(*given, **named)

    def _append(self, entry: dict[str, Any]) -> None:
        with self._log_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        self._progress.say(entry)


class DevSets(BaseEvaluator):  # type: ignore[misc]
    """The dev sets as sentence-transformers' trainer asks for them; `dev/score` chooses."""

    def __init__(self, measure: Measure) -> None:
        super().__init__()
        self.primary_metric = "dev/score"
        self._measure = measure

    def __call__(self, model: SentenceTransformer, *_: Any, **__: Any) -> dict[str, float]:
        """Return the figure of each set and their mean."""
        return {f"dev/{name}": value for name, value in self._measure(model).items()}


class EverySteps(TrainerCallback):  # type: ignore[misc]
    """Does something before the first step and before every `every`-th, never after the last."""

    def __init__(self, every: int, action: Callable[[int], None]) -> None:
        self._every = every
        self._action = action

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Act between two steps."""
        done = state.global_step
        if self._every and done % self._every == 0 and done < state.max_steps:
            self._action(done)


class BestInPlace(TrainerCallback):  # type: ignore[misc]
    """Lets a run that goes on find its best checkpoint where it now is: it may have been moved."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Put the checkpoint's folder below the run's own."""
        if state.best_global_step:
            folder = Path(args.output_dir) / f"checkpoint-{state.best_global_step}"
            state.best_model_checkpoint = str(folder)


class Patience(TrainerCallback):  # type: ignore[misc]
    """Stops after `patience` measurements in a row without a better score.

    It reads the trainer's own history, which a checkpoint keeps: a run that goes on stops where it
    would have stopped. What was measured before the first step is not counted.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Stop once patience has run out."""
        if self._run_out(state):
            control.should_training_stop = True

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Stop a run that goes on after its end, and keep nothing of the step that it made."""
        if self._run_out(state):
            control.should_training_stop = True
            control.should_log = control.should_evaluate = control.should_save = False

    def _run_out(self, state: Any) -> bool:
        scores = [
            entry["eval_dev/score"]
            for entry in state.log_history
            if entry["step"] > 0 and "eval_dev/score" in entry
        ]
        return bool(scores) and len(scores) - 1 - scores.index(max(scores)) >= self._patience


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint in a folder that was written whole, None where there is none.

    The trainer writes its state last; a checkpoint cut off by a kill lacks it, or has half of it.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: -int(path.name.split("-")[1]))
    for checkpoint in found:
        if not all((checkpoint / part).is_file() for part in _PARTS):
            continue
        try:
            json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
        except ValueError:
            continue
        return checkpoint
    return None


def rewind_log(log: Path, step: int) -> None:
    """Drop the lines of steps after `step`, which will be made again, and a last half line."""
    if not log.exists():
        return
    kept = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            break
        if entry["step"] <= step:
            kept.append(line + "\n")
    partial = log.with_suffix(".partial")
    partial.write_text("".join(kept), encoding="utf-8")
    partial.replace(log)


def set_dropout(model: nn.Module, share: float) -> None:
    """Set the dropout everywhere inside a model."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share


def attend_eagerly(model: SentenceTransformer) -> None:
    """Let attention be plain products: on a CPU, the fused kernel's gradient in bf16 costs more
    than everything else in a step of short texts.
    """
    model[0].auto_model.set_attn_implementation("eager")


def freeze_embeddings(model: SentenceTransformer) -> None:
    """Leave the word embeddings as they are: half of the small encoders' weights."""
    embeddings = model[0].auto_model.get_input_embeddings()
    for parameter in embeddings.parameters():
        parameter.requires_grad = False


def freeze_unused(model: nn.Module) -> None:
    """Leave BERT's own pooler out: mean pooling never calls it.

    Several processes would wait for gradients of it that never come.
    """
    for name, parameter in model.named_parameters():
        if ".pooler." in name:
            parameter.requires_grad = False


def blend(base: dict[str, Tensor], tuned: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Return `share` of the tuned weights and the rest of the base's, by name.

    Weights between base and tuned keep more of what the base knew elsewhere (WiSE-FT, Wortsman et
    al. 2022, arXiv:2109.01903).
    """
    return {
        name: torch.lerp(base[name].to(weight), weight, share)
        if weight.is_floating_point()
        else weight
        for name, weight in tuned.items()
    }


def _mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 5)


def _seconds_logged(log: Path) -> float:
    """Return how long the run had taken by the last line of its log, in seconds."""
    if not log.exists():
        return 0.0
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return max((entry.get("seconds", 0.0) for entry in entries), default=0.0)
