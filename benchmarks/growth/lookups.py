"""Lookups at rest: by one client, by many, and under filters."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from app.encoders.onnx import OnnxEncoder
from benchmarks.growth import bare
from benchmarks.growth.anchors import SHARES
from benchmarks.growth.growing import STEADY_RATE
from benchmarks.growth.steady import Asking, Steady, summary
from benchmarks.load import DUPLICATES, ask, matches_of, post
from benchmarks.main_job import CLIENTS, PAUSE_SECONDS
from benchmarks.service import Service, Watch

ROUNDS = 5
WARM_UP = 100  # lookups, not counted
STEADY_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Lookups of one client, each sent once the last is answered; milliseconds."""

    questions: int
    p50: float
    p99: float
    most: float


@dataclass(frozen=True, slots=True)
class AtRest:
    """Lookups while the service has nothing else to do.

    bare: the encoder's p50 in milliseconds for the same questions, right after them, in rounds;
    to_bare: the median of the rounds' ratios. rate: lookups a second of `CLIENTS` clients.
    steady: a client that asks at fixed moments, as during merges. filtered: by label.
    busy_with_others: the share of all cores that other processes took, 0 to 1.
    """

    one: Latency
    bare: float
    to_bare: float
    rate: float
    rate_p99: float
    steady: Steady
    filtered: dict[str, Latency]
    busy_with_others: float


def needed(count: int) -> int:
    """Return how many questions `at_rest` takes. count: of one client."""
    return WARM_UP + count + 2 * count + len(SHARES) * (count // 2)


def at_rest(
    service: Service, encoder: OnnxEncoder, questions: Sequence[str], steady: Iterator[str]
) -> AtRest:
    """Return what lookups take. questions: as many as `needed` says, none asked before."""
    count = (len(questions) - WARM_UP) * 2 // (6 + len(SHARES))
    left = iter(questions)

    def following(number: int) -> list[str]:
        return [next(left) for _ in range(number)]

    time.sleep(PAUSE_SECONDS)
    watch = Watch(service)
    ask(service.port, following(WARM_UP), clients=1)
    taken: list[float] = []
    alone: list[float] = []
    ratios: list[float] = []
    for number in range(ROUNDS):
        part = following(count // ROUNDS + (number < count % ROUNDS))
        load = ask(service.port, part, clients=1)
        encoding = bare.latencies(encoder, part)
        taken += load.latencies.tolist()
        alone += encoding
        ratios.append(statistics.median(load.latencies.tolist()) / statistics.median(encoding))
    many = ask(service.port, following(2 * count), clients=CLIENTS)
    filtered = {label: _filtered(service, following(count // 2), label) for label in SHARES}
    _, others = watch.taken()
    with Asking(service.port, steady, STEADY_RATE) as asking:
        time.sleep(STEADY_SECONDS)
    return AtRest(
        one=_latency(taken),
        bare=statistics.median(alone) * 1e3,
        to_bare=statistics.median(ratios),
        rate=many.rate,
        rate_p99=many.percentile(99),
        steady=summary(*asking.result()),
        filtered=filtered,
        busy_with_others=others,
    )


def _filtered(service: Service, questions: Sequence[str], label: str) -> Latency:
    bodies = [
        json.dumps({"question": text, "limit": 10, "filter": {"label": label}}).encode()
        for text in questions
    ]
    load = post(service.port, DUPLICATES, bodies, clients=1)
    for answer in load.answers:
        matches_of(answer)
    return _latency(load.latencies.tolist())


def _latency(seconds: Sequence[float]) -> Latency:
    taken = np.array(seconds) * 1e3
    p50, p99 = np.percentile(taken, [50, 99], method="inverted_cdf")
    return Latency(len(taken), float(p50), float(p99), float(taken.max()))
