"""What is known of labelled pairs, what a calibration makes of it, and how well."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

from app.domain.calibration import Calibration, CalibrationError
from training.calibrate import fit, log_loss, log_losses, log_odds
from training.evidence_prior import PRIOR
from training.metrics import average_precision, expected_calibration_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

_UNREADABLE = "unknown"
# What a calibration may know beside the similarity, least first.
KINDS = {
    "similarity": (False, False),
    "+ evidence": (True, False),
    "+ head": (False, True),
    "+ both": (True, True),
}


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of n pairs.

    similarities: (n,) cosines; evidence: (n, pieces); scores: (n,) of the head, None without one;
    labels: (n,) True for duplicates.
    """

    similarities: NDArray[np.float64]
    evidence: NDArray[np.float64]
    scores: NDArray[np.float64] | None
    labels: NDArray[np.bool_]

    @classmethod
    def joined(cls, parts: Sequence[Known]) -> Known:
        """Return what is known of the pairs of all parts, in their order."""
        scores = [part.scores for part in parts if part.scores is not None]
        return cls(
            np.concatenate([part.similarities for part in parts]),
            np.concatenate([part.evidence for part in parts]),
            np.concatenate(scores) if scores else None,
            np.concatenate([part.labels for part in parts]),
        )

    def kinds(self) -> list[str]:
        """Return the kinds of calibration that can be fitted, the one that knows all last."""
        return [kind for kind, (_, head) in KINDS.items() if self.scores is not None or not head]

    def fit(self, kind: str, population: str) -> Calibration:
        """Return a calibration of a kind fitted on these pairs.

        None is without the weight of unreadable words, which no pairs tell: a similarity says
        nothing of those, whatever else is known.
        """
        evidence, head = KINDS[kind]
        fitted = fit(
            self.similarities,
            self.labels,
            population=population,
            evidence=self.evidence if evidence else None,
            scores=self.scores if head else None,
        )
        return fitted if evidence else replace(fitted, evidence={_UNREADABLE: PRIOR[_UNREADABLE]})

    def log_odds(self, calibration: Calibration) -> NDArray[np.float64]:
        """Return the log odds of each pair, (n,)."""
        return log_odds(calibration, self.similarities, self.evidence, self.scores)


def crossed(parts: Sequence[Known], kind: str) -> NDArray[np.float64]:
    """Return log odds of the pairs of all parts, each part's by a fit on the others, (n,)."""
    found = []
    for place, part in enumerate(parts):
        rest = Known.joined([other for number, other in enumerate(parts) if number != place])
        found.append(part.log_odds(rest.fit(kind, "all but one part")))
    return np.concatenate(found)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A kind of calibration, fitted on the first of several parts and on all of them.

    crossed: log odds of the pairs of all parts, each part's by a fit on the others, (n,).
    """

    halfway: Calibration
    crossed: NDArray[np.float64]
    whole: Calibration


def fits_of(parts: Sequence[Known], population: str) -> dict[str, Fitted]:
    """Return the fits by kind, the least that is known first, without kinds that have no fit.

    Raises CalibrationError where none has.
    """
    whole = Known.joined(parts)
    found: dict[str, Fitted] = {}
    problem = CalibrationError("there is nothing to fit")
    for kind in whole.kinds():
        try:
            found[kind] = Fitted(
                parts[0].fit(kind, population), crossed(parts, kind), whole.fit(kind, population)
            )
        except CalibrationError as error:
            problem = error
    if not found:
        raise problem
    return found


def best_of(
    crossed: Mapping[str, NDArray[np.float64]],
    labels: NDArray[np.bool_],
    pieces: NDArray[np.int64],
) -> str:
    """Return the kind of calibration to write, by log odds of n pairs that its fit had not seen.

    Of the kinds whose log loss is no more above the least than one standard error of the
    difference, it is the one with the best average precision: what the loss cannot tell apart is
    told by how well duplicates come first (the one-standard-error rule of Breiman et al. 1984, with
    another second criterion). Pairs that are linked err together, so the error is that of sums over
    the pieces of the graph of pairs (cluster-robust; Liang and Zeger 1986).

    crossed: (n,) log odds by kind; labels: (n,) True for duplicates; pieces: (n,) the connected
    component that a pair is of, numbered from 0.
    """
    losses = {kind: log_losses(log_odds, labels) for kind, log_odds in crossed.items()}
    least = losses[min(losses, key=lambda kind: float(losses[kind].mean()))]

    def alike(loss: NDArray[np.float64]) -> bool:
        apart = loss - least
        off = np.bincount(pieces, weights=apart - apart.mean())
        return bool(apart.mean() <= math.sqrt(float(off @ off)) / len(apart))

    return max(
        (kind for kind, loss in losses.items() if alike(loss)),
        key=lambda kind: average_precision(crossed[kind], labels),
    )


def figures(
    similarities: NDArray[np.float64], log_odds: NDArray[np.float64], labels: NDArray[np.bool_]
) -> dict[str, float]:
    """Return how well probabilities tell n pairs apart, 0..1 but for the loss."""
    chances = expit(log_odds)
    return {
        "pairs": len(labels),
        "duplicates": round(float(labels.mean()), 4),
        "ap_similarity": round(average_precision(similarities, labels), 4),
        "ap_probability": round(average_precision(log_odds, labels), 4),
        "accuracy": round(float(np.mean((chances >= 0.5) == labels)), 4),
        "ece": round(expected_calibration_error(chances, labels), 4),
        "log_loss": round(log_loss(log_odds, labels), 4),
    }
