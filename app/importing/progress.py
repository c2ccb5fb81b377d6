"""What a person sees of an import while it runs."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from rich.console import Console

    from app.importing.records import BadLine
    from app.importing.state import Tally

SHOWN_BAD_LINES = 10
_PLAIN_EVERY = 5.0
# Controls, line separators, changes of direction, and halves of surrogate pairs.
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class ImportProgress:
    """A bar on a terminal, a plain line every few seconds elsewhere.

    size: bytes of the file, None where it is not known.
    position: bytes of it that an earlier run has done.
    clock: seconds, for rates only.
    """

    def __init__(
        self,
        console: Console,
        *,
        size: int | None,
        position: int,
        tally: Tally,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._size = size
        self._clock = clock
        self._started = self._said = clock()
        self._first_position = position
        self._first_read = tally.read
        self._read = tally.read
        self._shown = 0
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.description}"),
                TimeRemainingColumn(),
                TextColumn("left"),
                console=console,
                transient=True,
            )
            description = self._counts(tally)
            self._task = self._bar.add_task(description, total=size, completed=position)

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
        """Return how long this run has taken."""
        return self._clock() - self._started

    @property
    def rows(self) -> int:
        """Return how many rows this run has read."""
        return self._read - self._first_read

    @property
    def rate(self) -> float:
        """Return the rows a second of this run."""
        return self.rows / max(self.seconds, 1e-3)

    def bad(self, line: BadLine) -> None:
        """Show a bad line, one of the first few."""
        self._shown += 1
        if self._shown <= SHOWN_BAD_LINES:
            self.say(f"line {line.line}: {line.reason}")
        elif self._shown == SHOWN_BAD_LINES + 1:
            self.say("further bad lines are counted, not shown; --errors FILE lists them all")

    def say(self, message: str) -> None:
        """Show a line, above the bar if there is one."""
        self._console.print(plain(message), markup=False, highlight=False, soft_wrap=True)

    def advanced(self, tally: Tally, position: int) -> None:
        """Show how far the import has come."""
        self._read = tally.read
        if self._bar is not None:
            self._bar.update(self._task, completed=position, description=self._counts(tally))
            return
        now = self._clock()
        if now - self._said >= _PLAIN_EVERY:
            self._said = now
            self.say(self._counts(tally) + self._left(position))

    def _counts(self, tally: Tally) -> str:
        said = f"{tally.read:,} rows · {self.rate:,.0f} rows/s"
        return said + (f" · {tally.bad:,} bad" if tally.bad else "")

    def _left(self, position: int) -> str:
        if not self._size:
            return ""
        done = position - self._first_position
        seconds = self.seconds * (self._size - position) / done if done > 0 else 0
        share = 100 * position / self._size
        return f" · {share:.0f}% · {timedelta(seconds=round(seconds))} left"


def plain(text: str) -> str:
    """Return text without the control characters that could steer a terminal."""
    return _STEERING.sub("\N{REPLACEMENT CHARACTER}", text)
