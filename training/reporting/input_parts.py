"""The parts of a run's page that show texts, data and settings: what went in, what comes out."""

from __future__ import annotations

import json

from training.reporting.cells import UNKNOWN, count, decimal, missing, percent
from training.reporting.page import Html, details, element, items, join, paragraph, quoted, table
from training.reporting.recipe import mean_of_runs, recipe
from training.reporting.run_folder import Run, array, mapping, number, objects

_REASONS = {
    "blank": "a text is empty",
    "self-pair": "a text paired with itself",
    "over-long": "a text is longer than the service takes",
    "repeated": "the same pair or text as on an earlier line",
    "contradiction": "other rows say otherwise, themselves or by a chain of duplicates",
    "unlabelled": "a text of no class",
    "other split": "a text kept for measuring",
    "alone": "the only text of its class",
}
_MISTAKES, _EXAMPLES = 20, 12


def mistakes_part(run: Run) -> Html:
    """Return pairs that it judges wrongly."""
    kinds = {
        "false_duplicates": ("Taken for duplicates, labelled as none", "false duplicates"),
        "missed_duplicates": ("Labelled as duplicates, taken for none", "missed duplicates"),
    }
    if not run.errors:
        return missing("No examples were kept (no errors.json).")
    parts: list[Html] = [paragraph("Some labels are wrong themselves; judge by the texts.")]
    for key, (title, name) in kinds.items():
        found = objects(run.errors.get(key))
        parts.append(element("h3", title))
        if not found:
            parts.append(missing(f"There are no {name}."))
            continue
        rows = [
            [
                quoted(item.get("text1", "")),
                quoted(item.get("text2", "")),
                decimal(item.get("probability")),
                decimal(item.get("similarity")),
            ]
            for item in found[:_MISTAKES]
        ]
        header = ["one", "the other", "probability", "similarity"]
        caption = f"{len(rows)} of {len(found)} {name} that were kept"
        parts.append(element("div", table(caption, header, rows, words=2), class_="pairs"))
    return join(*parts)


def data_part(run: Run) -> Html:
    """Return what it was trained on and what was left out."""
    if not run.data:
        return missing("What the data were was not kept (no data.json).")
    counts = [
        [name.replace("_", " "), f"{number(run.data.get(name)):,.0f}"]
        for name in (
            "pairs",
            "positives",
            "negatives",
            "texts",
            "groups",
            "largest_group",
            "linked_to_dev",
        )
        if number(run.data.get(name)) is not None
    ]
    files = [
        [element("code", item.get("path", UNKNOWN)), element("code", item.get("sha256", UNKNOWN))]
        for item in objects(run.data.get("files"))
    ]
    dropped = [
        [reason, _REASONS.get(reason, ""), f"{number(count) or 0:,.0f}"]
        for reason, count in mapping(run.data.get("dropped")).items()
    ]
    examples = [
        [
            str(item.get("reason", UNKNOWN)),
            join(*(element("div", quoted(text)) for text in array(item.get("texts")))),
            str(item.get("line", UNKNOWN)),
        ]
        for item in objects(run.data.get("dropped_examples"))[: 2 * _EXAMPLES]
    ]
    sizes = [f"{name} ({count(size)})" for name, size in mapping(run.data.get("dev")).items()]
    terms = run.config.get("terms") or "not stated in the config; the sources' own terms apply."
    return join(
        table("Trained on", ["", "number"], counts) if counts else None,
        table("Files", ["file", "SHA-256"], files, words=2) if files else None,
        paragraph(f"Measured on, with texts or pairs: {', '.join(sizes)}.") if sizes else None,
        paragraph("Terms of the data: ", terms),
        element("h3", "Left out"),
        table("By reason", ["reason", "that is", "number"], dropped, words=2)
        if dropped
        else missing("Nothing was left out."),
        details(
            "Examples of what was left out",
            table("Examples", ["reason", "texts", "line"], examples, words=2),
        )
        if examples
        else None,
    )


def mining_part(run: Run) -> Html:
    """Return how many negatives were mined, and which were taken for unlabelled duplicates."""
    if not run.mining:
        wanted = number(run.config.get("mine"))
        why = "the run did not come to it" if wanted else "the settings ask for none"
        return missing(f"No negatives were mined: {why}.")
    header = ["at step", "neighbours looked at", "kept", "dropped", "dropped, %", "rows without"]
    rows = []
    for item in run.mining:
        looked, dropped = number(item.get("looked_at")), number(item.get("dropped"))
        share = dropped / looked if looked and dropped is not None else None
        counts = [count(item.get(key)) for key in ("looked_at", "kept", "dropped")]
        rows.append([count(item.get("step")), *counts, percent(share), count(item.get("without"))])
    examples = [
        [
            quoted(item.get("anchor", "")),
            quoted(item.get("candidate", "")),
            decimal(item.get("similarity")),
            decimal(item.get("positive_similarity")),
        ]
        for item in objects(run.mining[-1].get("examples"))[:_EXAMPLES]
    ]
    return join(
        table("Each time negatives were mined", header, rows),
        paragraph(
            "Dropped is what was about as similar as the labelled duplicate: likely a duplicate "
            "that nobody labelled."
        ),
        element(
            "div",
            table(
                "Dropped as likely duplicates, the last time",
                ["anchor", "neighbour", "similarity", "of its positive"],
                examples,
                words=2,
            ),
            class_="pairs",
        )
        if examples
        else missing("No examples of dropped neighbours were kept."),
    )


def settings_part(run: Run) -> Html:
    """Return the recipe in words and every setting."""
    if not run.config:
        return missing("The settings were not kept (no config.json).")
    from training.config import TrainConfig

    known = {name: field.description or "" for name, field in TrainConfig.model_fields.items()}
    rows = [
        [element("code", name), element("code", _setting(value)), known.get(name, "")]
        for name, value in run.config.items()
    ]
    last = max((int(line["step"]) for line in run.steps), default=None)
    made_of = mapping(run.artifact.get("made")).get("made_of")
    return join(
        items([*recipe(run.config, steps=last), *mean_of_runs(mapping(made_of), run.config)]),
        details("Every setting", table("As used", ["setting", "value", "meaning"], rows, words=3)),
    )


def reproduce_part(run: Run) -> Html:
    """Return how to make the run again, and with what."""
    if not run.config:
        return missing("Without the settings, the run cannot be made again from this page.")
    tools = mapping(mapping(run.artifact.get("made")).get("with"))
    made = ", ".join(f"{name} {release}" for name, release in tools.items())
    written = json.dumps(run.config, indent=1, ensure_ascii=False)
    return join(
        paragraph(
            "Save the settings below as ",
            element("code", "config.json"),
            ", with the files of the same SHA-256 at the paths they name, then:",
        ),
        element(
            "pre", "deja-train --config config.json\npython -m training.report RUN", tabindex="0"
        ),
        paragraph(
            "The same settings and data give the same order, batches and mined negatives; the "
            "weights agree as far as the machine's arithmetic does."
        ),
        paragraph(f"Made with {made}.") if made else None,
        details("config.json", element("pre", written, tabindex="0")),
    )


def _setting(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
