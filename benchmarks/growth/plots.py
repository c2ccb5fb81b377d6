"""Plots of how figures grow with the number of anchors, as SVG files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import drawing
from benchmarks.growth.results import Json, finished
from benchmarks.growth.targets import (
    LEAST_IMPORT,
    LEAST_IMPORT_SMALL,
    LEAST_RECALL,
    MOST_BYTES,
    MOST_MERGING,
    all_told,
    bytes_an_anchor,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 5.6, 3.8  # inches
_MOST_TICKS = 4


@dataclass(frozen=True, slots=True)
class Line:
    """Points of one name, by the number of anchors."""

    name: str
    at: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Plot:
    """What one file shows. target: the value of a dashed line, None for none.

    span: of the y axis, either end None where the values say; None for a logarithmic one.
    """

    file: str
    title: str
    unit: str
    lines: Sequence[Line]
    target: float | None = None
    target_name: str = ""
    span: tuple[float, float | None] | None = (0.0, None)


def plots(results: Json) -> list[Plot]:
    """Return what there is to draw of the sizes at which everything was measured."""
    sizes = finished(results)
    done = [results["sizes"][str(size)] for size in sizes]
    rest = [one["rest"] for one in done]
    parts = [part for one in done for part in one["import"]["parts"]]
    ends = [part["end"] for part in parts]
    return [
        Plot(
            "scale-latency.svg",
            "A lookup by one client, at rest",
            "milliseconds",
            [
                Line("p99", sizes, [one["one"]["p99"] for one in rest]),
                Line("p50", sizes, [one["one"]["p50"] for one in rest]),
                Line("bare encoder, p50", sizes, [one["bare"] for one in rest]),
            ],
        ),
        Plot(
            "scale-merging.svg",
            "20 lookups a second while the service does other work",
            "milliseconds",
            [
                Line("import, p99", sizes, [one["import"]["lookups"]["p99"] for one in done]),
                Line("merge, longest", sizes, [one["merge"]["lookups"]["most"] for one in done]),
                Line("merge, p99", sizes, [one["merge"]["lookups"]["p99"] for one in done]),
                Line("at rest, p99", sizes, [one["steady"]["p99"] for one in rest]),
            ],
            target=MOST_MERGING,
            target_name="target of the longest in a merge",
        ),
        Plot(
            "scale-memory.svg",
            "Memory at rest",
            "bytes an anchor",
            [
                Line("whole process", sizes, [all_told(results, size) for size in sizes]),
                Line(
                    "beyond an empty service",
                    sizes,
                    [bytes_an_anchor(results, size) for size in sizes],
                ),
            ],
            target=MOST_BYTES,
            target_name="target at a million",
            span=None,
        ),
        Plot(
            "scale-import.svg",
            "Bulk import, as a share of the bare encoder's rate",
            "share",
            [
                Line(
                    "parts of the import",
                    ends,
                    [
                        (part["end"] - part["start"]) / part["seconds"] / part["bare"]
                        for part in parts
                    ],
                )
            ],
            target=LEAST_IMPORT,
            target_name=f"target at a million; {LEAST_IMPORT_SMALL:.0%} to 20,000",
        ),
        Plot(
            "scale-recall.svg",
            "Recall@10 against an exact search",
            "recall",
            [
                Line("no filter", sizes, [one["recall"]["everything"] for one in done]),
                *(
                    Line(
                        f"filter {label}",
                        sizes,
                        [one["recall"]["filtered"][label] for one in done],
                    )
                    for label in results["settings"]["filters"]
                ),
            ],
            target=LEAST_RECALL,
            target_name="target",
            span=(_recall_floor(done), 1.001),
        ),
    ]


def _recall_floor(done: Sequence[Json]) -> float:
    """Return a value below the target and all recalls, from which differences can be seen."""
    least = min(
        min([one["recall"]["everything"], *one["recall"]["filtered"].values()]) for one in done
    )
    return float(min(LEAST_RECALL, least)) - 0.005


def svg(plot: Plot) -> str:
    """Return a plot as the text of an SVG file; the same figures have the same text.

    Raises SystemExit where Matplotlib is not installed.
    """
    return drawing.svg(WIDTH, HEIGHT, lambda figure: _draw(figure, plot))


def _draw(figure: Figure, plot: Plot) -> None:
    axes = figure.add_subplot()
    for line, colour in zip(plot.lines, drawing.COLOURS, strict=False):
        axes.plot(line.at, line.values, color=colour, marker="o", markersize=3.5, label=line.name)
    if plot.target is not None:
        axes.axhline(
            plot.target,
            color=drawing.GREY,
            linewidth=1.2,
            linestyle=(0, (4, 3)),
            label=plot.target_name,
        )
    axes.set_xscale("log")
    axes.set_xlabel("anchors")
    axes.set_ylabel(plot.unit)
    axes.set_title(plot.title, fontsize=10, loc="left")
    # Only what was measured has a tick; where parts lie close together, powers of ten do.
    at = sorted({place for line in plot.lines for place in line.at})
    if len(at) <= _MOST_TICKS:
        axes.set_xticks(at)
    axes.xaxis.set_major_formatter(_number)
    axes.xaxis.set_minor_formatter(lambda _value, _position: "")
    if plot.span is None:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(_number)
        axes.yaxis.set_minor_formatter(lambda _value, _position: "")
    else:
        axes.set_ylim(plot.span[0], plot.span[1])
    figure.legend(fontsize=8, loc="outside lower center", ncols=2)


def _number(value: float, _position: int | None) -> str:
    return f"{value:,.0f}"
