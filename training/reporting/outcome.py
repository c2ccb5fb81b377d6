"""The plots of what a run came to: precision-recall, reliability, gain against loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from training.reporting.drawing import (
    BASE,
    INK,
    MUTED,
    SMALL,
    TUNED,
    apart,
    axes,
    drawn,
    shortened,
    signed_points,
)
from training.reporting.run_folder import Json, array, mapping, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from training.reporting.page import Html

_NAME = 20


@dataclass(frozen=True, slots=True)
class Traded:
    """What one way of training gained on its domain for what it lost elsewhere, in points."""

    name: str
    gain: float
    worst: float
    this: bool = False


def precision_recall(
    name: str, dev_set: str, curves: Sequence[tuple[str, Json]], duplicates: float | None
) -> Html | None:
    """Return the precision at each recall on one set, None where there is no curve.

    curves: `base` first, what it became second: label and the evaluation's figures of the set;
    duplicates: their share, the precision of chance.
    """
    series = []
    for (label, measured), colour in zip(curves, (BASE, TUNED), strict=False):
        recall, precision = _curve_of(measured)
        if len(recall) > 1:
            value = number(measured.get("average_precision"))
            shown = label if value is None else f"{label} {100 * value:.1f}"
            series.append((shown, colour, recall, precision))
    if not series:
        return None

    def draw(figure: Figure) -> None:
        plot = axes(figure, "precision, %", "recall, %", right=0.2)
        # The first few pairs say more about chance than about the encoder.
        floor = min(
            float(precision[recall > 0.02].min(initial=1)) for _, _, recall, precision in series
        )
        floor = 10 * np.floor(10 * min(floor, 1.0 if duplicates is None else duplicates) - 0.2)
        plot.set_xlim(0, 100)
        plot.set_ylim(max(0, floor), 101)
        if duplicates is not None:
            plot.axhline(100 * duplicates, color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
            plot.annotate(
                f"chance {100 * duplicates:.0f}",
                (2, 100 * duplicates),
                xytext=(0, 3),
                textcoords="offset points",
                fontsize=SMALL,
                color=MUTED,
            )
        for _, colour, recall, precision in series:
            plot.plot(100 * recall, 100 * precision, color=colour)
        heights = [float(np.interp(0.55, recall, precision)) for _, _, recall, precision in series]
        for (label, colour, _, _), height in zip(series, heights, strict=True):
            above = height >= max(heights)
            plot.annotate(
                label,
                (55, 100 * height),
                xytext=(3, 4) if above else (-3, -4),
                textcoords="offset points",
                ha="left" if above else "right",
                va="bottom" if above else "top",
                color=colour,
            )

    description = "Average precision, percent: " + ", ".join(label for label, *_ in series) + "."
    return drawn(name, f"Precision and recall on {dev_set}", description, draw)


def reliability(bins: Sequence[Json], error: float | None) -> Html | None:
    """Return how often pairs were duplicates against how probable they were said to be.

    bins: with the mean `predicted`, the share `observed` and the number of `pairs`; error: the
    expected calibration error, 0..1. The bars are 95% intervals (Wilson's) of the share.
    """
    keys = ("predicted", "observed", "pairs", "low", "high")
    read = [[number(item.get(key)) for key in keys] for item in bins]
    known = [[value for value in row if value is not None and value >= 0] for row in read]
    whole = [row for row in known if len(row) == len(keys) and row[1] <= 1 and row[2] > 0]
    if not whole:
        return None
    predicted, observed, pairs, low, high = np.array(whole, dtype=np.float64).T
    bottom, top = wilson(observed, pairs)
    height = 3.5

    def draw(figure: Figure) -> None:
        plot = axes(figure, "were duplicates, %", "probability, %", right=0.2, height=height)
        place = plot.get_position()
        share = 0.2
        plot.set_position((place.x0, place.y0 + share, place.width, place.height - share))
        counts = figure.add_axes((place.x0, place.y0, place.width, share - 0.05))
        plot.set_xlabel("")
        plot.tick_params(axis="x", length=0, labelbottom=False)
        plot.plot([0, 100], [0, 100], color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)))
        plot.vlines(100 * predicted, 100 * bottom, 100 * top, color=TUNED, linewidth=1, alpha=0.6)
        plot.plot(100 * predicted, 100 * observed, color=TUNED, marker="o", markersize=4)
        plot.set_xlim(0, 100)
        plot.set_ylim(0, 100)
        plot.annotate("dashed: as often as said", (98, 5), ha="right",
                      fontsize=SMALL, color=MUTED)  # fmt: skip
        if error is not None:
            plot.annotate(f"off by {100 * error:.1f} points\non average", (3, 97), va="top",
                          color=INK)  # fmt: skip
        counts.bar(100 * low, pairs, 100 * (high - low) * 0.86, align="edge", color=BASE, alpha=0.7)
        counts.set_xlim(0, 100)
        counts.set_yticks([])
        counts.set_xlabel("probability, %", fontsize=SMALL, labelpad=3)
        counts.annotate(f"pairs, {pairs.sum():,.0f} in all", (0.5, 1), xycoords="axes fraction",
                        ha="center", va="top", fontsize=SMALL, color=MUTED)  # fmt: skip

    description = "; ".join(
        f"said {100 * said:.0f}%, were {100 * were:.0f}%"
        for said, were in zip(predicted, observed, strict=True)
    )
    return drawn("reliability-plot", "Reliability diagram", description + ".", draw, height)


def gain_against_loss(points: Sequence[Traded], domain: str) -> Html | None:
    """Return what each way of training gained against what it lost, None without any."""
    if not points:
        return None
    x = np.array([0.0, *(point.worst for point in points)])
    y = np.array([0.0, *(point.gain for point in points)])
    height = 3.5

    def draw(figure: Figure) -> None:
        plot = axes(figure, f"points gained on {shortened(domain, _NAME)}",
                    "worst change on any other set, points", right=0.2, height=height)  # fmt: skip
        for values, limit in ((x, plot.set_xlim), (y, plot.set_ylim)):
            room = max(0.18 * float(np.ptp(values)), 0.3)
            limit(values.min() - room, values.max() + room)
        plot.axhline(0, color=MUTED, linewidth=0.8)
        plot.axvline(0, color=MUTED, linewidth=0.8)
        colours = [MUTED, *(TUNED if point.this else BASE for point in points)]
        sizes = [18, *(64 if point.this else 36 for point in points)]
        plot.scatter(x, y, s=sizes, c=colours, zorder=3)
        for axis in (plot.xaxis, plot.yaxis):
            axis.set_major_formatter(lambda value, _: signed_points(value, digits=None))
        names = ["base", *(shortened(point.name, 26) for point in points)]
        low, high = plot.get_ylim()
        line = 1.3 * SMALL / 72 * (high - low) / (height - 0.77)
        left, right = plot.get_xlim()
        for beside in (False, True):
            # Two columns of labels, each on the side where its point leaves room.
            here = [
                at for at in range(len(x)) if bool(x[at] - left < 0.55 * (right - left)) == beside
            ]
            for at, place in zip(here, apart([float(y[at]) for at in here], line), strict=True):
                plot.annotate(names[at], (x[at], place), xytext=(7 if beside else -7, 0),
                              textcoords="offset points", ha="left" if beside else "right",
                              va="center", fontsize=SMALL,
                              color=TUNED if at and points[at - 1].this else INK)  # fmt: skip

    description = "; ".join(
        f"{point.name}: gained {signed_points(point.gain)}, worst {signed_points(point.worst)}"
        for point in points
    )
    title = "Gain on the trained domain against the worst loss elsewhere"
    return drawn("trade-plot", title, description + ".", draw, height)


def _curve_of(measured: Json) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    curve = mapping(measured.get("curve"))
    pairs = zip(array(curve.get("recall")), array(curve.get("precision")), strict=False)
    read = [(number(recall), number(precision)) for recall, precision in pairs]
    known = [point for point in read if None not in point]
    found = np.array(sorted(known), dtype=np.float64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def wilson(
    share: NDArray[np.float64], count: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of the 95% interval of shares of counts (Wilson, 1927)."""
    z = 1.96
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    reach = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return middle - reach, middle + reach
