"""Fit the probability of an artifact afresh: `python -m training.refit ARTIFACT --pairs FILE`.

The encoder stays as it is. With `--train`, a pairwise head is trained on its vectors of those
pairs. The pairs of `--pairs` are split by their graph into halves, and each is measured by a fit
on the other; so is the table of cut-offs. What is written was fitted on both. `--elsewhere`
measures the fit on pairs of other domains. What comes out is a whole artifact in `--output`.
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
from app.encoders.artifact import CALIBRATION, CARD, HEAD, find_artifact, load_artifact
from app.encoders.artifact import write_artifact as write
from app.encoders.head import OnnxHead
from app.encoders.unknown import unknown_to
from training.calibrate import measured, pair_evidence
from training.card import model_card
from training.data import read_natural_pairs
from training.devsets import set_name
from training.encoders import ArtifactEncoder
from training.export import calibration_file
from training.graph import drop_contradictions, split
from training.head import FEWEST_PAIRS, HeadConfig, train_head
from training.known import Known, crossed, figures
from training.prepare import apart
from training.vectors import pair_similarities

if TYPE_CHECKING:
    from app.domain.calibration import Calibration
    from app.encoders.artifact import Artifact
    from training.pairs import Pairs

_HALVES = {"fit": 0.5, "test": 0.5}


class Refit:
    """Fits and measures on one artifact's vectors."""

    def __init__(self, artifact: Artifact, *, threads: int) -> None:
        self.artifact = artifact
        self.encoder = ArtifactEncoder(artifact, threads=threads)
        self.unknown = unknown_to(artifact)
        self.head: bytes | None = None

    def train(self, pairs: Pairs) -> None:
        """Train the head on natural pairs."""
        vectors = self.encoder.encode(pairs.texts).astype(np.float16)
        self.head = train_head(vectors, pairs, pair_evidence(pairs, self.unknown))

    def know(self, pairs: Pairs) -> Known:
        """Return what is known of pairs, as the service knows it: one side in stored precision."""
        vectors = self.encoder.encode(pairs.texts)
        stored = vectors.astype(np.float16)
        scores = None
        if self.head is not None:
            head = OnnxHead(self.head)
            ends = zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)
            scores = np.array(
                [head.scores(vectors[left], stored[right][np.newaxis])[0] for left, right in ends],
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
    elsewhere: Sequence[Path] = (),
    population: str = "",
    threads: int = 1,
    seed: int = 0,
    fewest: int = FEWEST_PAIRS,
) -> Artifact:
    """Write the artifact with a probability fitted afresh, say what was measured, return it.

    fewest: with fewer pairs to train on there is no head.
    Raises PairsError for a file that cannot be used, CalibrationError where nothing can be fitted;
    then nothing is written.
    """
    made = Refit(artifact, threads=threads)
    held = drop_contradictions(read_natural_pairs(pairs))
    others = {set_name(path): drop_contradictions(read_natural_pairs(path)) for path in elsewhere}
    about: dict[str, Any] = {}
    if train is not None:
        taught = drop_contradictions(read_natural_pairs(train))
        taught = apart(taught, [text for found in (held, *others.values()) for text in found.texts])
        if len(taught) >= fewest:
            made.train(taught)
            about = {"pairs": len(taught), "sha256": taught.fingerprint, **asdict(HeadConfig())}
        else:
            _say(f"{len(taught)} pairs are too few for a head; {fewest} are needed")
    halves = split(held, _HALVES, seed=seed)
    population = population or artifact.calibration.population
    fitting, testing = (made.know(halves[name]) for name in _HALVES)
    further = {name: made.know(found) for name, found in others.items()}
    name = set_name(pairs)
    kinds = fitting.kinds()
    halfway = {kind: fitting.fit(kind, population) for kind in kinds}
    _say_figures(f"{name}, fitted on one half, measured on the other", _all(testing, halfway))
    both = [fitting, testing]
    every = Known.joined(both)
    pooled = {
        kind: figures(every.similarities, crossed(both, kind), every.labels) for kind in kinds
    }
    _say_figures(f"{name}, each half by a fit on the other", pooled)
    for other, found in further.items():
        _say_figures(f"{other}, by the fit on half of {name}", _all(found, halfway))
    calibration = replace(
        every.fit(kinds[-1], population),
        cut_offs_table=measured(expit(crossed(both, kinds[-1])), every.labels),
    )
    _say_calibration(calibration)
    held_out = {
        name: pooled[kinds[-1]],
        **{
            other: figures(found.similarities, found.log_odds(calibration), found.labels)
            for other, found in further.items()
        },
    }
    return _write(
        artifact, output, calibration, head=made.head, held_out=held_out, pairs=held, about=about
    )


def _all(known: Known, fitted: Mapping[str, Calibration]) -> dict[str, dict[str, float]]:
    return {
        kind: figures(known.similarities, known.log_odds(calibration), known.labels)
        for kind, calibration in fitted.items()
    }


def _write(
    artifact: Artifact,
    output: Path,
    calibration: Calibration,
    *,
    head: bytes | None,
    held_out: Mapping[str, Mapping[str, float]],
    pairs: Pairs,
    about: Mapping[str, Any],
) -> Artifact:
    cut_offs = calibration.cut_offs()
    first = next(iter(held_out.values()))
    metrics = artifact.manifest.metrics
    precisions = metrics.get("average_precision", {})
    made = {
        **{key: value for key, value in artifact.manifest.made.items() if key != "head"},
        "calibrated_on": {
            "population": calibration.population,
            "pairs": calibration.pairs,
            "duplicates": round(calibration.base_rate, 4),
            "sha256": pairs.fingerprint,
        },
        **({"head": dict(about)} if head is not None else {}),
    }
    manifest = artifact.manifest.model_copy(
        update={
            "name": output.name,
            "made": made,
            "metrics": {
                **metrics,
                "average_precision": {
                    **{name: value for name, value in precisions.items() if name != "probability"},
                    "probability": first["ap_probability"],
                },
                "log_loss": first["log_loss"],
                "duplicate_at": cut_offs.duplicate_at,
                "review_at": cut_offs.review_at,
                "held_out": held_out,
            },
        }
    )
    kept = [name for name in artifact.manifest.files if name != HEAD]
    files = {name: (artifact.path / name).read_bytes() for name in kept}
    files[CALIBRATION] = calibration_file(calibration)
    files[CARD] = model_card(manifest, calibration).encode()
    if head is not None:
        files[HEAD] = head
    return write(output, manifest, files)


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
        "head": calibration.head,
        **calibration.evidence,
    }
    _say("\nweights: " + ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items()))
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
    parser.add_argument("--train", type=Path, help="labelled pairs to train a head on")
    parser.add_argument(
        "--elsewhere", type=Path, nargs="*", default=[], help="pairs of other domains, to measure"
    )
    parser.add_argument("--output", type=Path, required=True, help="the artifact to write")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the split into halves (%(default)s)"
    )
    parser.add_argument("--population", default="", help="what the pairs are, in words")
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
            elsewhere=chosen.elsewhere,
            population=chosen.population,
            threads=chosen.threads,
            seed=chosen.seed,
        )
    except (DejaError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    _say(f"\n{written.path}: ready")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
