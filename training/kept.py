"""What an export with fresh pairs keeps of the artifact that it replaces: all that still holds.

Of the same weights the story does: base, licence, training, data, terms, and the figures of the
fp32 vectors beside others. With the same vectors the one-shot labels and all figures do too. The
head is left out, as its weight belongs to the calibration of before; `training.refit` fits both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.encoders.artifact import CALIBRATION, HEAD, LABELS
from training.reporting.figures import INT8
from training.reporting.run_folder import mapping

if TYPE_CHECKING:
    from app.encoders.artifact import Artifact

_STORY = ("origin", "base_weights_sha256", "training", "made_of", "trained_on", "terms")
_BESIDE = "beside"


@dataclass(frozen=True, slots=True)
class Kept:
    """What of a manifest and of a calibration's file stays; nothing where all is new.

    manifest: its fields; made, metrics: parts of those; labels: the section, None without one;
    left_out: what stood there and does not stay, in words, each with what makes it again.
    """

    manifest: Mapping[str, Any] = field(default_factory=dict)
    made: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, object] | None = None
    left_out: tuple[str, ...] = ()


def kept_of(previous: Artifact, sha256: str | None, *, same_vectors: bool) -> Kept:
    """Return what still holds of an artifact that is exported again and calibrated afresh.

    sha256: of the weights that are exported, None where it is not known; same_vectors: as before.
    """
    labels = json.loads((previous.path / CALIBRATION).read_bytes()).get(LABELS)
    left_out = []
    if HEAD in previous.manifest.files:
        left_out.append("the head (python -m training.refit --train makes another)")
    old = previous.manifest
    same = bool(sha256) and old.made.get("weights_sha256") == sha256
    if labels is not None and not (same and same_vectors):
        left_out.append("one-shot labels (python -m training.calibrate_labels --write)")
    if not same:
        if old.made.get("training"):
            left_out.append("what it was trained on, as the weights are others")
        return Kept(left_out=tuple(left_out))
    metrics: dict[str, Any] = {}
    beside = dict(mapping(old.metrics.get(_BESIDE)))
    if not same_vectors and beside.pop(INT8, None):
        left_out.append("the figures of int8 beside its base, which were those of other vectors")
    if beside:
        metrics[_BESIDE] = beside
    if same_vectors and LABELS in old.metrics:
        metrics[LABELS] = old.metrics[LABELS]
    return Kept(
        {"base_model": old.base_model, "licence": old.licence},
        {key: old.made[key] for key in _STORY if key in old.made},
        metrics,
        labels if same_vectors else None,
        tuple(left_out),
    )
