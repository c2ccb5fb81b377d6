"""The plots of `docs/benchmarks.md`."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.drawing import COLOURS, GREY, svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 7.0, 4.0  # inches
_BAR = 0.45
_OURS, _THEIRS = COLOURS[:2]
_LINES = dict(zip(("deja", "obvious", "txtai", "chroma"), ("o-", "s-", "^-", "D-"), strict=True))
_Rows = Mapping[str, tuple[str, Sequence[float]]]


def plots(report: Mapping[str, Any], folder: Path, titles: Mapping[str, str]) -> None:
    """Write the plots of a report into a folder. titles: of the systems."""
    rounds = report["rounds"]
    systems = [name for name in titles if name in report["settings"]["systems"]]
    for file, workload, field, title in (
        ("lookups", "many", "rate", "lookups a second, 32 clients (more is better)"),
        ("one-client", "one", "p50", "p50 of a lookup in ms, one client (less is better)"),
    ):
        rows = {titles[name]: (name, _of(rounds, workload, name, field)) for name in systems}
        bars = svg(_WIDTH, _BAR * len(rows) + 0.8, partial(_bars, rows=rows, title=title))
        (folder / f"{file}.svg").write_text(bars, encoding="utf-8")
    lines = partial(_open_loop, rounds=rounds, systems=systems, titles=titles)
    (folder / "open-loop.svg").write_text(svg(_WIDTH, _HEIGHT, lines), encoding="utf-8")


def _of(rounds: Sequence[Any], workload: str, name: str, field: str) -> list[float]:
    rows = [row["figures"].get(workload, {}).get(name) for row in rounds]
    return [row[field] for row in rows if row is not None]


def _bars(figure: Figure, rows: _Rows, title: str) -> None:
    """Draw a bar a system: the median of the rounds, with a line from the least to the most."""
    axes = figure.add_subplot()
    for place, (name, values) in enumerate(rows.values()):
        middle = statistics.median(values)
        colour = {"deja": _OURS, "floor": GREY}.get(name, _THEIRS)
        around = [[middle - min(values)], [max(values) - middle]]
        axes.barh(place, middle, color=colour, height=0.65, xerr=around, ecolor=GREY, capsize=3)
        said = f"{middle:,.0f}" if middle >= 100 else f"{middle:,.1f}"
        axes.annotate(said, (max(values), place), (6, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(rows)), list(rows))
    axes.grid(visible=False, axis="y")
    axes.invert_yaxis()
    axes.set_title(title, loc="left", fontsize=10)
    axes.margins(x=0.12)
    axes.set_xlim(left=0)


def _open_loop(
    figure: Figure, rounds: Sequence[Any], systems: Sequence[str], titles: Mapping[str, str]
) -> None:
    """Draw latencies by offered load: p50 as a line, p99 as a dashed one, axes logarithmic."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes = figure.add_subplot()
    loads = sorted({key for row in rounds for key in row["figures"] if key.startswith("open")})
    for (name, line), colour in zip(_LINES.items(), COLOURS, strict=True):
        points = []
        for load in loads if name in systems else ():
            rows = [_of(rounds, load, name, field) for field in ("offered", "p50", "p99")]
            if rows[0]:
                points.append([statistics.median(row) for row in rows])
        if not points:
            continue
        offered, p50, p99 = zip(*points, strict=True)
        axes.plot(offered, p50, line, color=colour, label=f"{titles[name]}, p50")
        axes.plot(offered, p99, f"{line}-", color=colour, mfc="none", label=f"{titles[name]}, p99")
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("lookups offered a second: 50% and 80% of what each can do")
    axes.set_ylabel("ms, from when it was due")
    figure.legend(fontsize=8, loc="outside right upper")
