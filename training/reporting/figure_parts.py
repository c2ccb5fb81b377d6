"""The parts of a run's page that show figures and curves, or say that there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from training.reporting.cells import UNKNOWN, count, decimal, missing, percent, signed
from training.reporting.figures import (
    BASE,
    FP32,
    INT8,
    REFERENCE,
    Figure,
    served_role,
)
from training.reporting.outcome import precision_recall, reliability
from training.reporting.page import Html, details, element, figure, join, paragraph, table
from training.reporting.plots import dev_curves, loss_curve, similarity_curves
from training.reporting.run_folder import Json, Run, mapping, number, objects

_ROLES = {BASE: "base", FP32: "this, fp32", INT8: "this, int8"}


def figures_part(
    roles: Mapping[str, Json], measured: Sequence[Figure], domain: str | None, precision: str
) -> Html:
    """Return the tables of all figures before and after; precision: of what is served."""
    if not measured:
        return missing("The run was not evaluated (no evaluation.json), so there are no figures.")
    reference = str(mapping(roles.get(REFERENCE)).get("name", REFERENCE))
    served = " (as served)"
    named = {role: words + (served if role == precision else "") for role, words in _ROLES.items()}
    header = ["", *({**named, REFERENCE: reference}.get(role, role) for role in roles)]

    def row(item: Figure) -> list[object]:
        what = f"{item.name}, trained domain" if item.dev_set == domain else item.name
        name = join(item.dev_set, element("span", what, class_="under"))
        return [name, *(_cell(item, role) for role in roles)]

    main = [row(item) for item in measured if item.main]
    rest = [row(item) for item in measured if not item.main]
    absent = [named[role] for role in dict.fromkeys((BASE, FP32, precision)) if role not in roles]
    return join(
        table("In percent, and the difference to the base in points", header, main),
        paragraph(
            "Where anchors are drawn at random, ± is the standard deviation over the draws.",
            class_="muted",
        )
        if any(item.spread for item in measured)
        else None,
        missing(f"Not measured: {', '.join(absent)}.") if absent else None,
        details("Further figures of the same sets", table("In percent", header, rest))
        if rest
        else None,
        _speed(roles, header),
    )


def curves_part(run: Run, domain: str | None) -> Html:
    """Return the curves by step."""
    if not run.steps and not run.dev:
        return missing("Nothing was logged (no log.jsonl), so there are no curves.")
    drawings = (
        (
            loss_curve(run.steps),
            "The loss: each logged step, and a running mean.",
            "The loss was logged less than twice.",
        ),
        (
            similarity_curves(run.steps),
            "What the loss pulls together and pushes apart.",
            "Similarities were not logged.",
        ),
        (
            dev_curves(run.dev, domain),
            "Against the first measurement, the trained domain in colour; dashed is the best step.",
            "The dev sets were measured less than twice while training, so they have no curve.",
        ),
    )
    last = max((int(line["step"]) for line in (*run.steps, *run.dev)), default=0)
    planned = number(run.config.get("steps"))
    # The last line may come so many steps before the end.
    every = number(run.config.get("log_every")) or 1
    return join(
        paragraph(f"{last:,} steps were logged."),
        missing(f"It stopped before the {planned:,.0f} steps that were planned.")
        if planned and planned - last >= every
        else None,
        element(
            "div",
            *(figure(drawing, caption) for drawing, caption, _ in drawings if drawing is not None),
            class_="figures",
        ),
        *(missing(absent) for drawing, _, absent in drawings if drawing is None),
    )


def pairs_part(roles: Mapping[str, Json], domain: str | None) -> Html:
    """Return precision at each recall, base and tuned, for every set of pairs."""
    served = served_role(roles)
    sets = [mapping(encoder.get("sets")) for encoder in roles.values()]
    names = list(dict.fromkeys(name for measured in sets for name in measured))
    plots: list[Html] = []
    for name in sorted(names, key=lambda name: name != domain):
        before = mapping(mapping(mapping(roles.get(BASE)).get("sets")).get(name))
        after = mapping(mapping(mapping(roles.get(served or "")).get("sets")).get(name))
        share = number(before.get("duplicates")) or number(after.get("duplicates"))
        curves = [("base", before), ("tuned", after)]
        drawing = precision_recall(f"pairs-plot-{len(plots)}", name, curves, share)
        if drawing is not None:
            plots.append(figure(drawing, f"{name}; the numbers are average precision."))
    if not plots:
        return missing("No curve of precision and recall was measured.")
    return element("div", *plots, class_="figures")


def reliability_part(run: Run) -> Html:
    """Return the reliability diagram, its numbers and the cut-offs."""
    error = number(run.reliability.get("expected_calibration_error"))
    bins = objects(run.reliability.get("bins"))
    drawing = reliability(bins, error)
    if drawing is None:
        shown: Html = missing("The calibration was not measured (no reliability.json).")
    else:
        off = (
            "" if error is None else f" The expected calibration error is {100 * error:.2f} points."
        )
        shown = join(
            element(
                "div",
                figure(
                    drawing,
                    "How often pairs were duplicates, of those said to be so. The calibration was "
                    f"fitted on the same pairs.{off}",
                ),
                table("The same in numbers; shares in percent", _BINS, map(_bin, bins)),
                class_="figures",
            )
        )
    return join(shown, _cut_offs(run))


def _cell(item: Figure, role: str) -> object:
    value = item.values.get(role)
    if value is None:
        return UNKNOWN
    spread, change = item.spread.get(role), item.change(role)
    return join(
        f"{100 * value:.1f}",
        element("span", signed(change), class_="change")
        if change is not None and role != BASE
        else None,
        element("span", f"± {100 * spread:.1f}", class_="spread") if spread is not None else None,
    )


def _speed(roles: Mapping[str, Json], header: Sequence[str]) -> Html | None:
    measured = {role: mapping(encoder.get("speed")) for role, encoder in roles.items()}
    lengths = list(dict.fromkeys(length for speed in measured.values() for length in speed))
    rows = [
        [f"{length} tokens", *(decimal(speed.get(length)) for speed in measured.values())]
        for length in lengths
    ]
    return table("Milliseconds a question, median, one thread", header, rows) if rows else None


_BINS = ("from, %", "pairs", "said, %", "were, %")


def _bin(item: Json) -> list[object]:
    return [
        f"{100 * (number(item.get('low')) or 0):.0f}",
        count(item.get("pairs")),
        percent(item.get("predicted")),
        percent(item.get("observed")),
    ]


def _cut_offs(run: Run) -> Html:
    if run.calibration is None:
        return missing("No artifact was written, so there are no cut-offs.")
    measured = run.calibration
    chosen = measured.cut_offs()
    rows = []
    for verdict, probability in (("duplicate", chosen.duplicate_at), ("review", chosen.review_at)):
        at = measured.at(probability)
        numbers = (at.probability, at.precision, at.recall)
        rows.append([element("code", verdict), *map(decimal, numbers)])
    return join(
        table(
            f"Cut-offs, measured on {measured.pairs:,} pairs ({measured.population}), "
            f"{measured.base_rate:.1%} of them duplicates",
            ["verdict", "probability from", "precision", "recall"],
            rows,
        ),
        None
        if chosen.duplicate_reached and chosen.review_reached
        else missing("An aim was not reached; the nearest cut-off stands in."),
    )
