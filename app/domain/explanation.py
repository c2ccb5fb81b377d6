"""Why a pair has its probability and its verdict, piece by piece."""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.calibration import Calibration, Correction, CutOffs, closeness_of
from app.domain.evidence.pair import NAMES, Values


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of what is known of a pair.

    value: what was seen of it; weight: what the calibration gives it; contribution: their product,
    in log odds: above 0 it speaks for a duplicate, below against.
    """

    name: str
    value: float
    weight: float

    @property
    def contribution(self) -> float:
        """Return what it adds to the log odds."""
        return self.value * self.weight


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a probability is made of.

    `log_odds` = `intercept` + the pieces' contributions; the correction's line over it gives
    `corrected`, and the probability is `1 / (1 + exp(-corrected))`. For texts of equal fingerprint
    nothing of it counts: they are duplicates with probability 1.
    """

    same_text: bool
    intercept: float
    pieces: tuple[Piece, ...]
    log_odds: float
    correction: Correction
    corrected: float
    cut_offs: CutOffs


def explain(
    calibration: Calibration,
    *,
    similarity: float,
    evidence: Values,
    score: float,
    correction: Correction,
    cut_offs: CutOffs,
    same_text: bool,
) -> Explanation:
    """Return the explanation of a pair: similarity, closeness, the head, then evidence seen."""
    pieces = [Piece("similarity", similarity, calibration.slope)]
    if calibration.closeness:
        pieces.append(Piece("closeness", closeness_of(similarity), calibration.closeness))
    if calibration.head:
        pieces.append(Piece("head", score, calibration.head))
    pieces += [
        Piece(name, value, weight)
        for name, value, weight in zip(NAMES, evidence, calibration.weights, strict=True)
        if value and weight
    ]
    log_odds = calibration.log_odds(similarity, evidence, score)
    return Explanation(
        same_text,
        calibration.intercept,
        tuple(pieces),
        log_odds,
        correction,
        correction(log_odds),
        cut_offs,
    )
