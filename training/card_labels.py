"""What a model card says of one-shot labels: how well they are told, set by set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.encoders.artifact import LABELS
from training.card_cells import cell
from training.reporting.run_folder import number, objects

_SHOWN = ("accuracy", "auroc")


def labels_section(metrics: Mapping[str, Any]) -> str:
    """Return the section, in Markdown, a blank line first; nothing where nothing was measured.

    metrics: of the manifest; `labels` holds a row for each set and number of anchors.
    """
    rows = objects(metrics.get(LABELS))
    if not rows:
        return ""
    found = {(row.get("set"), row.get("anchors")): row for row in rows}
    sets = dict.fromkeys(name for name, _ in found)
    anchors = sorted({count for _, count in found if isinstance(count, int)})
    lines = [
        f"| {cell(name)} | "
        + " | ".join(
            _percent(found.get((name, count), {}).get(what)) for what in _SHOWN for count in anchors
        )
        + " |"
        for name in sets
    ]
    headings = [f"{what} at {count}" for what in ("accuracy", "AUROC") for count in anchors]
    return f"""
## One-shot labels

Which label a text belongs to, or none, known from a few anchors a label. Each set was measured with
weights that were fitted on the others, over several draws of anchors: accuracy of texts that have a
label, and AUROC of telling those that have none, in percent, by the number of anchors a label.

| set | {" | ".join(headings)} |
|---|{"---:|" * len(headings)}
{chr(10).join(lines)}
"""


def _percent(value: object) -> str:
    found = number(value)
    return "\N{EN DASH}" if found is None else f"{100 * found:.1f}"
