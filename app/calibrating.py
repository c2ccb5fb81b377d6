"""`deja calibrate`: a collection's feedback becomes its correction of the calibration."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from app.domain.cut_offs import Correction
from app.domain.recalibration import Quality, Verdicts, fit_correction, left_out, quality
from app.domain.text import fingerprint

if TYPE_CHECKING:
    from app.client import DejaClient
    from app.client_types import FeedbackPair

# The latest verdicts say what the collection is like now; more of them say it no better.
MOST = 20_000
_PAIRS = 256


class NoFeedback(Exception):
    """There is nothing to fit on."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a fit found.

    shipped: how good the encoder's own calibration is on the verdicts; fitted: how good the
    correction is, each verdict judged by a fit on the others.
    same_text: verdicts left out because both texts are the same; passed: older ones left out.
    """

    verdicts: Verdicts
    correction: Correction
    shipped: Quality
    fitted: Quality
    same_text: int
    passed: int

    @property
    def helps(self) -> bool:
        """Return whether verdicts that a fit has not seen are told better with it."""
        return self.fitted.log_loss < self.shipped.log_loss


def fit(client: DejaClient, collection: str, console: Console) -> Outcome:
    """Return what the collection's feedback makes of its calibration.

    Pairs are compared anew by the encoder in use: verdicts outlive encoders.
    Raises NoFeedback, or the client's errors.
    """
    settings = client.get_collection(collection)["settings"]
    kept: deque[FeedbackPair] = deque(maxlen=MOST)
    count = same_text = 0
    for pair in client.export_feedback(collection):
        if fingerprint(pair["text1"]) == fingerprint(pair["text2"]):
            same_text += 1
            continue
        count += 1
        kept.append(pair)
    if not kept:
        raise NoFeedback(
            f"collection {collection!r} has no feedback to learn from; give some with "
            f"POST /v1/collections/{collection}/feedback"
        )
    pairs = [(pair["text1"], pair["text2"]) for pair in kept]
    parts = [pairs[start : start + _PAIRS] for start in range(0, len(pairs), _PAIRS)]
    shown: Iterable[list[tuple[str, str]]] = parts
    if len(parts) > 1:
        shown = track(parts, "Comparing", console=console, transient=True)
    chances = [found["probability"] for part in shown for found in client.compare(part)]
    verdicts = Verdicts.of(chances, [pair["label"] for pair in kept])
    own = settings.get("base_rate")
    if own is not None:
        shipped = float(client.info()["calibration"]["base_rate"])
        shift = Correction.of_base_rate(shipped, own).intercept
        verdicts = Verdicts(verdicts.log_odds + shift, verdicts.duplicate)
    return Outcome(
        verdicts,
        fit_correction(verdicts),
        quality(verdicts.log_odds, verdicts.duplicate),
        quality(left_out(verdicts), verdicts.duplicate),
        same_text,
        count - len(kept),
    )


def body_of(outcome: Outcome, encoder: str) -> dict[str, Any]:
    """Return what `PUT …/calibration` takes.

    encoder: the fingerprint of the one in use.
    """
    duplicate = int(outcome.verdicts.duplicate.sum())
    return {
        "intercept": round(outcome.correction.intercept, 6),
        "slope": round(outcome.correction.slope, 6),
        "encoder": encoder,
        "verdicts": {"duplicate": duplicate, "distinct": len(outcome.verdicts) - duplicate},
    }


def show(outcome: Outcome, before: dict[str, Any], after: dict[str, Any], console: Console) -> None:
    """Print what the fit was made of, and what it changes.

    before, after: answers of `…/calibration`.
    """
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
    correction = outcome.correction
    console.print(f"log odds' = {correction.intercept:+.3f} + {correction.slope:.3f} x log odds")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for name in ("before", "after"):
        table.add_column(name, justify="right")
    for name, old, new in _rows(outcome, before, after):
        table.add_row(name, old, new)
    console.print(table)
    console.print(
        "Before: the encoder's calibration. After: each verdict by a fit on the others.\n"
        "Feedback is given on matches that were shown: the figures hold for those."
    )


def _rows(
    outcome: Outcome, before: dict[str, Any], after: dict[str, Any]
) -> Iterator[tuple[str, str, str]]:
    old, new = outcome.shipped, outcome.fitted
    yield "log loss", f"{old.log_loss:.3f}", f"{new.log_loss:.3f}"
    yield "accuracy", f"{old.accuracy:.1%}", f"{new.accuracy:.1%}"
    yield "calibration error", f"{old.error:.1%}", f"{new.error:.1%}"
    for name in ("duplicate_at", "review_at"):
        was, will_be = before["cut_offs"][name], after["cut_offs"][name]
        yield f"{name} in force", f"{was:.3f}", f"{will_be:.3f}"
    for chance in (0.2, 0.5, 0.8):
        log_odds = math.log(chance / (1 - chance))
        moved = 1 / (1 + math.exp(-outcome.correction(log_odds)))
        yield "a probability of", f"{chance:.2f}", f"{moved:.2f}"


def calibrate(
    client: DejaClient,
    collection: str,
    console: Console,
    *,
    dry_run: bool = False,
    force: bool = False,
) -> bool:
    """Fit, show, and store where that helps; return whether the collection has been changed.

    Raises NoFeedback, or the client's errors.
    """
    encoder = str(client.info()["encoder"]["fingerprint"])
    outcome = fit(client, collection, console)
    body = body_of(outcome, encoder)
    before = client.get_calibration(collection)
    after = client.put_calibration(body, collection=collection, dry_run=True)
    show(outcome, before, after, console)
    if dry_run:
        console.print("Nothing was changed (--dry-run).")
        return False
    if not outcome.helps and not force:
        console.print("Nothing was changed: it would be no better on verdicts it has not seen.")
        return False
    client.put_calibration(body, collection=collection)
    console.print(
        f"Applied to {collection}; `deja calibrate -c {collection} --undo` takes it back."
    )
    return True
