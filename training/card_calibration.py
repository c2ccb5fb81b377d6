"""What a model card says of the calibration: its pieces, what they weigh, the default cut-offs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.domain.calibration import Calibration, CutOffs

_WORDS = {
    "negation": "one text denies, the other does not",
    "opposite": "a word on one side, its opposite on the other",
    "numbers": "each has numbers, versions or codes that the other lacks",
    "number_alone": "one has a number that the other lacks",
    "names": "each has names that the other lacks",
    "name_alone": "one has a name that the other lacks",
    "swapped": "X to Y against Y to X",
    "reordered": "the same words in another order",
    "asks": "why against when, and the like",
    "unknown": "words that all look the same to the encoder",
}


def calibration_section(calibration: Calibration, metrics: Mapping[str, Any]) -> str:
    """Return the section, in Markdown, from its heading to its last line.

    metrics: of the manifest; `held_out`, if there, was measured on pairs that nothing was fitted
    on.
    """
    cut_offs = calibration.cut_offs()
    rows = [
        f"| `{verdict}` | {row.probability:.3f} | {row.precision:.3f} | {row.recall:.3f} |"
        for verdict, row in (
            ("duplicate", calibration.at(cut_offs.duplicate_at)),
            ("review", calibration.at(cut_offs.review_at)),
        )
    ]
    weights = [
        f"| intercept | {calibration.intercept:.3f} | |",
        f"| similarity | {calibration.slope:.3f} | the cosine of the two vectors |",
    ]
    if calibration.head:
        weights.append(
            f"| head | {calibration.head:.3f} | a small network over the two vectors, `head.onnx` |"
        )
    weights += [
        f"| {name} | {weight:.3f} | {_WORDS[name]} |"
        for name, weight in calibration.evidence.items()
    ]
    return f"""## Calibration

The log odds of a duplicate are a sum; P(duplicate) = 1 / (1 + exp(-log odds)). Evidence counts
from 0 to 1: in full where nothing else differs between the texts, by half with every other word.

| piece | weight | |
|---|---:|---|
{chr(10).join(weights)}

{_held_out(metrics)}It is true at the share of duplicates of those pairs: where duplicates are
rarer, it is too high, and a collection's `base_rate` shifts it. `calibration.json` holds the table
of cut-offs with the precision and recall each was measured to have; the defaults are

| verdict | probability from | precision | recall |
|---|---|---|---|
{chr(10).join(rows)}
{_not_reached(cut_offs)}"""


def _not_reached(cut_offs: CutOffs) -> str:
    """Return which aims of the defaults no row of the table reaches, nothing if all are."""
    missed = [
        f"`{verdict}` aims at {aim}, which no row of the table was measured to reach"
        for verdict, aim, reached in (
            ("duplicate", "a precision of 0.80", cut_offs.duplicate_reached),
            ("review", "a recall of 0.95", cut_offs.review_reached),
        )
        if not reached
    ]
    return f"\n{'; '.join(missed)}: the nearest row stands in.\n" if missed else ""


def _held_out(metrics: Mapping[str, Any]) -> str:
    sets = metrics.get("held_out")
    if not sets:
        return (
            "Weights and figures come from the same pairs; the weights are few, so they flatter\n"
            "little, but they are of one domain. "
        )
    lines = [
        f"| {name} | {found['pairs']:,} | {found['duplicates']:.1%} | {found['ap_similarity']:.2%} "
        f"| {found['ap_probability']:.2%} | {found['accuracy']:.2%} | {found['ece']:.2%} |"
        for name, found in sets.items()
    ]
    return (
        "Measured on pairs that nothing was fitted on:\n\n"
        "| pairs | number | duplicates | AP of similarity | AP of probability | accuracy | "
        "calibration error |\n|---|---:|---:|---:|---:|---:|---:|\n" + "\n".join(lines) + "\n\n"
    )
