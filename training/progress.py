"""How far a training run is, for the person who waits for it: a bar, and a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback

# What a line calls the figures of the log.
_NAMES = {
    "positive": "positive",
    "mean_negative": "mean negative",
    "closest_negative": "closest",
    "away": "away",
}


class Progress(TrainerCallback):  # type: ignore[misc]
    """A bar with the time left, on stderr; where that is no terminal, the lines say it instead."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._first = 0
        self._total = 0
        self._began = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Show the bar, from the step where the run goes on."""
        self._first, self._total = state.global_step, state.max_steps
        self._began = time.monotonic()
        if state.is_world_process_zero and sys.stderr.isatty():
            self._bar = tqdm(
                total=self._total, initial=self._first, unit="step", dynamic_ncols=True
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Move the bar on."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def say(self, entry: Mapping[str, Any]) -> None:
        """Write an entry of the run's log as a line, above the bar if there is one."""
        said = line(entry, self._total)
        done = entry["step"] - self._first
        if self._bar is None and done > 0 and "loss" in entry:
            seconds = (time.monotonic() - self._began) / done * (self._total - entry["step"])
            said += f"  {tqdm.format_interval(seconds)} left"
        tqdm.write(said, file=sys.stderr)


def line(entry: Mapping[str, Any], total: int) -> str:
    """Return an entry of the log in words; dev figures in percent, their mean last."""
    start = f"step {entry['step']}/{total}  "
    if "dev" in entry:
        found = dict(entry["dev"])
        mean = found.pop("score")
        figures = "  ".join(f"{name} {100 * value:.1f}" for name, value in found.items())
        return f"{start}dev: {figures}  mean {100 * mean:.1f}"
    similarities = "".join(
        f"  {name} {entry[key]:.2f}" for key, name in _NAMES.items() if key in entry
    )
    return f"{start}loss {entry['loss']:.4f}{similarities}"
