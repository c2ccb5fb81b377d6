"""From a probability to something a person can act on."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.domain.calibration import CutOffs


class Verdict(StrEnum):
    """Whether two texts ask the same."""

    DUPLICATE = "duplicate"
    REVIEW = "review"
    DISTINCT = "distinct"


_STRENGTH = {Verdict.DISTINCT: 0, Verdict.REVIEW: 1, Verdict.DUPLICATE: 2}


def verdict_of(probability: float, cut_offs: CutOffs) -> Verdict:
    """Return the verdict for P(duplicate), 0 to 1; at a cut-off, the stronger one."""
    if probability >= cut_offs.duplicate_at:
        return Verdict.DUPLICATE
    if probability >= cut_offs.review_at:
        return Verdict.REVIEW
    return Verdict.DISTINCT


def strongest(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the strongest verdict, `distinct` when there is none."""
    return max(verdicts, key=_STRENGTH.__getitem__, default=Verdict.DISTINCT)
