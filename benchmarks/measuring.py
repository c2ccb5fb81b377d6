"""One measurement of one system, checked: what `benchmarks.bench` repeats."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.load import DUPLICATES, Load, LoadFailed, post_request, send
from benchmarks.open_loop import Opened, schedule, send_when_due
from benchmarks.service import Watch
from benchmarks.systems import NEAREST, Anchor, LabelledQuestion, Server, System

CLIENTS = 32
LOOKUPS_A_BATCH = 100
SHARES = (0.5, 0.8)  # of a system's own saturation, in the open loops
# Systems with the same vectors find the same nearest text, but for rounding and approximate search.
AGREEMENT = 0.95
SAME_VECTORS = (frozenset({"deja", "floor"}), frozenset({"obvious", "txtai", "chroma"}))
_WARM_UP = 50

_T = TypeVar("_T")
_PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Figures:
    """One measurement.

    count: questions or anchors; rate: of those, a second. p50, p99: of a request, in milliseconds.
    system_cpu, generator_cpu: processor time of one question or anchor, in µs. others: the share of
    all cores that other processes took meanwhile, 0 to 1. offered: the rate of an open loop.
    kept_up: whether everything was answered; where not, latencies are less than they would be.
    """

    count: int
    rate: float
    p50: float
    p99: float
    system_cpu: float
    generator_cpu: float
    others: float
    offered: float | None = None
    kept_up: bool = True


@dataclass(frozen=True, slots=True)
class Budget:
    """How much is asked in a measurement: what takes `seconds`, but `least` to `most`."""

    seconds: float
    least: int
    most: int

    def count(self, rate: float) -> int:
        """Return how many at a rate of so many a second."""
        return max(self.least, min(self.most, round(rate * self.seconds)))

    def within(self, there: int) -> Budget:
        """Return one for which `there` are enough at any rate."""
        return Budget(self.seconds, min(self.least, there), min(self.most, there))

    def chosen(self, items: Sequence[_T], rate: float) -> Sequence[_T]:
        """Return the first of `items`, as many as `count` says. Raises LoadFailed if they lack."""
        count = self.count(rate)
        if count > len(items):
            raise LoadFailed(f"{count} distinct texts are needed, and {len(items)} are there")
        return items[:count]


@contextmanager
def awake(system: System) -> Iterator[Watch]:
    """Let a system run for one measurement, and watch who takes the processor."""
    system.resume()
    try:
        time.sleep(_PAUSE_SECONDS)
        yield Watch(system)
    finally:
        system.pause()


def lookups(
    system: System, questions: Sequence[str], clients: int, budget: Budget
) -> tuple[Figures, list[str]]:
    """Return a closed loop's figures, and the nearest text of each question asked, in order."""
    system.resume()
    # Others than those that count, which would be in a cache afterwards.
    expected = system.ask(warm_up(questions), clients).rate
    with awake(system) as watch:
        asked = budget.chosen(questions, expected)
        load = system.ask(asked, clients)
        taken = watch.taken()
    return _closed(load, len(asked), taken), nearest_of(system, load.answers)


def labelled_lookups(
    system: System,
    questions: Sequence[LabelledQuestion],
    held: Mapping[str, AbstractSet[str]],
    budget: Budget,
) -> tuple[Figures, list[str]] | None:
    """Return what `lookups` does among the anchors of a label, by one client.

    None where there is no such thing. held: the texts of each label. Raises LoadFailed where an
    answer has another text than those.
    """
    system.resume()
    texts = warm_up([one.question for one in questions])
    others = [
        LabelledQuestion(text, one.label) for text, one in zip(texts, questions, strict=False)
    ]
    first = system.ask_labelled(others)
    if first is None:
        system.pause()
        return None
    with awake(system) as watch:
        asked = budget.chosen(questions, first.rate)
        load = system.ask_labelled(asked)
        taken = watch.taken()
    assert load is not None
    nearest = nearest_of(system, load.answers)
    for one, answer in zip(asked, load.answers, strict=True):
        (found,) = system.texts(answer)
        if not set(found) <= held[one.label]:
            raise LoadFailed(f"{system.name}: not all of label {one.label!r}: {found!r}")
    return _closed(load, len(asked), taken), nearest


def lookups_when_due(
    system: System, questions: Sequence[str], rate: float, seed: int, budget: Budget
) -> Figures | None:
    """Return an open loop's figures at `rate` a second; None where there is no such thing."""
    with awake(system) as watch:
        asked = budget.chosen(questions, rate)
        opened = system.ask_when_due(asked, rate, seed)
        taken = watch.taken()
    if opened is None:
        return None
    nearest_of(system, [answer for answer in opened.answers if answer])
    return _open(opened, rate, taken)


def lookup_batches(system: System, questions: Sequence[str], budget: Budget) -> Figures | None:
    """Return the figures of lookups `LOOKUPS_A_BATCH` a request; None as above."""
    system.resume()
    first = system.ask_batches(warm_up(questions), LOOKUPS_A_BATCH)
    if first is None:
        system.pause()
        return None
    with awake(system) as watch:
        chosen = budget.chosen(questions, _WARM_UP / first.seconds)
        asked = chosen[: max(len(chosen) // LOOKUPS_A_BATCH, 1) * LOOKUPS_A_BATCH]
        load = system.ask_batches(asked, LOOKUPS_A_BATCH)
        taken = watch.taken()
    assert load is not None
    if len(nearest_of(system, load.answers)) != len(asked):
        raise LoadFailed(f"{system.name}: a batch was not answered whole")
    return _closed(load, len(asked), taken)


def registering(
    system: System, anchors: Sequence[Anchor], clients: int, size: int, budget: Budget
) -> Figures:
    """Return the figures of registering distinct anchors, `size` a request."""
    few = clients if size == 1 else 0
    system.resume()
    expected = system.register(anchors[:few], clients, size).rate if few else 0.0
    with awake(system) as watch:
        left = anchors[few:]
        chosen = budget.chosen(left, expected) if few else left[:size]
        load = system.register(chosen, clients, size)
        taken = watch.taken()
    return _closed(load, len(chosen), taken)


def registering_when_due(
    server: Server, anchors: Sequence[Anchor], rate: float, seed: int, budget: Budget
) -> Figures:
    """Return the figures of registering single anchors in an open loop."""
    with awake(server) as watch:
        operations = server.registering(budget.chosen(anchors, rate), 1)
        due = schedule(len(operations), rate, seed)
        opened = send_when_due(server.service.port, operations, due, statuses=(200, 201))
        taken = watch.taken()
    return _open(opened, rate, taken)


def check_visible(server: Server, anchors: Sequence[Anchor]) -> int:
    """Return how many anchors Deja found in the very next request after it acknowledged them.

    By several clients at once. Raises LoadFailed where one does not come first with certainty.
    """
    port = server.service.port
    operations = []
    for anchor in anchors:
        asked = json.dumps({"question": anchor.text, "limit": NEAREST}).encode()
        register = server.wire.register(port, [anchor])
        operations.append((*register, post_request(port, DUPLICATES, asked)))
    server.resume()
    load = send(port, operations, clients=8, statuses=(200, 201))
    server.pause()
    for anchor, answer in zip(anchors, load.answers, strict=True):
        first = json.loads(answer)["matches"][0]
        if (first["id"], first["probability"]) != (anchor.id, 1):
            raise LoadFailed(f"{anchor} was acknowledged, and the next lookup found {first}")
    return len(anchors)


def nearest_of(system: System, answers: Sequence[bytes]) -> list[str]:
    """Return the nearest text of each question. Raises LoadFailed unless all have ten."""
    found = list(itertools.chain.from_iterable(system.texts(answer) for answer in answers))
    for texts in found:
        if len(texts) != NEAREST:
            raise LoadFailed(f"{system.name}: {len(texts)} matches, not {NEAREST}: {texts[:1]!r}")
    return [texts[0] for texts in found]


def agreements(best: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Return for each two systems the share of questions with the same nearest text, 0 to 1.

    best: of each system, to the same questions; the shorter list counts. Raises LoadFailed where
    two systems with the same vectors agree on fewer than `AGREEMENT`.
    """
    shares = {}
    for left, right in itertools.combinations(best, 2):
        both = list(zip(best[left], best[right], strict=False))
        share = sum(one == other for one, other in both) / len(both)
        shares[f"{left} {right}"] = share
        if share < AGREEMENT and any({left, right} <= group for group in SAME_VECTORS):
            raise LoadFailed(
                f"{left} and {right} have the same vectors, but the same nearest text for only "
                f"{share:.1%} of {len(both)} questions"
            )
    return shares


def warm_up(questions: Sequence[str]) -> list[str]:
    """Return distinct questions that nobody asks otherwise."""
    return [f"{text} ({place})" for place, text in enumerate(questions[:_WARM_UP])]


def _closed(load: Load, count: int, taken: tuple[float, float]) -> Figures:
    return _figures(load.latencies, count, load.seconds, load.cpu_seconds, taken)


def _open(opened: Opened, rate: float, taken: tuple[float, float]) -> Figures:
    return _figures(
        opened.latencies,
        sum(1 for answer in opened.answers if answer),
        opened.seconds,
        opened.cpu_seconds,
        taken,
        offered=rate,
        kept_up=opened.kept_up,
    )


def _figures(
    latencies: NDArray[np.float64],
    count: int,
    seconds: float,
    generator: float,
    taken: tuple[float, float],
    *,
    offered: float | None = None,
    kept_up: bool = True,
) -> Figures:
    p50, p99 = np.nanpercentile(latencies, [50, 99], method="inverted_cdf") * 1e3
    return Figures(
        count=count,
        rate=count / seconds,
        p50=float(p50),
        p99=float(p99),
        system_cpu=taken[0] / max(count, 1) * 1e6,
        generator_cpu=generator / max(count, 1) * 1e6,
        others=taken[1],
        offered=offered,
        kept_up=kept_up,
    )
