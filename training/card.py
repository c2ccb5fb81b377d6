"""The model card of an artifact: what a stranger needs to know before using it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.domain.calibration import Calibration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.encoders.artifact import Manifest


def model_card(manifest: Manifest, calibration: Mapping[str, object]) -> str:
    """Return the model card, in Markdown, of a manifest and its calibration's JSON."""
    measured = Calibration.from_json(calibration)
    cut_offs = measured.cut_offs()
    duplicate, review = measured.at(cut_offs.duplicate_at), measured.at(cut_offs.review_at)
    made: dict[str, Any] = manifest.made
    tools = ", ".join(f"{name} {release}" for name, release in made["with"].items())
    digest = made["weights_sha256"]
    weights = f"SHA-256 `{digest}`" if digest else "their hash is not known"
    form = (
        "int8: weights with one scale an output channel, word embeddings with one scale a row, "
        "activations with constant scales (set on sample texts and random tokens, spread evened "
        "out by SmoothQuant), so a text's vector does not depend on its batch"
        if manifest.precision == "int8"
        else "fp32"
    )
    return f"""# {manifest.name} {manifest.version}

Turns a text into a unit vector of {manifest.dimension} numbers; two texts that ask the same thing
get vectors with a high cosine. An encoder artifact of Deja, read by its service.

| | |
|---|---|
| base model | {manifest.base_model}, {made["origin"]} |
| licence | {manifest.licence} |
| weights | {weights} |
| reads | up to {manifest.max_tokens} tokens, special ones included; the rest is cut, and said so |
| pooling | {manifest.pooling}, then unit length, both inside `model.onnx` |
| numbers | {form} |
| made with | {tools} |

`model.onnx` takes `input_ids` and `attention_mask` (n, t), int64, padded on the right, and gives
`sentence_embedding` (n, {manifest.dimension}), float32.

## Measured

On {measured.population}: {measured.pairs:,} pairs, {measured.base_rate:.1%} duplicates.

{_figures(manifest)}
## Calibration

P(duplicate) = 1 / (1 + exp(-({measured.intercept:.3f} + {measured.slope:.3f} * cosine))), fitted
on the same pairs, and true at their share of duplicates: where duplicates are rarer, it is too
high. `calibration.json` holds the table of cut-offs with the precision and recall each was
measured to have; the defaults are

| verdict | probability from | cosine from | precision | recall |
|---|---|---|---|---|
| `duplicate` | {duplicate.probability:.3f} | {duplicate.similarity:.3f} \
| {duplicate.precision:.3f} | {duplicate.recall:.3f} |
| `review` | {review.probability:.3f} | {review.similarity:.3f} \
| {review.precision:.3f} | {review.recall:.3f} |

The figures come from the pairs that the calibration was fitted on; it has two parameters, so they
flatter little, but they are of one domain.

## Limits

- English questions. Other languages are split into pieces it learned little about.
- It hears the topic more than the claim: a negation, a swapped name or another number changes the
  vector little.
- Only the first {manifest.max_tokens} tokens count.
- Vectors of different artifacts, fp32 and int8 of one model included, are not to be compared.
- Vectors are equal to 1e-4 on one kind of CPU; another kind may round differently.

## Made again

`python -m training.export` from the pinned weights; with `--pairs FILE` the calibration is fitted
afresh, without it the calibration here is kept if the vectors have not changed.
"""


def _figures(manifest: Manifest) -> str:
    metrics: dict[str, Any] = manifest.metrics
    rows = [
        f"| average precision, {name} | {value:.2%} |"
        for name, value in metrics.get("average_precision", {}).items()
    ]
    cosine = metrics.get("cosine_to_fp32")
    if cosine and manifest.precision != "fp32":
        rows.append(
            f"| cosine to the fp32 vector | {cosine['mean']:.4f} mean, {cosine['min']:.4f} least |"
        )
    if "log_loss" in metrics:
        rows.append(f"| log loss of the calibrated probability | {metrics['log_loss']:.4f} nats |")
    if not rows:
        return ""
    return "\n".join(["| figure | value |", "|---|---|", *rows]) + "\n"
