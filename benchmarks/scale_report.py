"""Tables and plots of how Deja's cost grows, from the results of `benchmarks.scale`.

    python -m benchmarks.scale_report scale.json --output docs/benchmarks

Writes the plots into the folder, and the tables into the page beside it (`docs/benchmarks.md`),
between the lines `<!-- table: scale -->` and `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.growth.plots import plots, svg
from benchmarks.growth.results import Json, finished, load
from benchmarks.growth.targets import (
    Target,
    all_told,
    bytes_an_anchor,
    import_share,
    p50_ratio,
    small_import,
    targets,
    verdict,
    written,
)

NAME = "scale"
_END = "<!-- end -->"
_PAGE = f"# Benchmarks\n\n<!-- table: {NAME} -->\n{_END}\n"

Cell = Callable[[int, Json], str]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, the first column to the left and the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def figures(results: Json) -> str:
    """Return the table of what was measured, a column for each size."""
    sizes = finished(results)

    def share(size: int, _: Json) -> str:
        found = import_share(results, size)
        return "none" if found is None else f"{found:.0%}"

    rows: list[tuple[str, Cell]] = [
        ("lookup p50 / p99, one client, ms", lambda _, done: _pair(done["rest"]["one"])),
        ("bare encoder p50, ms", lambda _, done: f"{done['rest']['bare']:.2f}"),
        ("lookup in bare encoder calls", lambda _, done: f"{done['rest']['to_bare']:.2f}"),
        (
            "p50 to that of the smallest size",
            lambda size, _: f"{p50_ratio(results, size, to_bare=False):.2f}",
        ),
        ("lookups a second, 32 clients", lambda _, done: f"{done['rest']['rate']:,.0f}"),
        *(
            (f"filter of {part:.1%}, p50 / p99, ms", _filter(label))
            for label, part in results["settings"]["filters"].items()
        ),
        ("20 lookups/s at rest, ms", lambda _, done: _three(done["rest"]["steady"])),
        ("… during the import, ms", lambda _, done: _three(done["import"]["lookups"])),
        ("… after it, ms", lambda _, done: _three(done["import"]["after"])),
        ("… while the index merges, ms", lambda _, done: _three(done["merge"]["lookups"])),
        ("import to the bare encoder", share),
        ("memory, bytes an anchor", lambda size, _: f"{bytes_an_anchor(results, size):,.0f}"),
        ("… whole process", lambda size, _: f"{all_told(results, size):,.0f}"),
        (
            "… of the process that grew",
            lambda _, done: "yes" if done["memory"]["grown"] else "no, started after the import",
        ),
        ("most memory, MiB", lambda _, done: f"{done['memory']['peak'] / 2**20:,.0f}"),
        ("database, bytes an anchor", lambda n, done: f"{done['memory']['database'] / n:,.0f}"),
        ("index on disk, bytes an anchor", lambda n, done: f"{done['memory']['index'] / n:,.0f}"),
        ("ready after a stop, s", lambda _, done: _middle(done["restart"]["after_stop"])),
        ("ready after kill -9, s", lambda _, done: _middle(done["restart"]["after_kill"])),
        ("recall@10", lambda _, done: f"{done['recall']['everything']:.4f}"),
        *(
            (f"recall@10, filter of {part:.1%}", _recall(label))
            for label, part in results["settings"]["filters"].items()
        ),
        (
            "other processes' share of the cores",
            lambda _, done: f"{done['rest']['busy_with_others']:.0%}",
        ),
    ]
    return table(
        ["anchors", *(f"{size:,}" for size in sizes)],
        [
            [name, *(cell(size, results["sizes"][str(size)]) for size in sizes)]
            for name, cell in rows
        ],
    )


def judged(results: Json) -> str:
    """Return the table of the targets, at the largest size that was measured."""
    size = finished(results)[-1]
    small = small_import(results)
    found: list[Target] = [*targets(results, size), *([small] if small else [])]
    return table(
        [f"target, at {size:,} anchors", "aimed at", "measured", ""],
        [
            [
                target.name,
                f"{target.bound} {written(target.limit, target.unit)}",
                written(target.value, target.unit),
                verdict(target),
            ]
            for target in found
        ],
    )


def section(results: Json, folder: str) -> str:
    """Return all that goes between the markers. folder: of the plots, as the page names it.

    Raises SystemExit where no size was measured to the end.
    """
    if not finished(results):
        raise SystemExit("no size was measured to the end; run benchmarks.scale again to go on")
    machine = ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    images = "\n\n".join(f"![{plot.title}]({folder}/{plot.file})" for plot in plots(results))
    return (
        f"{figures(results)}\n\nThree latencies are p50 / p99 / longest, from the moment a question"
        f" was due.\n\n{judged(results)}\n\n{images}\n\nMachine: {machine}."
    )


def replaced(page: str, name: str, content: str) -> str:
    """Return a page with other content between the markers of a name.

    Raises SystemExit where it has no such markers.
    """
    start = f"<!-- table: {name} -->"
    pattern = re.compile(re.escape(start) + r".*?" + re.escape(_END), re.DOTALL)
    if not pattern.search(page):
        raise SystemExit(f"the page has no lines {start} and {_END}; write them where it belongs")
    return pattern.sub(lambda _: f"{start}\n{content}\n{_END}", page, count=1)


def main(given: Sequence[str] | None = None) -> int:
    """Write the page and its plots; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale_report",
        description=(__doc__ or "").split("\n", maxsplit=1)[0],
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks"))
    options = parser.parse_args(given)
    results = load(options.results)
    content = section(results, options.output.name)
    page = options.output.with_suffix(".md")
    old = page.read_text(encoding="utf-8") if page.exists() else _PAGE
    new = replaced(old, NAME, content)
    options.output.mkdir(parents=True, exist_ok=True)
    for plot in plots(results):
        (options.output / plot.file).write_text(svg(plot), encoding="utf-8")
    page.write_text(new, encoding="utf-8")
    sys.stderr.write(f"{page} and {len(plots(results))} plots in {options.output}\n")
    return 0


def _pair(one: Json) -> str:
    return f"{one['p50']:.2f} / {one['p99']:.2f}"


def _three(one: Json) -> str:
    if not one["questions"]:
        return "not asked"
    return f"{one['p50']:.1f} / {one['p99']:.1f} / {one['most']:.1f}"


def _middle(seconds: Sequence[float]) -> str:
    return f"{sorted(seconds)[len(seconds) // 2]:.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


def _filter(label: str) -> Cell:
    return lambda _, done: _pair(done["rest"]["filtered"][label])


def _recall(label: str) -> Cell:
    return lambda _, done: f"{done['recall']['filtered'][label]:.4f}"


if __name__ == "__main__":
    sys.exit(main())
