"""The parts of a run's page that compare: losses on one budget, and shares of the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from training.reporting.cells import UNKNOWN, count, missing, signed
from training.reporting.figures import Figure, row_outcome, run_outcome, served_role
from training.reporting.frontier import Share, frontier
from training.reporting.outcome import Traded, gain_against_loss
from training.reporting.page import Html, element, figure, join, paragraph, table
from training.reporting.run_folder import Json, mapping, number, objects


def comparison_part(
    comparison: Json,
    roles: Mapping[str, Json],
    measured: Sequence[Figure],
    domain: str | None,
) -> Html:
    """Return the losses compared on one budget, and gain against loss for them and this run."""
    rows = objects(comparison.get("rows"))
    served = served_role(roles)
    sets = list(dict.fromkeys(name for row in rows for name in mapping(row.get("sets"))))
    if domain not in sets and rows:
        domain = next(iter(sets), None)
    points = []
    for row in rows:
        found = row_outcome(row, domain)
        if found is not None and found.worst is not None:
            points.append(Traded(str(row.get("loss", "?")), found.gain, found.worst[1]))
    this = None if served is None else run_outcome(measured, domain, served)
    if this is not None and this.worst is not None:
        points.append(Traded("this run", this.gain, this.worst[1], this=True))
    drawing = gain_against_loss(points, domain or "")
    budget = mapping(comparison.get("budget"))
    ranking = number(mapping(comparison.get("left_out")).get("ranking"))
    spent = [
        f"{number(budget.get(key)):,.0f} {words}"
        for key, words in (
            ("steps", "steps"),
            ("pairs_a_batch", "pairs a batch"),
            ("seconds", "seconds at most"),
        )
        if number(budget.get(key)) is not None
    ]
    return join(
        paragraph(f"One budget for all: {', '.join(spent)}. Every row is a run.")
        if spent
        else None,
        paragraph(
            f"The ranking of labelled pairs ({ranking:g} in the settings) was left out of every "
            "row, as not every loss can have it beside it."
        )
        if ranking
        else None,
        table(
            "Losses on one budget, in percent, and the difference to the base in points",
            ["loss", *sets, "steps", "seconds"],
            [
                [
                    str(row.get("loss", UNKNOWN)),
                    *_compared(row, sets),
                    count(row.get("steps")),
                    count(row.get("seconds")),
                ]
                for row in rows
            ],
        )
        if rows
        else missing("Losses were not compared for this report (no comparison.json)."),
        figure(
            drawing,
            "Up is gained, left is forgotten."
            + (" This run may have had another budget than the rows compared." if rows else ""),
        )
        if drawing is not None
        else missing("Gain and loss are not known together for any run, so they are not drawn."),
    )


def blends_part(blends: Json, config: Json, domain: str | None) -> Html:
    """Return the shares of the way from base to tuned, and their frontier of gain against loss.

    config: of the run, whose own share is marked.
    """
    rows = [row for row in objects(blends.get("rows")) if number(row.get("share")) is not None]
    if not rows:
        return missing("Shares of the way were not measured (no blends.json; training.blends).")
    domain = str(blends.get("domain") or domain or next(iter(mapping(rows[0].get("sets"))), ""))
    sets = list(dict.fromkeys(name for row in rows for name in mapping(row.get("sets"))))
    shares = []
    own = number(config.get("blend"))
    for row in rows:
        found, share = row_outcome(row, domain), number(row.get("share"))
        if found is not None and found.worst is not None and share is not None:
            shares.append(Share(share, found.gain, *found.worst, this=share == own))
    drawing = frontier(sorted(shares, key=lambda one: one.share), domain)
    limit = number(blends.get("dev_limit"))
    texts = f" on at most {limit:,.0f} texts or pairs of each set" if limit else ""
    return join(
        paragraph(
            "The weights at the end of training, mixed with the base's, were measured in fp32"
            f"{texts}, without whitening: no row is a run of its own."
        ),
        table(
            "Shares of the way from base to tuned, in percent, and the difference to the base in "
            "points",
            ["share", *sets],
            [[f"{number(row.get('share')):g}", *_compared(row, sets)] for row in rows],
        ),
        figure(
            drawing,
            "Right is gained, down is forgotten; the numbers are shares of the way."
            + (
                " In colour: the share in this run's settings."
                if any(one.this for one in shares)
                else ""
            ),
        )
        if drawing is not None
        else missing("Gain and loss are not known together for any share, so they are not drawn."),
    )


def _compared(row: Json, sets: Sequence[str]) -> list[object]:
    """Return the cells of a row: each set's figure, with the difference to the base."""
    cells: list[object] = []
    base, tuned = mapping(row.get("base")), mapping(row.get("sets"))
    for name in sets:
        value, before = number(tuned.get(name)), number(base.get(name))
        change = None if value is None or before is None else signed(100 * (value - before))
        shown = UNKNOWN if value is None else f"{100 * value:.1f}"
        cells.append(
            join(shown, None if change is None else element("span", change, class_="change"))
        )
    return cells
