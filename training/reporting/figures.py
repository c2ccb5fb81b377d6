"""What an evaluation says: figures set by set, what changed against the base, the one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from training.reporting.run_folder import Json, mapping, number

BASE, FP32, INT8, REFERENCE = "base", "fp32", "int8", "reference"
REFERENCE_NAME = "all-mpnet-base-v2"
# What is read first of each kind of dev set, and what else it tells; all shares, 0..1.
FIGURES: Mapping[str, Mapping[str, str]] = {
    "pairs": {
        "average_precision": "average precision",
        "roc_auc": "ROC AUC",
        "best_f1": "best F1",
        "accuracy": "accuracy at the best cut-off",
    },
    "one_shot": {"accuracy": "one-shot accuracy", "open_set_auroc": "AUROC of 'none of these'"},
    "retrieval": {
        "ndcg@10": "nDCG@10",
        "mrr@10": "MRR@10",
        "map@100": "MAP@100",
        "recall@1": "recall@1",
        "recall@10": "recall@10",
    },
}
# Below half a unit of the last digit shown, a change is none.
_NO_CHANGE = 0.05


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of one dev set, for every encoder that has it.

    key, name: in the evaluation, and in words; main: whether it is the one read first;
    values: share, 0..1, by role; spread: standard deviation over draws, by role, where drawn.
    """

    dev_set: str
    kind: str
    key: str
    name: str
    main: bool
    values: Mapping[str, float]
    spread: Mapping[str, float] = field(default_factory=dict)

    def change(self, role: str) -> float | None:
        """Return the role's figure less the base's, in points (hundredths), None without both."""
        if BASE not in self.values or role not in self.values:
            return None
        return 100 * (self.values[role] - self.values[BASE])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What tuning did, in two figures.

    gain: change in points on the trained domain; worst: the set that fared worst of all others,
    with its change in points, None where no other was measured.
    """

    domain: str
    gain: float
    worst: tuple[str, float] | None


def by_role(encoders: Sequence[Json]) -> dict[str, Json]:
    """Return the encoders of an evaluation by what they are to this run.

    An encoder's own `role` decides, of several with one the first; then the reference's name; the
    rest come as base, fp32, int8, the order in which training writes them. Any further ones go by
    their names.
    """
    found: dict[str, Json] = {}
    rest: list[Json] = []
    for encoder in encoders:
        name, role = str(encoder.get("name", "")), encoder.get("role")
        if isinstance(role, str):
            found[name if role in found else role] = encoder
        elif REFERENCE_NAME in name.casefold() and REFERENCE not in found:
            found[REFERENCE] = encoder
        else:
            rest.append(encoder)
    free = [role for role in (BASE, FP32, INT8) if role not in found]
    for place, encoder in enumerate(rest):
        role = free[place] if place < len(free) else str(encoder.get("name") or f"encoder {place}")
        found.setdefault(role, encoder)
    order = {BASE: 0, FP32: 1, INT8: 2, REFERENCE: 3}
    return dict(sorted(found.items(), key=lambda item: order.get(item[0], 4)))


def served_role(roles: Mapping[str, Json]) -> str | None:
    """Return the role that is served: int8 where there is one, else fp32, else None."""
    return next((role for role in (INT8, FP32) if role in roles), None)


def figures(roles: Mapping[str, Json]) -> list[Figure]:
    """Return every figure that some encoder has, set by set as they come, main ones first."""
    kinds: dict[str, str] = {}
    for encoder in roles.values():
        for name, measured in mapping(encoder.get("sets")).items():
            kinds.setdefault(name, str(mapping(measured).get("kind")))
    found: list[Figure] = []
    for dev_set, kind in kinds.items():
        for key, name in FIGURES.get(kind, {}).items():
            measured = {
                role: mapping(mapping(encoder.get("sets")).get(dev_set)).get(key)
                for role, encoder in roles.items()
            }
            means = {role: _mean(value) for role, value in measured.items()}
            spread = {role: number(mapping(value).get("std")) for role, value in measured.items()}
            values = {role: value for role, value in means.items() if value is not None}
            if values:
                # Telling that a text is of no class is another task, to be gained or lost.
                open_set = key == "open_set_auroc"
                main = open_set or key == next(iter(FIGURES[kind]))
                label = f"{dev_set} open-set" if open_set else dev_set
                spreads = {role: value for role, value in spread.items() if value is not None}
                found.append(Figure(label, kind, key, name, main, values, spreads))
    return found


def trained_domain(config: Json, measured: Sequence[Figure]) -> str | None:
    """Return the dev set of the trained domain: the config's `domain`, else the first of pairs."""
    names = [figure.dev_set for figure in measured]
    if config.get("domain") in names:
        return str(config["domain"])
    of_pairs = [figure.dev_set for figure in measured if figure.kind == "pairs"]
    return next(iter(of_pairs), None)


def outcome(domain: str | None, changes: Mapping[str, float | None]) -> Outcome | None:
    """Return gain and worst loss from the change in points of every set; None without a gain."""
    gain = None if domain is None else changes.get(domain)
    if domain is None or gain is None:
        return None
    others = [
        (name, change) for name, change in changes.items() if name != domain and change is not None
    ]
    return Outcome(domain, gain, min(others, key=lambda item: item[1], default=None))


def run_outcome(measured: Sequence[Figure], domain: str | None, role: str) -> Outcome | None:
    """Return what tuning did to an encoder's main figures; None without the domain's change."""
    return outcome(domain, {item.dev_set: item.change(role) for item in measured if item.main})


def row_outcome(row: Json, domain: str | None) -> Outcome | None:
    """Return what one row of a comparison did; None where it has not both figures."""
    base = mapping(row.get("base"))
    changes: dict[str, float | None] = {}
    for name, value in mapping(row.get("sets")).items():
        tuned, before = _mean(value), _mean(base.get(name))
        changes[name] = None if tuned is None or before is None else 100 * (tuned - before)
    return outcome(domain, changes)


def sentence(found: Outcome, measured: Sequence[Figure], role: str) -> str:
    """Return gain and worst loss in one sentence that says loss where it is one."""
    main = {item.dev_set: item for item in measured if item.main}
    trained = main[found.domain]
    span = f"{100 * trained.values[BASE]:.1f}% to {100 * trained.values[role]:.1f}%"
    if abs(found.gain) < _NO_CHANGE:
        first = f"changed nothing in {trained.name} on {found.domain} ({span})"
    elif found.gain > 0:
        first = f"gained {found.gain:.1f} points of {trained.name} on {found.domain} ({span})"
    else:
        first = (
            f"made it worse on its own domain: {-found.gain:.1f} points of {trained.name} lost "
            f"on {found.domain} ({span})"
        )
    if found.worst is None:
        return f"{first}; no other set was measured, so what it forgot is not known"
    name, change = found.worst
    if change <= -_NO_CHANGE:
        lost = f"{-change:.1f} points, {main[name].name} on {name}"
        return f"{first}; its worst loss elsewhere is {lost}"
    if change < _NO_CHANGE:
        return f"{first}; it lost nothing on any other set ({name} fared worst, unchanged)"
    return f"{first}; it lost nothing on any other set (the least gain is {change:.1f}, {name})"


def _mean(value: object) -> float | None:
    return number(mapping(value).get("mean")) if isinstance(value, Mapping) else number(value)
