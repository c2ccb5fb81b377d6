"""The tables and plots of `docs/benchmarks.md`, from what `benchmarks.bench` wrote.

    python -m benchmarks.bench_report bench.json

Tables replace what stands between `<!-- table: NAME -->` and `<!-- end -->` in the page, so that no
figure is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bench_plots import plots
from benchmarks.scale_report import NAME as GROWTH
from benchmarks.scale_report import table

Report = Mapping[str, Any]
Cell = Callable[[float], str]

NONE = "-"
TITLES = {
    "deja": "Deja",
    "floor": "floor",
    "obvious": "obvious service",
    "txtai": "txtai",
    "chroma": "Chroma",
}
WORKLOADS = {
    "one": "lookups, one client",
    "many": "lookups, 32 clients",
    "batch": "lookups, 100 a request",
    "labelled": "lookups by label, one client",
    "register 1": "registering, one client",
    "register 32": "registering, 32 clients",
    "register batch": "registering, 1,000 a request",
}
_MARKED = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> int:
    """Write tables and plots; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_report", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("report", type=Path, help="what benchmarks.bench wrote")
    parser.add_argument("--page", type=Path, default=Path("docs/benchmarks.md"))
    parser.add_argument("--plots", type=Path, default=Path("docs/benchmarks"), help="a folder")
    arguments = parser.parse_args()
    try:
        report = json.loads(arguments.report.read_text(encoding="utf-8"))
        page = arguments.page.read_text(encoding="utf-8")
        filled = fill(page, tables(report))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"nothing written: {error}\n")
        return 1
    except KeyError as error:
        sys.stderr.write(f"nothing written: {arguments.report} has no {error}\n")
        return 1
    arguments.plots.mkdir(parents=True, exist_ok=True)
    plots(report, arguments.plots, TITLES)
    arguments.page.write_text(filled, encoding="utf-8")
    return 0


def fill(page: str, made: Mapping[str, str]) -> str:
    """Return a page with its tables replaced; that of `scale_report` stays as it is.

    Raises ValueError for a name that is none.
    """

    def replaced(match: re.Match[str]) -> str:
        if match[2] == GROWTH:
            return match[0]
        if match[2] not in made:
            raise ValueError(f"there is no table {match[2]!r}, only {', '.join(made)}")
        return f"{match[1]}{made[match[2]]}\n{match[3]}"

    filled, count = _MARKED.subn(replaced, page)
    if not count:
        raise ValueError("the page has no '<!-- table: NAME -->' with an '<!-- end -->'")
    return filled


def tables(report: Report) -> dict[str, str]:
    """Return the Markdown tables of a report, by name."""
    systems = report["settings"]["systems"]
    rounds = [*report["rounds"], *report["registering"]]
    return {
        "machine": table(["", ""], [[name, found] for name, found in report["machine"].items()]),
        "rates": by_system(
            WORKLOADS, systems, lambda key, name: spread(_values(rounds, key, name, "rate"), whole)
        ),
        "ratios": _ratios(rounds, [name for name in systems if name != "deja"]),
        "one-client": by_system(
            {"p50": "p50, ms", "p99": "p99, ms"},
            systems,
            lambda which, name: spread(_values(rounds, "one", name, which), tenths),
        ),
        "open-loop": _open_loop(rounds, systems),
        "agreement": _agreement(report["rounds"]),
        "costs": _costs(report, systems),
        "others": _others(rounds),
    }


def by_system(
    rows: Mapping[str, str], systems: Sequence[str], cell: Callable[[str, str], str]
) -> str:
    """Return a table with a column a system. rows: titles by the key that `cell` gets."""
    heads = ["", *(TITLES[name] for name in systems)]
    return table(
        heads, [[title, *(cell(key, name) for name in systems)] for key, title in rows.items()]
    )


def spread(values: Sequence[float], cell: Cell) -> str:
    """Return the median of some rounds, with the least and the most; a dash without any."""
    if not values:
        return NONE
    middle = cell(statistics.median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({cell(min(values))} to {cell(max(values))})"


def whole(value: float) -> str:
    """Return a number without decimals."""
    return f"{value:,.0f}"


def tenths(value: float) -> str:
    """Return a number with one decimal."""
    return f"{value:,.1f}"


def hundredths(value: float) -> str:
    """Return a number with two decimals."""
    return f"{value:,.2f}"


def _values(rounds: Sequence[Report], workload: str, name: str, field: str) -> list[float]:
    """Return a figure of a system in each round that has it."""
    found = [row["figures"].get(workload, {}).get(name) for row in rounds]
    return [one[field] for one in found if one is not None]


def _ratios(rounds: Sequence[Report], others: Sequence[str]) -> str:
    rows = {f"{key} rate": f"{title}, a second" for key, title in WORKLOADS.items()}
    rows["one p50"] = "lookups, one client, p50"

    def cell(key: str, name: str) -> str:
        found = [row["ratios"].get(key, {}).get(name) for row in rounds]
        return spread([ratio for ratio in found if ratio is not None], hundredths)

    return by_system(rows, others, cell)


def _open_loop(rounds: Sequence[Report], systems: Sequence[str]) -> str:
    loads = sorted({key for row in rounds for key in row["figures"] if "open" in key})
    rows = []
    for load in loads:
        what = "registering" if load.startswith("register") else "lookups"
        for name in systems:
            kept = _values(rounds, load, name, "kept_up")
            if not kept:
                continue
            offered = spread(_values(rounds, load, name, "offered"), whole)
            latency = [spread(_values(rounds, load, name, at), tenths) for at in ("p50", "p99")]
            said = "yes" if all(kept) else f"not in {kept.count(False)} of {len(kept)} rounds"
            title = f"{TITLES[name]}, {what}, {load.split()[-1]}"
            rows.append([title, offered, *latency, said])
    return table(["", "offered a second", "p50, ms", "p99, ms", "kept up"], rows)


def _agreement(rounds: Sequence[Report]) -> str:
    def shares(key: str, pair: str) -> str:
        found = [row.get(key, {}).get(pair) for row in rounds]
        return spread([share * 100 for share in found if share is not None], tenths)

    pairs = dict.fromkeys(pair for row in rounds for pair in row["agreement"])
    rows = []
    for pair in pairs:
        title = " and ".join(TITLES[name] for name in pair.split())
        rows.append([title, shares("agreement", pair), shares("agreement by label", pair)])
    return table(["", "same nearest text, %", "of a label, %"], rows)


def _costs(report: Report, systems: Sequence[str]) -> str:
    def mebibytes(value: float | None) -> str:
        return NONE if value is None else whole(value / 2**20)

    def start(name: str) -> str:
        found = report["cold_start"].get(name)
        if found is None:
            return NONE
        return spread(found["seconds"], tenths) + ("" if found["kept"] else ", empty")

    cells: dict[str, Callable[[str], str]] = {
        "memory empty, MiB": lambda name: mebibytes(report["fill"][name].get("rss_empty")),
        "memory filled, MiB": lambda name: mebibytes(report["fill"][name]["rss_filled"]),
        "memory after lookups, MiB": lambda name: mebibytes(
            report["fill"][name]["rss_after_lookups"]
        ),
        "growth an anchor, kB": lambda name: (
            tenths(report["fill"][name]["bytes_an_anchor"] / 1e3)
            if "bytes_an_anchor" in report["fill"][name]
            else NONE
        ),
        "filling, anchors a second": lambda name: (
            whole(report["fill"][name]["rate"]) if "rate" in report["fill"][name] else NONE
        ),
        "start to first answer, s": start,
        "packages on disk, MiB": lambda name: mebibytes(
            report["install"].get(name, {}).get("bytes")
        ),
    }
    return by_system({key: key for key in cells}, systems, lambda key, name: cells[key](name))


def _others(rounds: Sequence[Report]) -> str:
    rows = []
    for key, title in WORKLOADS.items():
        measured = [row["figures"].get(key, {}) for row in rounds]
        found = [one for row in measured for one in row.values()]
        ours = [
            row["figures"][key]["deja"] for row in rounds if "deja" in row["figures"].get(key, {})
        ]
        if not found or not ours:
            continue
        share = [one["generator_cpu"] * one["rate"] / 1e4 for one in ours]
        others = [one["others"] * 100 for one in found]
        rows.append([title, spread(share, tenths), spread(others, tenths)])
    heads = ["", "load generator for Deja, % of a core", "other processes, % of all cores"]
    return table(heads, rows)


if __name__ == "__main__":
    sys.exit(main())
