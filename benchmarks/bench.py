"""Deja beside what one would take instead, in one run on the same cores.

    python -m benchmarks.bench --data ../shared/data --json bench.json

All systems hold the same anchors and are asked the same distinct questions, other ones in every
measurement; one of them runs at a time, the others are stopped by a signal. Within a round they
take turns, and ratios are computed within a round. README.md says how to read the figures.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import texts
from benchmarks.bench_machine import cold_starts, described, install_sizes, pin
from benchmarks.bench_rounds import Material, lookup_round, registering_round
from benchmarks.load import LoadFailed
from benchmarks.measuring import Budget
from benchmarks.service import ROOT, ServiceFailed
from benchmarks.starting import SYSTEMS, filled
from benchmarks.systems import NEAREST, Anchor

PEERS_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
_REGISTERED_A_ROUND = 2_600
_LABELS = 10  # of the anchors, in turn: each is of a tenth of them


def main() -> int:
    """Measure, write and print; return the exit status."""
    parser = _parser()
    arguments = parser.parse_args()
    names = arguments.systems.split(",")
    if unknown := set(names) - set(SYSTEMS):
        parser.error(f"no such system: {', '.join(sorted(unknown))}; there are {','.join(SYSTEMS)}")
    if arguments.quick:
        arguments.anchors, arguments.rounds = min(arguments.anchors, 300), 1
    if arguments.rounds < 1 or arguments.anchors < _LABELS * NEAREST:
        parser.error(f"at least one round and {_LABELS * NEAREST} anchors are needed")
    budget = Budget(1.0, 25, 200) if arguments.quick else Budget(8.0, 100, 3_000)
    pinned = pin(arguments.cores)
    try:
        report = measure(arguments, names, budget, pinned)
    except (LoadFailed, ServiceFailed) as error:
        sys.stderr.write(f"failed, nothing measured: {error}\n")
        return 1
    arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(
        f"written to {arguments.json}; python -m benchmarks.bench_report {arguments.json} shows it"
    )
    return 0


def measure(
    arguments: argparse.Namespace, names: list[str], budget: Budget, pinned: list[int]
) -> dict[str, Any]:
    """Return everything measured, as it is written. Raises LoadFailed, ServiceFailed."""
    material = gathered(arguments, budget)
    python = arguments.peers_python
    sizes = install_sizes(names, python)
    with tempfile.TemporaryDirectory(prefix="deja-bench-") as temporary:
        folder = Path(temporary)
        with ExitStack() as stack:
            systems, fills = [], {}
            for name in names:
                system, fill = stack.enter_context(filled(name, folder, python, material.anchors))
                systems.append(system)
                fills[name] = fill
                say(f"{name}: filled")
            rounds = []
            for number in range(arguments.rounds):
                rounds.append(lookup_round(systems, material, number, arguments.seed, budget))
                say(f"round {number + 1}: {rounds[-1]['said']}")
            after = {system.name: system.rss() for system in systems}
            registered = []
            for number in range(arguments.rounds):
                registered.append(
                    registering_round(systems, material, number, arguments.seed, budget)
                )
                say(f"registering, round {number + 1}: done")
        starts = cold_starts(names, folder, python, material.anchors, 1 if arguments.quick else 3)
    for name, fill in fills.items():
        fill["rss_after_lookups"] = after[name]
    return {
        "machine": described(python, names),
        "settings": {
            "anchors": len(material.anchors),
            "rounds": arguments.rounds,
            "seed": arguments.seed,
            "systems": names,
            "quick": arguments.quick,
            "cores": pinned,
            "budget": asdict(budget),
        },
        "install": sizes,
        "fill": fills,
        "rounds": rounds,
        "registering": registered,
        "cold_start": starts,
    }


def gathered(arguments: argparse.Namespace, budget: Budget) -> Material:
    """Return the texts of all measurements, none of them twice.

    Questions are those of the pairs, and texts of ballast that are no anchors where they run out.
    """
    late = arguments.rounds * _REGISTERED_A_ROUND
    needed = arguments.rounds * Material.WORKLOADS * budget.most
    asked = texts.questions(arguments.data, 0, arguments.seed).others
    # Some texts of ballast come twice, or are among the questions.
    held = texts.ballast(arguments.data, int((arguments.anchors + late + needed) * 1.2) + 1_000)
    held = list(dict.fromkeys(held))
    anchors, new = held[: arguments.anchors], held[arguments.anchors :][:late]
    taken = {*anchors, *new}
    pool = [text for text in dict.fromkeys([*asked, *held]) if text not in taken]
    if len(pool) < needed:
        raise SystemExit(f"{needed} distinct questions are needed, there are {len(pool)}")
    return Material(
        anchors=_anchors("anchor", anchors),
        new=_anchors("new", new),
        questions=pool[:needed],
        rounds=arguments.rounds,
    )


def _anchors(name: str, texts_: list[str]) -> list[Anchor]:
    return [
        Anchor(f"{name}-{place}", text, f"label-{place % _LABELS}")
        for place, text in enumerate(texts_)
    ]


def say(line: str) -> None:
    """Report progress."""
    sys.stderr.write(f"{line}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where to write")
    parser.add_argument("--anchors", type=int, default=10_000, help="texts of ballast")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="with commas between")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cores", type=int, default=2, help="to run everything on")
    parser.add_argument("--peers-python", type=Path, default=PEERS_PYTHON, help="has the peers")
    parser.add_argument("--quick", action="store_true", help="a try: its figures mean little")
    return parser


if __name__ == "__main__":
    sys.exit(main())
