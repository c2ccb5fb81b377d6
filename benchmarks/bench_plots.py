"""The plots of `docs/benchmarks.md`: SVG, the same bytes for the same figures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

_OURS, _BARE, _THEIRS = "#1b6ca8", "#9aa5b1", "#d9822b"
_SETTINGS = {
    "svg.hashsalt": "deja",
    "svg.fonttype": "path",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_LINES = {"deja": "o-", "obvious": "s-", "txtai": "^-", "chroma": "D-"}


def plots(report: Mapping[str, Any], folder: Path, titles: Mapping[str, str]) -> None:
    """Write the plots of a report into a folder. titles: of the systems."""
    rounds = report["rounds"]
    systems = [name for name in titles if name in report["settings"]["systems"]]
    with mpl.rc_context(_SETTINGS):
        _bars(
            {titles[name]: (name, _of(rounds, "many", name, "rate")) for name in systems},
            "lookups a second, 32 clients (more is better)",
            folder / "lookups.svg",
        )
        _bars(
            {titles[name]: (name, _of(rounds, "one", name, "p50")) for name in systems},
            "p50 of a lookup in ms, one client (less is better)",
            folder / "one-client.svg",
        )
        _open_loop(rounds, systems, titles, folder / "open-loop.svg")


def _of(rounds: Sequence[Any], workload: str, name: str, field: str) -> list[float]:
    rows = [row["figures"].get(workload, {}).get(name) for row in rounds]
    return [row[field] for row in rows if row is not None]


def _bars(rows: Mapping[str, tuple[str, list[float]]], title: str, path: Path) -> None:
    """Write a bar a system: the median of the rounds, with a line from the least to the most."""
    figure, axes = plt.subplots(figsize=(7, 0.55 * len(rows) + 0.9))
    for place, (name, values) in enumerate(rows.values()):
        middle = statistics.median(values)
        colour = {"deja": _OURS, "floor": _BARE}.get(name, _THEIRS)
        around = [[middle - min(values)], [max(values) - middle]]
        axes.barh(
            place, middle, color=colour, height=0.65, xerr=around, ecolor="#333333", capsize=3
        )
        said = f"{middle:,.0f}" if middle >= 100 else f"{middle:,.1f}"
        axes.annotate(said, (max(values), place), (6, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set_title(title, loc="left", fontsize=10)
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    _save(figure, path)


def _open_loop(
    rounds: Sequence[Any], systems: Sequence[str], titles: Mapping[str, str], path: Path
) -> None:
    """Write latencies by offered load: p50 as a line, p99 as a dashed one, axes logarithmic."""
    figure, axes = plt.subplots(figsize=(7, 4))
    loads = sorted({key for row in rounds for key in row["figures"] if key.startswith("open")})
    for name in systems:
        if name not in _LINES:
            continue
        points = []
        for load in loads:
            rows = [_of(rounds, load, name, field) for field in ("offered", "p50", "p99")]
            if rows[0]:
                points.append([statistics.median(row) for row in rows])
        if not points:
            continue
        offered, p50, p99 = zip(*points, strict=True)
        (line,) = axes.plot(offered, p50, _LINES[name], label=f"{titles[name]}, p50")
        axes.plot(
            offered, p99, _LINES[name][0] + "--", color=line.get_color(), mfc="white",
            label=f"{titles[name]}, p99",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(mpl.ticker.NullFormatter())
    axes.set_xlabel("lookups offered a second: 50% and 80% of what each can do")
    axes.set_ylabel("ms, from when it was due")
    axes.grid(visible=True, which="major", color="#e5e5e5")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None, "Creator": "matplotlib"})
    plt.close(figure)
