"""The model card of an artifact: what a stranger needs to know before using it.

Of an encoder that was trained, the manifest's `made` holds its settings (`training`), data
(`trained_on`) and their terms (`terms`), and its `metrics` the figures of all dev sets by role
(`beside`); so the card follows from the artifact alone.
"""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from training.card_calibration import calibration_section
from training.card_cells import cell, line
from training.card_labels import labels_section
from training.card_terms import terms_section
from training.reporting.figures import BASE, FP32, INT8, REFERENCE
from training.reporting.recipe import mean_of_runs, recipe
from training.reporting.run_folder import array, mapping, number, objects

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.domain.calibration import Calibration
    from app.encoders.artifact import Manifest

_ROLES = {BASE: "base", FP32: "fp32", INT8: "int8", REFERENCE: "reference"}


def model_card(manifest: Manifest, calibration: Calibration) -> str:
    """Return the model card, in Markdown, of a manifest and its calibration.

    Where `made` of the manifest holds a `training`, the card tells of it too.
    """
    made: dict[str, Any] = manifest.made
    tools = ", ".join(f"{name} {release}" for name, release in made["with"].items())
    trained = bool(made.get("training"))
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
| pooling | {manifest.pooling}, then {_last_steps(made)} inside `model.onnx` |
| numbers | {form} |
| made with | {tools} |

`model.onnx` takes `input_ids` and `attention_mask` (n, t), int64, padded on the right, and gives
`sentence_embedding` (n, {manifest.dimension}), float32.
{_trained(manifest) if trained else ""}
## Measured

On {calibration.population}: {calibration.pairs:,} pairs, {calibration.base_rate:.1%} duplicates.

{_figures(manifest)}
{calibration_section(calibration, manifest.metrics, made)}{labels_section(manifest.metrics)}\
{terms_section(manifest)}
## Limits

- English questions. Other languages are split into pieces it learned little about.
- It hears the topic more than the claim: a negation, a swapped name or another number changes the
  vector little. The evidence above corrects for that as far as its rules see it.
- Only the first {manifest.max_tokens} tokens count.
- Vectors of different artifacts, fp32 and int8 of one model included, are not to be compared.
- Vectors are equal to 1e-4 on one kind of CPU; another kind may round differently.
{_more_limits(manifest) if trained else ""}
{_use_and_make(manifest) if trained else _MADE_AGAIN}"""


_LICENCES = (
    "The licence above is that of the base model; the terms of the data may bind what is learned "
    "from them."
)
_MADE_AGAIN = """## Made again

`python -m training.export` from the pinned weights; with `--pairs FILE` the calibration is fitted
afresh, without it the calibration here is kept if the vectors have not changed.
"""


def _last_steps(made: Mapping[str, Any]) -> str:
    """Return what comes after pooling; a whitening where the model's training tells of one."""
    of_several, of_one = mapping(made.get("made_of")), mapping(made.get("training"))
    whitened = of_several.get("whitening") or of_one.get("whiten")
    return "a whitening product, then unit length, all" if whitened else "unit length, both"


def _trained(manifest: Manifest) -> str:
    """Return what it was trained on, how, and what that changed."""
    config = mapping(manifest.made.get("training"))
    data = mapping(manifest.made.get("trained_on"))
    counts = [
        f"{value:,.0f} {words}"
        for key, words in (
            ("positives", "pairs of duplicates"),
            ("negatives", "labelled non-duplicates"),
            ("texts", "texts"),
            ("groups", "groups of duplicates"),
        )
        if (value := number(data.get(key))) is not None
    ]
    dropped = [
        f"{count:,.0f} {reason}"
        for reason, value in mapping(data.get("dropped")).items()
        if (count := number(value))
    ]
    files = [
        f"| `{cell(item.get('path', ''))}` | `{cell(item.get('sha256', ''))}` |"
        for item in objects(data.get("files"))
    ]
    terms = line(manifest.made.get("terms") or config.get("terms")) or (
        "not recorded. Ask whoever gave the data before passing the encoder on."
    )
    base = config.get("base") or manifest.base_model
    words = [*recipe(config), *mean_of_runs(mapping(manifest.made.get("made_of")), config)]
    settings = [f"| `{cell(name)}` | {_setting(value)} |" for name, value in config.items()]
    parts = [
        f"## Trained on\n\n{', '.join(counts) or 'Its counts were not recorded'}, from",
        "\n".join(["| file | SHA-256 |", "|---|---|", *files]) if files else "files not recorded.",
        *([f"Left out: {', '.join(dropped)}."] if dropped else []),
        f"**Terms of the data:** {terms} {_LICENCES}",
        f"## Recipe\n\nFrom {base}, both sides of a pair through the same weights.",
        "\n".join(f"- {sentence}" for sentence in words),
        "<details><summary>Every setting</summary>",
        "\n".join(["| setting | value |", "|---|---|", *settings]),
        "</details>",
        "## Before and after",
        _before_and_after(manifest),
    ]
    return "\n" + "\n\n".join(parts) + "\n"


def _beside(manifest: Manifest) -> dict[str, Mapping[str, Any]]:
    """Return the figures of dev sets, 0..1, by role in the order of columns."""
    beside = mapping(manifest.metrics.get("beside"))
    return {role: mapping(beside[role]) for role in _ROLES if role in beside}


def _before_and_after(manifest: Manifest) -> str:
    """Return the table of dev sets, with each change against the base in points."""
    beside = _beside(manifest)
    sets = dict.fromkeys(name for measured in beside.values() for name in measured)
    if not sets:
        return "It was not measured beside its base: what it gained and lost is not known."
    others = array(mapping(manifest.made.get("training")).get("beside"))
    names = {**_ROLES, REFERENCE: cell(PurePath(str(others[0])).name) if others else "reference"}
    lines = [
        f"| set | {' | '.join(names[role] for role in beside)} |",
        f"|---|{'---:|' * len(beside)}",
    ]
    for name in sets:
        values = {role: number(measured.get(name)) for role, measured in beside.items()}
        cells = [
            _change(values[role], None if role == BASE else values.get(BASE)) for role in beside
        ]
        lines.append(f"| {cell(name)} | {' | '.join(cells)} |")
    return (
        "Average precision of pairs, accuracy of intents known from one example each, nDCG@10 of "
        "retrieval, and as open-set the AUROC of telling texts of no intent apart. In percent, and "
        "the difference to the base in points.\n\n" + "\n".join(lines)
    )


def _change(value: float | None, base: float | None) -> str:
    if value is None:
        return "\N{EN DASH}"
    return f"{100 * value:.1f}" + ("" if base is None else f" ({100 * (value - base):+.1f})")


def _more_limits(manifest: Manifest) -> str:
    """Return the limits that come with training, each on its line."""
    beside = _beside(manifest)
    base, served = beside.get(BASE, {}), beside.get(manifest.precision, {})
    changes = {
        name: 100 * (after - before)
        for name, value in served.items()
        if (after := number(value)) is not None and (before := number(base.get(name))) is not None
    }
    lost = [f"{cell(name)} ({by:+.1f} points)" for name, by in changes.items() if by <= -0.05]
    if lost:
        forgets = f"it is worse than its base on {', '.join(lost)}"
    elif changes:
        forgets = "of the sets above it lost on none, but others were not measured"
    else:
        forgets = "how much, was not measured"
    return (
        f"- Tuning on one domain forgets others: {forgets}. Measure on your own texts before you "
        "switch.\n- It learned its labels' idea of a duplicate, mistakes included.\n"
    )


def _use_and_make(manifest: Manifest) -> str:
    """Return how to use a trained encoder and how to train another one."""
    config = mapping(manifest.made["training"])
    known = {name: config[name] for name in ("base", "loss", "alpha", "batch") if name in config}
    flags = " ".join(f"--{name} {value}" for name, value in known.items())
    return f"""## Use

Put this folder into the service's folder of encoders (`DEJA_ENCODERS_DIR`, or `encoders` in its
data folder) and start it with `DEJA_ENCODER={manifest.name}`; anchors that are there already are
embedded anew before it says ready. Or in Python:

```python
from pathlib import Path

from app.encoders.artifact import load_artifact
from app.encoders.onnx import OnnxEncoder

encoder = OnnxEncoder(load_artifact(Path("{manifest.name}")))
vectors = encoder.encode(["How old are you?", "What is your age?"]).vectors
```

## Train your own

From a checkout of the project:

```sh
pip install ".[training]"
deja-train --pairs MY-PAIRS.csv --output runs/mine --name my-encoder {flags}
```

`MY-PAIRS.csv` has the columns `text1,text2,label`, with label 1 for duplicates and 0 for none. The
run ends with an artifact like this one and a page, `report.html`, that says what it gained and
lost. The settings above, as `deja-train --config FILE`, train this encoder again from the same
files{", as one of its runs" if manifest.made.get("made_of") else ""}.
"""


def _setting(value: object) -> str:
    if value in ("", None):
        return "none"
    written = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"`{cell(written)}`"


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
