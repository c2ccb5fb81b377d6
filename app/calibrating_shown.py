"""What `deja calibrate` prints of a fit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.table import Table

from app.domain.cut_offs import IDENTITY, Correction
from app.domain.recalibration import Quality

if TYPE_CHECKING:
    from app.calibrating import Outcome

_NAMES = (
    "log loss",
    "accuracy",
    "calibration error",
    "duplicate_at in force",
    "review_at in force",
    *["a probability of"] * 3,
)
_CHANCES = (0.2, 0.5, 0.8)


class Answers(NamedTuple):
    """What `…/calibration` answers: of the encoder's own, of what is in force, of the new one."""

    shipped: dict[str, Any]
    before: dict[str, Any]
    after: dict[str, Any]


class _Column(NamedTuple):
    name: str
    quality: Quality
    answer: dict[str, Any]
    correction: Correction

    def cells(self) -> Iterator[str]:
        """Yield what stands below the name, in the order of the rows."""
        yield f"{self.quality.log_loss:.3f}"
        yield f"{self.quality.accuracy:.1%}"
        yield f"{self.quality.error:.1%}"
        for name in ("duplicate_at", "review_at"):
            yield f"{self.answer['cut_offs'][name]:.3f}"
        for chance in _CHANCES:
            moved = self.correction(math.log(chance / (1 - chance)))
            yield f"{1 / (1 + math.exp(-moved)):.2f}"


def show(outcome: Outcome, answers: Answers, console: Console) -> None:
    """Print what the fit was made of, and what it changes."""
    from app.calibrating import MOST

    duplicate = int(outcome.verdicts.duplicate.sum())
    console.print(
        f"{len(outcome.verdicts)} verdicts: {duplicate} duplicate, "
        f"{len(outcome.verdicts) - duplicate} distinct"
    )
    for count, why in (
        (outcome.same_text, "left out: both texts are the same, which is certain"),
        (outcome.passed, f"older ones left out: the latest {MOST:,} count"),
    ):
        if count:
            console.print(f"{count} {why}")
    new = outcome.correction
    console.print(f"log odds' = {new.intercept:+.3f} + {new.slope:.3f} x log odds")
    columns = [_Column("before", outcome.shipped, answers.before, IDENTITY)]
    words = "Before: what is in force, the encoder's calibration."
    if outcome.in_force is not None:
        old, quality = outcome.in_force
        columns = [
            _Column("shipped", outcome.shipped, answers.shipped, IDENTITY),
            _Column("before", quality, answers.before, old),
        ]
        words = "Before: what is in force, which may have learned from some of these verdicts."
    columns.append(_Column("after", outcome.fitted, answers.after, new))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for column in columns:
        table.add_column(column.name, justify="right")
    for row in zip(_NAMES, *[column.cells() for column in columns], strict=True):
        table.add_row(*row)
    console.print(table)
    console.print(
        f"{words} After: each verdict by a fit on the others.\n"
        "Feedback is given on matches that were shown: the figures hold for those."
    )
    if outcome.since is not None:
        before, after = outcome.since
        console.print(
            "Log loss on the verdicts given since that was fitted: "
            f"{before.log_loss:.3f} before, {after.log_loss:.3f} after."
        )
