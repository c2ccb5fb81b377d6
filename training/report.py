"""One HTML page that says what a run did: `python -m training.report RUN`.

The page needs nothing but itself: style and plots are inside, no script, nothing is loaded. The
same run gives the same bytes. What a run did not come to is said in words.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from app.domain.errors import DejaError
from training.errors import TrainingError
from training.reporting.cells import signed
from training.reporting.comparison_parts import blends_part, comparison_part
from training.reporting.figure_parts import (
    curves_part,
    figures_part,
    pairs_part,
    reliability_part,
)
from training.reporting.figures import (
    FP32,
    INT8,
    by_role,
    figures,
    run_outcome,
    sentence,
    served_role,
    trained_domain,
)
from training.reporting.input_parts import (
    data_part,
    mining_part,
    mistakes_part,
    reproduce_part,
    settings_part,
)
from training.reporting.page import Html, document, element, items, join, paragraph, section
from training.reporting.run_folder import (
    Json,
    Run,
    number,
    read_comparison,
    read_run,
    without_texts,
)

REPORT = "report.html"
BLENDS = "blends.json"
_PARTS = {
    "figures": "Before and after",
    "curves": "As it trained",
    "pairs": "Precision and recall",
    "reliability": "Calibration",
    "comparison": "Losses compared",
    "blends": "How far to go from the base",
    "mistakes": "What it gets wrong",
    "data": "Data",
    "mining": "Mined negatives",
    "settings": "Settings",
    "reproduce": "Make it again",
}


def write_report(
    run: Path,
    *,
    comparison: Path | None = None,
    blends: Path | None = None,
    output: Path | None = None,
    texts: bool = True,
) -> Path:
    """Write the page of the run in the folder `run`, and return where it is.

    comparison: the file of a comparison of losses; blends: that of shares of the way from base to
    tuned, by default the run's own where it is there; output: RUN/report.html by default; texts:
    whether to quote the run's texts, which may not be the reader's to see.
    Raises TrainingError where there is no such run or comparison, Matplotlib is not installed or
    the page cannot be written; then what was at `output` is still there.
    """
    target = output or run / REPORT
    found = read_run(run) if texts else without_texts(read_run(run))
    losses = {} if comparison is None else read_comparison(comparison)
    if blends is None and (run / BLENDS).is_file():
        blends = run / BLENDS
    shares = {} if blends is None else read_comparison(blends, of_shares=True)
    page = report(found, losses, shares)
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(page, "utf-8")
        beside.replace(target)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise TrainingError(f"{target}: cannot be written ({error.strerror})") from error
    return target


def report(run: Run, comparison: Json, blends: Json) -> str:
    """Return the page of a run; comparison, blends: empty where there is none."""
    roles = by_role(run.encoders)
    measured = figures(roles)
    domain = trained_domain(run.config, measured)
    name = str(run.artifact.get("name") or run.config.get("name") or run.path.resolve().name)
    made: dict[str, Html] = {
        "figures": figures_part(roles, measured, domain, _precision(run)),
        "curves": curves_part(run, domain),
        "pairs": pairs_part(roles, domain),
        "reliability": reliability_part(run),
        "comparison": comparison_part(comparison, roles, measured, domain),
        "blends": blends_part(blends, run.config, domain),
        "mistakes": mistakes_part(run),
        "data": data_part(run),
        "mining": mining_part(run),
        "settings": settings_part(run),
        "reproduce": reproduce_part(run),
    }
    links = items(element("a", title, href=f"#{part}") for part, title in _PARTS.items())
    return document(
        f"{name}: training report",
        element("header", element("h1", f"{name}: training report"), _headline(run, name)),
        element("nav", links, aria_label="Parts of this page"),
        element(
            "main",
            *(section(part, title, made[part]) for part, title in _PARTS.items()),
        ),
    )


def _precision(run: Run) -> str:
    """Return what is served: as the artifact says, or as the settings ask for it."""
    asked = run.artifact.get("precision") or run.config.get("precision")
    return FP32 if asked == FP32 else INT8


def _headline(run: Run, name: str) -> Html:
    """Return what was trained, what it gained and what it lost, then notes on what is missing."""
    roles = by_role(run.encoders)
    measured = figures(roles)
    role = served_role(roles)
    domain = trained_domain(run.config, measured)
    found = None if role is None else run_outcome(measured, domain, role)
    base = run.config.get("base") or run.artifact.get("base_model")
    pairs = number(run.data.get("positives"))
    trained = f"{name}" + (f", {base} tuned" if base else ", tuned")
    trained += f" on {pairs:,.0f} duplicate pairs" if pairs else ""
    if found is None or role is None:
        lead = f"{trained}, has not been measured beside its base: what it gained is not known."
    else:
        lead = f"{trained}, {sentence(found, measured, role)}."
    tiles: list[tuple[str, object]]
    tiles = [] if found is None else [(f"change on {found.domain}, points", signed(found.gain))]
    if found is not None and found.worst is not None:
        tiles.append((f"worst elsewhere, points ({found.worst[0]})", signed(found.worst[1])))
    error = number(run.reliability.get("expected_calibration_error"))
    if error is not None:
        tiles.append(("expected calibration error, points", f"{100 * error:.1f}"))
    seconds = max((number(line.get("seconds")) or 0 for line in run.steps), default=0)
    if seconds:
        tiles.append(("minutes of training", f"{seconds / 60:,.0f}"))
    return join(
        paragraph(lead, class_="lead"),
        element(
            "dl",
            *(element("div", element("dt", what), element("dd", value)) for what, value in tiles),
            class_="tiles",
        )
        if tiles
        else None,
        *(paragraph(note, class_="note") for note in run.notes),
    )


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.report", description="Write the HTML page of a training run."
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder that training wrote")
    parser.add_argument(
        "--comparison", type=Path, metavar="FILE", help="comparison.json of losses on one budget"
    )
    parser.add_argument(
        "--blends",
        type=Path,
        metavar="FILE",
        help=f"{BLENDS} of shares of the way from base to tuned (RUN/{BLENDS}, if it is there)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help=f"the page to write (RUN/{REPORT})"
    )
    parser.add_argument(
        "--no-texts",
        action="store_true",
        help="quote no texts of the run: for a page that goes further than they may",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page as the command line says; return the exit status."""
    chosen = _arguments(arguments)
    try:
        written = write_report(
            chosen.run,
            comparison=chosen.comparison,
            blends=chosen.blends,
            output=chosen.output,
            texts=not chosen.no_texts,
        )
    except DejaError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{written}: {written.stat().st_size / 1e3:,.0f} kB\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
