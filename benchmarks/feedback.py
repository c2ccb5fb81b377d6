"""What feedback does to a calibration, on labelled pairs of a domain it was not fitted on.

    python -m benchmarks.feedback ../shared/data/dev/cikm2018_en.tsv.gz

Verdicts are the labels of pairs drawn at random from those that a lookup would show, the rest of
the pairs is what the corrected calibration is measured on. Beside honest verdicts: ten that are all
wrong, and ten that all say the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app import DEFAULT_ENCODER
from app.domain.recalibration import (
    SPREADS,
    Quality,
    Verdicts,
    fit_correction,
    left_out,
    quality,
)
from app.encoders.artifact import find_artifact, load_artifact
from app.encoders.head import head_of
from app.encoders.onnx import OnnxEncoder
from app.encoders.unknown import unknown_to
from app.usecases.compare import Compare
from app.usecases.matching import Judge
from training.data import read_natural_pairs

# A match below this probability is not shown as one to be judged.
SHOWN = 0.05
SHOWN_LOG_ODDS = float(np.log(SHOWN / (1 - SHOWN)))
COUNTS = (10, 30, 100, 300, 1000)
_TOGETHER = 16

Liar = Callable[[NDArray[np.bool_]], NDArray[np.bool_]]
LIES: dict[str, Liar] = {
    "all wrong": lambda truth: ~truth,
    "all duplicate": np.ones_like,
    "all distinct": np.zeros_like,
}


def verdicts_of(path: Path, encoder: str, limit: int, seed: int) -> Verdicts:
    """Return the natural pairs of a file as verdicts, by the calibration of an encoder."""
    artifact = load_artifact(find_artifact(encoder))
    judge = Judge(artifact.calibration, head_of(artifact), unknown_to(artifact))
    compare = Compare(OnnxEncoder(artifact), judge)
    pairs = read_natural_pairs(path)
    rng = np.random.default_rng(seed)
    count = min(limit, len(pairs))
    pairs = pairs.take(np.sort(rng.choice(len(pairs), count, replace=False)))
    texts = [
        (pairs.texts[left], pairs.texts[right])
        for left, right in zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)
    ]
    chances: list[float] = []
    for start in range(0, count, _TOGETHER):
        part = texts[start : start + _TOGETHER]
        chances += [round(found.probability, 6) for found in compare(part)]
    return Verdicts.of(chances, pairs.labels)


def thinned(verdicts: Verdicts, share: float, seed: int) -> Verdicts:
    """Return as many of them as can be had with this share of duplicates."""
    rng = np.random.default_rng(seed)
    duplicate = rng.permutation(np.flatnonzero(verdicts.duplicate))
    distinct = rng.permutation(np.flatnonzero(~verdicts.duplicate))
    total = min(len(duplicate) / share, len(distinct) / (1 - share))
    kept = np.zeros(len(verdicts), dtype=np.bool_)
    kept[duplicate[: round(total * share)]] = True
    kept[distinct[: round(total * (1 - share))]] = True
    return verdicts.take(kept)


def after(given: Verdicts, rest: Verdicts, spreads: tuple[float, float]) -> Quality:
    """Return how good the correction that `given` makes is on `rest`."""
    correction = fit_correction(given, spreads)
    return quality(correction.intercept + correction.slope * rest.log_odds, rest.duplicate)


def draw(
    verdicts: Verdicts, count: int, seed: Sequence[int], lie: Liar | None = None
) -> tuple[Verdicts, Verdicts]:
    """Return `count` of the verdicts that a lookup would show, and all others."""
    rng = np.random.default_rng(seed)
    shown = np.flatnonzero(verdicts.log_odds >= SHOWN_LOG_ODDS)
    chosen = np.zeros(len(verdicts), dtype=np.bool_)
    chosen[rng.choice(shown, count, replace=False)] = True
    given = verdicts.take(chosen)
    if lie is not None:
        given = Verdicts(given.log_odds, lie(given.duplicate))
    return given, verdicts.take(~chosen)


def row(
    name: str,
    verdicts: Verdicts,
    count: int,
    draws: int,
    spreads: tuple[float, float],
    *,
    lie: Liar | None = None,
) -> None:
    """Print what `count` verdicts do, over draws."""
    changes, found, kept = [], [], 0
    for number in range(draws):
        given, rest = draw(verdicts, count, [number, count], lie)
        before, new = quality(rest.log_odds, rest.duplicate), after(given, rest, spreads)
        changes.append(new.log_loss - before.log_loss)
        found.append(new)
        if spreads == SPREADS and count <= 100:
            told = quality(left_out(given), given.duplicate).log_loss
            kept += told < quality(given.log_odds, given.duplicate).log_loss
    applied = f"{kept / draws:8.0%}" if spreads == SPREADS and count <= 100 else ""
    print(
        f"{name:28} {np.mean([one.log_loss for one in found]):8.3f} {np.mean(changes):+8.3f} "
        f"{max(changes):+8.3f} {np.mean([one.error for one in found]):8.1%} "
        f"{np.mean([one.accuracy for one in found]):8.1%} {applied}"
    )


def main() -> None:
    """Print a table for each file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", nargs="+", type=Path, help="files of labelled pairs")
    parser.add_argument("--encoder", default=DEFAULT_ENCODER)
    parser.add_argument("--limit", type=int, default=3000, help="pairs of each file (%(default)s)")
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--shares",
        type=float,
        nargs="*",
        default=[],
        metavar="X",
        help="measure also with the pairs thinned to these shares of duplicates",
    )
    parser.add_argument(
        "--spreads",
        type=float,
        nargs=2,
        default=SPREADS,
        metavar="X",
        help="of the prior, another than the one in use (%(default)s)",
    )
    given = parser.parse_args()
    for path in given.pairs:
        verdicts = verdicts_of(path, given.encoder, given.limit, given.seed)
        table(path.name, verdicts, given.draws, tuple(given.spreads))
        for share in given.shares:
            few = thinned(verdicts, share, given.seed)
            table(path.name, few, given.draws, tuple(given.spreads))


def table(name: str, verdicts: Verdicts, draws: int, spreads: tuple[float, float]) -> None:
    """Print what verdicts on one set of pairs do."""
    shipped = quality(verdicts.log_odds, verdicts.duplicate)
    print(f"{name}: {len(verdicts)} pairs, {verdicts.duplicate.mean():.1%} duplicates")
    print(f"{'':28} log loss   change  highest      ECE accuracy  applied")
    print(
        f"{'as shipped':28} {shipped.log_loss:8.3f} {'':17} {shipped.error:8.1%} "
        f"{shipped.accuracy:8.1%}"
    )
    shown = int((verdicts.log_odds >= SHOWN_LOG_ODDS).sum())
    for count in COUNTS:
        if count <= shown:
            row(f"{count} verdicts", verdicts, count, draws, spreads)
    for lie_name, lie in LIES.items():
        row(f"10 verdicts, {lie_name}", verdicts, 10, draws, spreads, lie=lie)


if __name__ == "__main__":
    main()
