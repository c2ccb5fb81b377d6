"""From tuned weights to an artifact: exported, calibrated, measured beside its base, reported."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from app.encoders.artifact import Artifact, load_artifact, write_artifact
from app.encoders.unknown import unknown_to
from training import run
from training.calibrate import log_odds, pair_evidence
from training.devsets import read_corpus
from training.encoders import Encoder, load_encoder
from training.errors import PrecisionLost
from training.export import Trained, export_artifact, export_model, publish_artifact
from training.measure import main_figures
from training.metrics import expected_calibration_error, reliability
from training.pairs import Pairs
from training.report import write_report
from training.retrieval import Retrieval, evaluate_retrieval, retrieval_of
from training.tasks import Figures, evaluate_one_shot, evaluate_pairs
from training.vectors import pair_similarities
from training.weights import find_base

if TYPE_CHECKING:
    from training.config import TrainConfig
    from training.prepare import Prepared

_EXAMPLES = 15
_STAGING = ".staging"


def finish(config: TrainConfig, prepared: Prepared) -> Path:
    """Return the folder of the artifact, made from the model in the run's folder.

    First an artifact is made aside and measured, so that the one in its place carries its own
    figures; the report comes last.
    """
    staged = _export(config, prepared, config.output / _STAGING / config.name)
    evaluation = _evaluation(config, prepared, staged)
    run.write_json(config.output / run.EVALUATION, evaluation)
    _write_calibration(
        config, load_encoder(str(staged.path), threads=2), staged, prepared.calibration_pairs
    )
    beside: dict[str, dict[str, float]] = {}
    for encoder in evaluation["encoders"]:
        # Of several references the first is the reference, the others go by their names.
        role = encoder["name"] if encoder["role"] in beside else encoder["role"]
        beside[role] = {
            figure: round(value, 4)
            for name, figures in encoder["sets"].items()
            for figure, value in main_figures(name, figures).items()
        }
    artifact = publish_artifact(staged, config.output / config.name, beside)
    shutil.rmtree(config.output / _STAGING, ignore_errors=True)
    write_report(config.output)
    return artifact.path


def install(artifact: Path, folder: Path) -> Path:
    """Put a copy of an artifact into a folder of artifacts, whole or not at all; return it."""
    found = load_artifact(artifact)
    files = {name: (found.path / name).read_bytes() for name in found.manifest.files}
    return write_artifact(folder / artifact.name, found.manifest, files).path


def _export(config: TrainConfig, prepared: Prepared, output: Path) -> Artifact:
    """Write the artifact; in fp32 where int8 would lose more than the config allows."""
    exported = export_model(str(config.output / run.MODEL))
    trained = Trained(
        base=find_base(config.base),
        config=config.saved(),
        data=prepared.summary,
        terms=config.terms,
        made_of=run.read_json(config.output / run.MODEL / run.MADE_OF),
    )
    for precision in (config.precision, "fp32"):
        try:
            return export_artifact(
                exported,
                output,
                precision=precision,
                pairs=prepared.calibration_pairs,
                population=config.population or prepared.population,
                release=config.release,
                largest_loss=config.largest_loss,
                trained=trained,
            )
        except PrecisionLost as error:
            sys.stderr.write(f"{error}; the artifact is written in fp32\n")
    raise AssertionError("fp32 loses nothing")


def _evaluation(config: TrainConfig, prepared: Prepared, staged: Artifact) -> Figures:
    """Return the figures of base, tuned model, artifact and further encoders on every dev set."""
    encoders = [("base", config.base), ("fp32", str(config.output / run.MODEL))]
    if staged.manifest.precision == "int8":
        encoders.append(("int8", str(staged.path)))
    encoders += [("reference", where) for where in config.beside]
    retrieval = _retrieval(config, prepared)
    found = []
    for role, where in encoders:
        encoder = load_encoder(where, threads=config.threads or 2)
        sets = dict(_figures(encoder, config, prepared, retrieval))
        found.append(
            {"role": role, "name": encoder.name, "fingerprint": encoder.fingerprint, "sets": sets}
        )
    return {"encoders": found}


def measured(encoder: Encoder, config: TrainConfig, prepared: Prepared) -> dict[str, float]:
    """Return the main figures of an encoder on all dev sets, 0..1."""
    return {
        figure: value
        for name, figures in _figures(encoder, config, prepared, None)
        for figure, value in main_figures(name, figures).items()
    }


def _figures(
    encoder: Encoder, config: TrainConfig, prepared: Prepared, retrieval: Retrieval | None
) -> Iterator[tuple[str, Figures]]:
    for name, dev in prepared.dev.items():
        if isinstance(dev, Pairs):
            yield name, evaluate_pairs(encoder, dev)
        else:
            yield name, evaluate_one_shot(encoder, dev, none_label=config.none_label)
    if retrieval is not None:
        # `training.evaluate` calls that of all pairs of a file `… retrieval`: other figures.
        yield f"{prepared.held_out} natural retrieval", evaluate_retrieval(encoder, retrieval)


def _retrieval(config: TrainConfig, prepared: Prepared) -> Retrieval | None:
    """Return the held-out duplicates among the texts of the corpus files; None without files."""
    if not config.corpus:
        return None
    return retrieval_of(prepared.calibration_pairs, read_corpus(config.corpus, config.corpus_limit))


def _write_calibration(
    config: TrainConfig, encoder: Encoder, staged: Artifact, held_out: Pairs
) -> None:
    """Write how well probabilities hold on the held-out pairs, and what is most wrong there.

    Training did not see these pairs, but the calibration was fitted on them.
    """
    similarities = pair_similarities(encoder.encode(held_out.texts), held_out).astype(float)
    evidence = pair_evidence(held_out, unknown_to(staged))
    probabilities = expit(log_odds(staged.calibration, similarities, evidence))
    bins = reliability(probabilities, held_out.labels)
    run.write_json(
        config.output / run.RELIABILITY,
        {
            "bins": [
                {
                    "low": one.low,
                    "high": one.high,
                    "predicted": one.predicted,
                    "observed": one.observed,
                    "pairs": one.pairs,
                }
                for one in bins
            ],
            "expected_calibration_error": expected_calibration_error(
                probabilities, held_out.labels
            ),
            "pairs": len(held_out),
        },
    )
    order = np.argsort(probabilities, kind="stable")
    positive = held_out.labels[order]
    run.write_json(
        config.output / run.ERRORS,
        {
            "false_duplicates": _told(
                held_out, order[~positive][::-1][:_EXAMPLES], similarities, probabilities
            ),
            "missed_duplicates": _told(
                held_out, order[positive][:_EXAMPLES], similarities, probabilities
            ),
        },
    )


def _told(
    pairs: Pairs,
    places: NDArray[np.int64],
    similarities: NDArray[np.float64],
    probabilities: NDArray[np.float64],
) -> list[dict[str, Any]]:
    return [
        {
            "text1": pairs.texts[pairs.left[place]],
            "text2": pairs.texts[pairs.right[place]],
            "similarity": round(float(similarities[place]), 4),
            "probability": round(float(probabilities[place]), 4),
        }
        for place in places.tolist()
    ]
