"""`deja calibrate`: a collection's feedback becomes its correction of the calibration."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import track

from app.calibrating_shown import Answers, show
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

    shipped: how good the encoder's own calibration is on the verdicts; in_force: the correction
    that the collection has, and how good that is, None where none applies; fitted: how good the
    new one is, each verdict judged by a fit on the others.
    since: in force and new, on the verdicts given since the one in force was fitted, which it
    cannot have learned from; None where there are none.
    same_text: verdicts left out because both texts are the same; passed: older ones left out.
    """

    verdicts: Verdicts
    correction: Correction
    shipped: Quality
    in_force: tuple[Correction, Quality] | None
    fitted: Quality
    since: tuple[Quality, Quality] | None
    same_text: int
    passed: int

    @property
    def helps(self) -> bool:
        """Return whether verdicts that a fit has not seen are told better with it than without."""
        return self.fitted.log_loss < self.shipped.log_loss

    @property
    def beats_the_one_in_force(self) -> bool:
        """Return whether it also tells them better than the correction in force, if there is one.

        On verdicts that neither has seen; where there are none, the feedback has only been
        withdrawn since, and the fit on what is left takes its place.
        """
        return self.since is None or self.since[1].log_loss < self.since[0].log_loss


def fit(
    client: DejaClient, collection: str, console: Console, stored: dict[str, Any] | None
) -> Outcome:
    """Return what the collection's feedback makes of its calibration.

    stored: its correction, as `…/calibration` answers it.
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
    new = left_out(verdicts)
    in_force = since = None
    if stored is not None and stored["applies"]:
        correction = Correction(stored["intercept"], stored["slope"])
        old = correction.intercept + correction.slope * verdicts.log_odds
        in_force = correction, quality(old, verdicts.duplicate)
        fitted_at = datetime.fromisoformat(stored["fitted_at"])
        later = np.array([datetime.fromisoformat(pair["updated_at"]) > fitted_at for pair in kept])
        if later.any():
            told = verdicts.duplicate[later]
            since = quality(old[later], told), quality(new[later], told)
    return Outcome(
        verdicts,
        fit_correction(verdicts),
        quality(verdicts.log_odds, verdicts.duplicate),
        in_force,
        quality(new, verdicts.duplicate),
        since,
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


def calibrate(
    client: DejaClient,
    collection: str,
    console: Console,
    *,
    dry_run: bool = False,
    force: bool = False,
) -> bool:
    """Fit, show, and store where that helps; return whether the collection has been changed.

    A correction that is stored goes where its feedback no longer supports any.
    Raises NoFeedback where there is nothing to learn from and none is stored, or the client's
    errors.
    """
    encoder = str(client.info()["encoder"]["fingerprint"])
    before = client.get_calibration(collection)
    stored = before["correction"]
    try:
        outcome = fit(client, collection, console, stored)
    except NoFeedback:
        if stored is None:
            raise
        console.print(f"No feedback of {collection!r} is left to learn from.")
        return _take_away(client, collection, console, dry_run=dry_run)
    body = body_of(outcome, encoder)
    plain = {"intercept": 0.0, "slope": 1.0, "encoder": encoder}
    answers = Answers(
        client.put_calibration(plain, collection=collection, dry_run=True),
        before,
        client.put_calibration(body, collection=collection, dry_run=True),
    )
    show(outcome, answers, console)
    if not force and not outcome.helps:
        console.print("It would be no better than the encoder's on verdicts it has not seen.")
        if stored is not None:
            return _take_away(client, collection, console, dry_run=dry_run)
        return _unchanged(console, dry_run=dry_run)
    if not force and not outcome.beats_the_one_in_force:
        console.print("It would be no better than what is in force, which stays.")
        return _unchanged(console, dry_run=dry_run)
    if dry_run:
        console.print("It would be applied.")
        return _unchanged(console, dry_run=True)
    client.put_calibration(body, collection=collection)
    console.print(
        f"Applied to {collection}; `deja calibrate -c {collection} --undo` takes it back."
    )
    return True


def _take_away(client: DejaClient, collection: str, console: Console, *, dry_run: bool) -> bool:
    """Remove the stored correction, as nothing supports it; return whether that was done."""
    if dry_run:
        console.print("The stored correction would be removed.")
        return _unchanged(console, dry_run=True)
    client.delete_calibration(collection)
    console.print(
        f"The stored correction is removed: {collection} judges by the calibration of the encoder "
        "again."
    )
    return True


def _unchanged(console: Console, *, dry_run: bool) -> bool:
    console.print("Nothing was changed (--dry-run)." if dry_run else "Nothing was changed.")
    return False
