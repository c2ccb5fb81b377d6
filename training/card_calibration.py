"""What a model card says of the calibration: its pieces, what they weigh, the default cut-offs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.domain.calibration import BEYOND_EQUAL, Calibration, CutOffs
from training.refit_seen import learned_from
from training.reporting.figures import BASE
from training.reporting.run_folder import mapping

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


def calibration_section(
    calibration: Calibration, metrics: Mapping[str, Any], made: Mapping[str, Any]
) -> str:
    """Return the section, in Markdown, from its heading to its last line.

    metrics, made: of the manifest; `held_out` of the metrics, if there, was measured with weights
    that were fitted on other pairs.
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
    if calibration.closeness:
        weights.append(
            f"| closeness | {calibration.closeness:.3f} | -log({BEYOND_EQUAL} - the cosine) |"
        )
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

{_held_out(metrics, made)}The probability is true at those pairs' share of
duplicates: where they are rarer, it is too high, and a collection's `base_rate` shifts it.
`calibration.json` holds the table of cut-offs with the precision and recall each was measured to
have; the defaults are

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


def _held_out(metrics: Mapping[str, Any], made: Mapping[str, Any]) -> str:
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
        "Measured with weights that were fitted on other pairs:\n\n"
        "| pairs | number | duplicates | AP of similarity | AP of probability | accuracy | "
        "calibration error |\n|---|---:|---:|---:|---:|---:|---:|\n"
        + "\n".join(lines)
        + f"\n\n{_how_apart(metrics, made)}\n\n"
    )


def _how_apart(metrics: Mapping[str, Any], made: Mapping[str, Any]) -> str:
    """Return how far the sets are from what was learned from, and what of that is not known."""
    own, *others = metrics["held_out"]
    files = made.get("measured_on") or {own: mapping(made.get("calibrated_on")).get("sha256")}
    trained = learned_from(made)
    apart = [name for name, sha256 in files.items() if sha256 not in trained]
    seen = [name for name, sha256 in files.items() if sha256 in trained]
    chose = [name for name in (own, *others) if name in mapping(_base_figures(metrics))]
    sentences = [
        f"Each half of {_names([own])} is judged by the fit on the other"
        + (f", {_names(others)} by the fit on both." if others else "."),
        f"Which pieces are weighed was chosen on {_names([own])} too: that flatters it a little.",
        f"The training may have chosen its checkpoint by {_names(chose)}." if chose else "",
        f"Checked by the files' SHA-256: neither encoder nor head was trained on {_names(apart)}."
        if apart and trained
        else "",
        f"Encoder or head was trained on {_names(seen)}: its figures flatter." if seen else "",
        "Not known: "
        + ("whether they saw some of these pairs in another file, and " if trained else "")
        + "what the base model had learned from.",
    ]
    return "\n".join(sentence for sentence in sentences if sentence)


def _base_figures(metrics: Mapping[str, Any]) -> object:
    return mapping(metrics.get("beside")).get(BASE)


def _names(names: Sequence[str]) -> str:
    *most, last = [f"`{name}`" for name in names]
    return f"{', '.join(most)} and {last}" if most else last
