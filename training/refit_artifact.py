"""An artifact written again with another probability: all else stays, and no figure outlives it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.encoders.artifact import CALIBRATION, CARD, HEAD, LABELS, Artifact, write_artifact
from training.card import model_card
from training.export import calibration_file

if TYPE_CHECKING:
    from app.domain.calibration import Calibration


def write_refitted(
    artifact: Artifact,
    output: Path,
    calibration: Calibration,
    *,
    head: bytes | None,
    about_head: Mapping[str, Any],
    own: Mapping[str, float],
    elsewhere: Mapping[str, Mapping[str, float]],
    name: str,
    measured_on: Mapping[str, str],
    terms: str = "",
) -> Artifact:
    """Write the artifact `output` and return it.

    head: written where the calibration gives it a weight; about_head: what the manifest says of
    it; own: figures of the set `name`, each half by a fit on the other; measured_on: SHA-256
    (hex) of each set's file, by name; terms: of the data that the calibration was fitted on.
    """
    kept = [file for file in artifact.manifest.files if file != HEAD]
    files = {file: (artifact.path / file).read_bytes() for file in kept}
    made = {key: value for key, value in artifact.manifest.made.items() if key != "head"}
    made["calibrated_on"] = {
        "population": calibration.population,
        "pairs": calibration.pairs,
        "duplicates": round(calibration.base_rate, 4),
        "sha256": measured_on[name],
        **({"terms": terms} if terms else {}),
    }
    made["measured_on"] = dict(measured_on)
    if head is not None and calibration.head:
        files[HEAD] = head
        made["head"] = dict(about_head)
    metrics = {
        **_of_the_vectors(artifact, made["calibrated_on"], own),
        **_of_the_probability(calibration, own),
        "held_out": {name: own, **elsewhere},
    }
    manifest = artifact.manifest.model_copy(
        update={"name": output.name, "made": made, "metrics": metrics}
    )
    labels = json.loads(files[CALIBRATION]).get(LABELS)
    files[CALIBRATION] = calibration_file(calibration, labels)
    files[CARD] = model_card(manifest, calibration).encode()
    return write_artifact(output, manifest, files)


def _of_the_vectors(
    artifact: Artifact, data: Mapping[str, Any], own: Mapping[str, float]
) -> dict[str, Any]:
    """Return the metrics of before, but for those of the fp32 vectors where pairs are others."""
    metrics = dict(artifact.manifest.metrics)
    before = artifact.manifest.made.get("calibrated_on", {})
    same = all(before.get(key) == data[key] for key in ("sha256", "pairs"))
    precisions = dict(metrics.get("average_precision", {})) if same else {}
    if not same:
        metrics.pop("cosine_to_fp32", None)
    precisions[artifact.manifest.precision] = own["ap_similarity"]
    return {**metrics, "average_precision": {**precisions, "probability": own["ap_probability"]}}


def _of_the_probability(calibration: Calibration, own: Mapping[str, float]) -> dict[str, Any]:
    cut_offs = calibration.cut_offs()
    return {
        "log_loss": own["log_loss"],
        "duplicate_at": cut_offs.duplicate_at,
        "review_at": cut_offs.review_at,
    }
