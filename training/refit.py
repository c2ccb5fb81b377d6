"""Fit the probability of an artifact afresh: `python -m training.refit ARTIFACT --pairs FILE`.

The encoder stays as it is, and so do its head and its one-shot labels. With `--train`, another
pairwise head is trained on its vectors of those pairs; with `--no-head` there is none. The pairs
of `--pairs` are split by their graph into halves, and each is measured by a fit on the other; so
is the table of cut-offs. The kind of calibration that is best there (`training.known.best_of`) is
fitted on both halves and written. `--elsewhere` measures the fit on pairs of other domains. Files
that encoder or head were trained on are refused. What comes out is a whole artifact in `--output`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit

from app.domain.errors import DejaError
from app.encoders.artifact import HEAD, find_artifact, load_artifact
from app.encoders.head import OnnxHead, load_head
from app.encoders.unknown import unknown_to
from training.calibrate import measured, pair_evidence
from training.encoders import ArtifactEncoder
from training.export import check_name
from training.head import FEWEST_PAIRS, HeadConfig, train_head
from training.known import Known, best_of, figures, fits_of
from training.refit_artifact import write_refitted
from training.refit_seen import check_unseen
from training.refit_sets import read_sets
from training.vectors import pair_similarities

if TYPE_CHECKING:
    from app.domain.calibration import Calibration
    from app.encoders.artifact import Artifact
    from training.pairs import Pairs


class Refit:
    """Fits and measures on one artifact's vectors, with its head until another is trained."""

    def __init__(self, artifact: Artifact, *, threads: int, keep_head: bool = True) -> None:
        self.artifact = artifact
        self.encoder = ArtifactEncoder(artifact, threads=threads)
        self.unknown = unknown_to(artifact)
        self.head: bytes | None = None
        self.about_head: dict[str, Any] = {}
        if keep_head and HEAD in artifact.manifest.files:
            path = artifact.path / HEAD
            load_head(path)  # refused before the work, not after it
            self.head = path.read_bytes()
            self.about_head = dict(artifact.manifest.made.get("head", {}))

    def train(self, pairs: Pairs, terms: str = "") -> None:
        """Train the head on natural pairs. terms: of their data, in words."""
        vectors = self.encoder.encode(pairs.texts).astype(np.float16)
        config = HeadConfig()
        self.head = train_head(vectors, pairs, pair_evidence(pairs, self.unknown), config)
        self.about_head = {"pairs": len(pairs), "sha256": pairs.fingerprint, **asdict(config)}
        if terms:
            self.about_head["terms"] = terms

    def know(self, pairs: Pairs) -> Known:
        """Return what is known of pairs, as the service knows it: one side in stored precision."""
        vectors = self.encoder.encode(pairs.texts)
        stored = vectors.astype(np.float16)
        scores = None
        if self.head is not None:
            head = OnnxHead(self.head)
            ends = zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)
            scores = np.array(
                [
                    head.scores(vectors[left][np.newaxis], stored[right][np.newaxis])[0]
                    for left, right in ends
                ],
                dtype=np.float64,
            )
        return Known(
            pair_similarities(vectors, pairs).astype(np.float64),
            pair_evidence(pairs, self.unknown),
            scores,
            pairs.labels,
        )


def refit(
    artifact: Artifact,
    output: Path,
    *,
    pairs: Path,
    train: Path | None = None,
    keep_head: bool = True,
    elsewhere: Sequence[Path] = (),
    population: str = "",
    terms: str = "",
    threads: int = 1,
    seed: int = 0,
    fewest: int = FEWEST_PAIRS,
) -> Artifact:
    """Write the artifact with a probability fitted afresh, say what was measured, return it.

    population: what the pairs are, by default their file's name; terms: of the data of `pairs` and
    of `train`, in words; those of a head that stays are kept; fewest: with fewer pairs to
    train on no head is trained. A head that the artifact has stays if it is to (keep_head), unless
    another is trained.
    Raises TrainingError for a name or a file that cannot be used, or that the artifact was trained
    on, CalibrationError where nothing can be fitted; then nothing is written.
    """
    check_name(output)
    sets = read_sets(pairs, train, elsewhere, seed=seed)
    population = population or pairs.name
    for other, count in sets.left_out.items():
        _say(f"{other}: {count:,} pairs left out, they hold a text of {pairs.name}")
    trains = sets.taught is not None and len(sets.taught) >= fewest
    check_unseen(artifact.manifest.made, sets.measured, head=keep_head and not trains)
    made = Refit(artifact, threads=threads, keep_head=keep_head and not trains)
    if sets.taught is not None and trains:
        made.train(sets.taught, terms)
    elif sets.taught is not None:
        _say(f"{len(sets.taught)} pairs are too few for a head; {fewest} are needed")
    both = [made.know(half) for half in sets.halves]
    further = {name: made.know(found) for name, found in sets.elsewhere.items()}
    every = Known.joined(both)
    fits = fits_of(both, population)
    pooled = {
        kind: figures(every.similarities, fitted.crossed, every.labels)
        for kind, fitted in fits.items()
    }
    halfway = {kind: fitted.halfway for kind, fitted in fits.items()}
    _say_figures(f"{sets.name}, fitted on one half, measured on the other", _all(both[1], halfway))
    _say_figures(f"{sets.name}, each half by a fit on the other", pooled)
    for other, found in further.items():
        _say_figures(f"{other}, by the fit on half of {sets.name}", _all(found, halfway))
    first, second = sets.pieces
    pieces = np.concatenate([first, second + first.max() + 1])
    chosen = best_of({kind: fitted.crossed for kind, fitted in fits.items()}, every.labels, pieces)
    calibration = replace(
        fits[chosen].whole, cut_offs_table=measured(expit(fits[chosen].crossed), every.labels)
    )
    _say(f"\nchosen: {chosen}")
    _say_calibration(calibration)
    return write_refitted(
        artifact,
        output,
        calibration,
        head=made.head,
        about_head=made.about_head,
        own=pooled[chosen],
        elsewhere={
            other: figures(found.similarities, found.log_odds(calibration), found.labels)
            for other, found in further.items()
        },
        name=sets.name,
        measured_on=sets.measured,
        terms=terms,
    )


def _all(known: Known, fitted: Mapping[str, Calibration]) -> dict[str, dict[str, float]]:
    return {
        kind: figures(known.similarities, known.log_odds(calibration), known.labels)
        for kind, calibration in fitted.items()
    }


def _say_figures(title: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    first = next(iter(rows.values()))
    _say(f"\n{title}: {first['pairs']:,} pairs, {first['duplicates']:.1%} duplicates")
    _say(f"{'known':<14}{'AP':>8}{'accuracy':>10}{'ECE':>8}{'log loss':>10}")
    for kind, row in rows.items():
        _say(
            f"{kind:<14}{row['ap_probability']:>8.2%}{row['accuracy']:>10.2%}"
            f"{row['ece']:>8.2%}{row['log_loss']:>10.4f}"
        )


def _say_calibration(calibration: Calibration) -> None:
    weights = {
        "intercept": calibration.intercept,
        "similarity": calibration.slope,
        "closeness": calibration.closeness,
        "head": calibration.head,
        **calibration.evidence,
    }
    _say("weights: " + ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items()))
    cut_offs = calibration.cut_offs()
    _say(f"duplicate at {cut_offs.duplicate_at}, review at {cut_offs.review_at}")
    _say(f"{'probability':<14}{'precision':>10}{'recall':>8}")
    shown = {step / 20 for step in range(1, 20)} | {cut_offs.duplicate_at, cut_offs.review_at}
    for row in calibration.cut_offs_table:
        if row.probability in shown:
            _say(f"{row.probability:<14.3f}{row.precision:>10.2%}{row.recall:>8.2%}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.refit", description=__doc__)
    parser.add_argument("artifact", help="the folder of an artifact, or the name of one shipped")
    parser.add_argument("--pairs", type=Path, required=True, help="labelled pairs to fit and test")
    head = parser.add_mutually_exclusive_group()
    head.add_argument("--train", type=Path, help="labelled pairs to train a head on")
    head.add_argument("--no-head", action="store_true", help="leave out the artifact's head")
    parser.add_argument(
        "--elsewhere", type=Path, nargs="*", default=[], help="pairs of other domains, to measure"
    )
    parser.add_argument("--output", type=Path, required=True, help="the artifact to write")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the split into halves (%(default)s)"
    )
    parser.add_argument(
        "--population", default="", help="what the pairs are, in words (the file's name)"
    )
    parser.add_argument(
        "--terms", default="", metavar="TEXT", help="of the data of --pairs and --train, in words"
    )
    parser.add_argument("--threads", type=int, default=1, help="of the encoder (%(default)s)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit as the command line says; return the exit status."""
    chosen = _arguments(arguments)
    try:
        written = refit(
            load_artifact(find_artifact(chosen.artifact)),
            chosen.output,
            pairs=chosen.pairs,
            train=chosen.train,
            keep_head=not chosen.no_head,
            elsewhere=chosen.elsewhere,
            population=chosen.population,
            terms=chosen.terms,
            threads=chosen.threads,
            seed=chosen.seed,
        )
    except (DejaError, OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    _say(f"\n{written.path}: ready")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
