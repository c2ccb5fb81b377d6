"""A round: all systems take turns in each workload, and ratios are taken within it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

from benchmarks.measuring import (
    CLIENTS,
    SHARES,
    Budget,
    Figures,
    agreements,
    check_visible,
    labelled_lookups,
    lookup_batches,
    lookups,
    lookups_when_due,
    registering,
    registering_when_due,
)
from benchmarks.systems import BATCH, Anchor, LabelledQuestion, Server, System

_VISIBLE = 50  # anchors whose next lookup is checked, a round


@dataclass(frozen=True)
class Material:
    """The texts of a run, all distinct: `questions` for lookups, `new` to be registered late."""

    WORKLOADS: ClassVar[int] = 6

    anchors: list[Anchor]
    new: list[Anchor]
    questions: list[str]
    rounds: int

    def asked(self, number: int, workload: int) -> list[str]:
        """Return the questions of a workload in a round; each system asks the first of them."""
        size = len(self.questions) // (self.rounds * self.WORKLOADS)
        start = (number * self.WORKLOADS + workload) * size
        return self.questions[start : start + size]

    @cached_property
    def held(self) -> Mapping[str, AbstractSet[str]]:
        """Return the texts of the anchors of each label."""
        texts: dict[str, set[str]] = defaultdict(set)
        for anchor in self.anchors:
            texts[anchor.label].add(anchor.text)
        return texts

    def labelled(self, number: int) -> list[LabelledQuestion]:
        """Return questions of a round, each with a label, all labels in turn."""
        labels = list(self.held)
        asked = self.asked(number, self.WORKLOADS - 1)
        return [
            LabelledQuestion(question, labels[place % len(labels)])
            for place, question in enumerate(asked)
        ]

    def registered(self, number: int) -> list[Anchor]:
        """Return the anchors to register in a round."""
        size = len(self.new) // self.rounds
        return self.new[number * size : (number + 1) * size]


def lookup_round(
    systems: Sequence[System], material: Material, number: int, seed: int, budget: Budget
) -> dict[str, Any]:
    """Return the figures of each workload by system, ratios to Deja, and agreements."""
    budget = budget.within(len(material.asked(number, 0)))
    figures: dict[str, dict[str, Figures]] = {}
    best: dict[str, list[str]] = {}
    one, many = figures.setdefault("one", {}), figures.setdefault("many", {})
    for system in systems:
        one[system.name], best[system.name] = lookups(system, material.asked(number, 0), 1, budget)
    for system in systems:
        many[system.name], _ = lookups(system, material.asked(number, 1), CLIENTS, budget)
    for place, share in enumerate(SHARES):
        row = figures.setdefault(f"open {share:.0%}", {})
        for system in systems:
            rate = many[system.name].rate * share
            asked = material.asked(number, 2 + place)
            found = lookups_when_due(system, asked, rate, seed + number, budget)
            if found is not None:
                row[system.name] = found
    row = figures.setdefault("batch", {})
    for system in systems:
        found = lookup_batches(system, material.asked(number, 4), budget)
        if found is not None:
            row[system.name] = found
    row = figures.setdefault("labelled", {})
    best_labelled: dict[str, list[str]] = {}
    for system in systems:
        both = labelled_lookups(system, material.labelled(number), material.held, budget)
        if both is not None:
            row[system.name], best_labelled[system.name] = both
    return {
        "figures": _plain(figures),
        "ratios": ratios(figures),
        "agreement": agreements(best),
        "agreement by label": agreements(best_labelled),
        "said": ", ".join(f"{name} {row.rate:,.0f}/s" for name, row in many.items()),
    }


def registering_round(
    systems: Sequence[System], material: Material, number: int, seed: int, budget: Budget
) -> dict[str, Any]:
    """Return the figures of registering by system, and ratios to Deja."""
    figures: dict[str, dict[str, Figures]] = {"register batch": {}}
    visible = 0
    new = material.registered(number)
    batch, single = new[:BATCH], new[BATCH:]
    quarter = len(single) // 4
    few = Budget(budget.seconds, 10, budget.most).within(quarter - CLIENTS)
    for system in systems:
        if not system.most_registering:
            continue
        figures["register batch"][system.name] = registering(system, batch, 1, BATCH, few)
    for place, clients in enumerate((1, CLIENTS)):
        row = figures.setdefault(f"register {clients}", {})
        for system in systems:
            if system.most_registering >= clients:
                part = single[place * quarter : (place + 1) * quarter]
                row[system.name] = registering(system, part, clients, 1, few)
    for system in systems:
        if isinstance(system, Server) and system.name == "deja":
            rate = figures[f"register {CLIENTS}"][system.name].rate / 2
            part = single[2 * quarter : 3 * quarter]
            figures["register open 50%"] = {
                system.name: registering_when_due(system, part, rate, seed + number, few)
            }
            visible = check_visible(system, single[3 * quarter :][:_VISIBLE])
    return {"figures": _plain(figures), "ratios": ratios(figures), "visible": visible}


def ratios(figures: dict[str, dict[str, Figures]]) -> dict[str, dict[str, float]]:
    """Return Deja's rate by each other system's, and its p50 by theirs for one client."""
    found: dict[str, dict[str, float]] = {}
    for workload, row in figures.items():
        ours = row.get("deja")
        if ours is None or workload.startswith(("open", "register open")):
            continue
        others = {name: theirs for name, theirs in row.items() if name != "deja"}
        found[f"{workload} rate"] = {name: ours.rate / row.rate for name, row in others.items()}
        if workload == "one":
            found["one p50"] = {name: ours.p50 / row.p50 for name, row in others.items()}
    return found


def _plain(figures: dict[str, dict[str, Figures]]) -> dict[str, dict[str, dict[str, Any]]]:
    return {
        workload: {name: asdict(found) for name, found in row.items()}
        for workload, row in figures.items()
    }
