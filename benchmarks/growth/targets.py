"""What the figures come to, and whether they are what is aimed at."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from benchmarks.growth.results import Json, finished

MILLION = 1_000_000
GRAPH_FROM = 20_000  # anchors; below, a search is exhaustive
MOST_RATIO = 1.5
LEAST_RECALL = 0.99
MOST_BYTES = 1_600.0
MOST_READY = 5.0
MOST_MERGING = 50.0
LEAST_IMPORT = 0.7
LEAST_IMPORT_SMALL = 0.9


@dataclass(frozen=True, slots=True)
class Target:
    """A figure and what it should be.

    bound: whether the limit is the most or the least that is good enough. judged: whether it is
    meant for so few anchors; what an empty service takes weighs more, the fewer there are.
    """

    name: str
    value: float
    bound: Literal["most", "least"]
    limit: float
    unit: str = ""
    judged: bool = True

    @property
    def met(self) -> bool:
        """Return whether the figure, as measured, is good enough."""
        return self.value <= self.limit if self.bound == "most" else self.value >= self.limit


def import_share(results: Json, size: int) -> float | None:
    """Return how much of the bare encoder's rate the import up to `size` anchors reached, 0 to 1.

    The time that the bare encoder would have taken for the same anchors, each part by its rate in
    the same minutes, as a share of the time that they took. None where nothing was imported.
    """
    parts = [part for part in _parts(results) if part["end"] <= size]
    alone = sum((part["end"] - part["start"]) / part["bare"] for part in parts)
    taken = sum(part["seconds"] for part in parts)
    return alone / taken if taken else None


def p50_ratio(results: Json, size: int, *, to_bare: bool) -> float:
    """Return one client's p50 as a multiple of that at the smallest size.

    to_bare: compare what each is in multiples of the bare encoder's p50 of the same minute.
    """
    smallest = str(min(int(other) for other in results["sizes"]))
    here, first = results["sizes"][str(size)]["rest"], results["sizes"][smallest]["rest"]
    if to_bare:
        return float(here["to_bare"] / first["to_bare"])
    return float(here["one"]["p50"] / first["one"]["p50"])


def bytes_an_anchor(results: Json, size: int) -> float:
    """Return the memory at rest beyond that of an empty service, in bytes an anchor."""
    held = results["sizes"][str(size)]["memory"]["rss"] - results["empty"]["rss"]
    return float(held / size)


def all_told(results: Json, size: int) -> float:
    """Return the memory of the whole process at rest, in bytes an anchor."""
    return float(results["sizes"][str(size)]["memory"]["rss"] / size)


def merging(results: Json, size: int) -> float:
    """Return the longest lookup while the index merged, in ms: after the import and in a trickle.

    What an import itself costs lookups is apart: they share the processor with it there.
    """
    done = results["sizes"][str(size)]
    return float(max(done["import"]["after"]["most"], done["merge"]["lookups"]["most"]))


def targets(results: Json, size: int) -> list[Target]:
    """Return the figures of a size with their targets, which are meant for a million anchors."""
    done = results["sizes"][str(size)]
    found = [
        Target("p50 to smallest", p50_ratio(results, size, to_bare=False), "most", MOST_RATIO, "x"),
        Target(
            "p50 in bare encoder calls, to smallest",
            p50_ratio(results, size, to_bare=True),
            "most",
            MOST_RATIO,
            "x",
        ),
        Target("recall@10", done["recall"]["everything"], "least", LEAST_RECALL),
        *(
            Target(f"recall@10, filter {label}", share, "least", LEAST_RECALL)
            for label, share in done["recall"]["filtered"].items()
        ),
        *(
            Target(name, value, "most", MOST_BYTES, "B", judged=size >= MILLION)
            for name, value in (
                ("memory an anchor", bytes_an_anchor(results, size)),
                ("memory an anchor, whole process", all_told(results, size)),
            )
        ),
        Target(
            "ready after a stop",
            statistics.median(done["restart"]["after_stop"]),
            "most",
            MOST_READY,
            "s",
        ),
        Target(
            "ready after kill -9",
            statistics.median(done["restart"]["after_kill"]),
            "most",
            MOST_READY,
            "s",
        ),
        Target("longest lookup in a merge", merging(results, size), "most", MOST_MERGING, "ms"),
    ]
    share = import_share(results, size)
    if share is not None:
        least = LEAST_IMPORT_SMALL if size <= GRAPH_FROM else LEAST_IMPORT
        found.append(Target("import to bare encoder", share, "least", least))
    return found


def verdict(target: Target) -> str:
    """Return `met` or `missed`, and nothing where the size is not the target's."""
    return ("met" if target.met else "missed") if target.judged else ""


def small_import(results: Json) -> Target | None:
    """Return the import's target up to `GRAPH_FROM` anchors, None where no part ends there."""
    share = import_share(results, GRAPH_FROM)
    if share is None:
        return None
    name = f"import to bare encoder, to {GRAPH_FROM:,}"
    return Target(name, share, "least", LEAST_IMPORT_SMALL)


def written(value: float, unit: str) -> str:
    """Return a figure with as many digits as say something."""
    if unit == "B":
        return f"{value:,.0f} B"
    digits = {"x": 2, "s": 2, "ms": 1}.get(unit, 4)
    return f"{value:.{digits}f}" + ("" if unit in ("", "x") else f" {unit}")


def lines(results: Json, only: int | None = None) -> Iterator[str]:
    """Yield a table of figures and targets, a block for each finished size.

    only: a size to show alone.
    """
    for size in finished(results):
        if only not in (None, size):
            continue
        done = results["sizes"][str(size)]
        rest, merge, memory = done["rest"], done["merge"], done["memory"]
        during = done["import"]["lookups"]
        yield f"{size:,} anchors"
        for name, text in (
            ("lookup, one client", _latency(rest["one"])),
            ("  bare encoder", f"p50 {rest['bare']:.2f} ms; the lookup is {rest['to_bare']:.2f}x"),
            ("lookups, 32 clients", f"{rest['rate']:,.0f}/s, p99 {rest['rate_p99']:.1f} ms"),
            *((f"  filter {label}", _latency(one)) for label, one in rest["filtered"].items()),
            ("steady lookups, at rest", _latency(rest["steady"])),
            ("  during the import", _latency(during)),
            ("  after it", _latency(done["import"]["after"])),
            ("  in a trickle and merge", _latency(merge["lookups"])),
            ("index done after import", f"{done['import']['background_seconds']:.0f} s"),
            ("memory, most", f"{memory['peak'] / 2**20:,.0f} MiB{_since(memory)}"),
            ("disk an anchor", f"{(memory['database'] + memory['index']) / size:,.0f} B"),
            ("other processes", f"took {rest['busy_with_others']:.0%} of the cores"),
        ):
            yield f"  {name:<42}{text}"
        for target in [*targets(results, size), small_import(results)]:
            if target is None:
                continue
            limit = f"{target.bound} {written(target.limit, target.unit)}"
            value = written(target.value, target.unit)
            yield f"  {target.name:<42}{value:>10}   {limit:<16} {verdict(target)}"


def _latency(one: Json) -> str:
    if not one["questions"]:
        return "not asked: the stretch was too short"
    return f"p50 {one['p50']:.2f} ms, p99 {one['p99']:.2f}, most {one['most']:.1f}"


def _since(memory: Json) -> str:
    return "" if memory["grown"] else " (memory is that of a process started after the import)"


def _parts(results: Json) -> list[Json]:
    return [
        part
        for done in results["sizes"].values()
        for part in done.get("import", {}).get("parts", [])
    ]
