"""What a person sees while a file is deduplicated."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from rich.console import Console

_PLAIN_EVERY = 5.0


class DedupeProgress:
    """A bar on a terminal, a plain line every few seconds elsewhere."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._started = self._said = clock()
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=1)
            self._name = ""

    def __enter__(self) -> Self:
        """Show the bar."""
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()

    @property
    def seconds(self) -> float:
        """Return how long it has taken."""
        return self._clock() - self._started

    def step(self, name: str, done: int, total: int) -> None:
        """Show how far a step is."""
        if self._bar is not None:
            if name != self._name:  # the time left is that of a step
                self._name = name
                self._bar.reset(self._task, description=name, total=total)
            self._bar.update(self._task, completed=done, total=total)
            return
        now = self._clock()
        if now - self._said >= _PLAIN_EVERY:
            self._said = now
            share = f"{100 * done / total:.0f}%" if total else ""
            self._console.print(
                f"{name}: {done:,} of {total:,} {share}", highlight=False, markup=False
            )
