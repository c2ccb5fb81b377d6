"""Growing: a bulk import with its bare encoder, then a trickle during which the index merges."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from app.encoders.onnx import OnnxEncoder
from benchmarks.growth import bare
from benchmarks.growth.anchors import BATCH, body, parts
from benchmarks.growth.steady import Asking, Steady, summary
from benchmarks.load import post
from benchmarks.main_job import ANCHORS, IN_FLIGHT, expect_anchors
from benchmarks.service import QUIET, Service, ServiceFailed, Watch

STEADY_RATE = 20.0  # questions a second while the service does other work
TRICKLE_REQUEST = 8  # anchors; more than what the service takes for one person's
TRICKLE_RATE = 128.0  # anchors a second
_LONGEST = 4 * 3600.0  # seconds for a part of an import, or for the background
_WITH_LOOKUPS = 5  # one anchor in so many is imported while lookups are made
_QUIET_SHARE = 0.6  # of a core: less than a merge takes, more than a few lookups a second


@dataclass(frozen=True, slots=True)
class Part:
    """One part of an import, without the pauses around it, and without lookups.

    start, end: how many anchors there were before and after. bare: texts a second that the encoder
    alone took right before and right after, the mean of both, by as many threads.
    busy_with_others: the share of all cores that other processes took, 0 to 1.
    """

    start: int
    end: int
    seconds: float
    bare: float
    busy_with_others: float


@dataclass(frozen=True, slots=True)
class Import:
    """A bulk import, and lookups meanwhile at `STEADY_RATE`.

    lookups: made in the last fifth of each part, which is apart from the part's rate: they take
    their share of the encoder.
    background_seconds: from the last answer until the index had nothing left to do; after: the
    lookups of that time. resumed: whether the stretch was begun by an earlier run.
    """

    parts: list[Part]
    lookups: Steady
    background_seconds: float
    after: Steady
    resumed: bool


@dataclass(frozen=True, slots=True)
class Trickle:
    """Anchors registered a few at a time until the index merges, and the lookups meanwhile.

    background_seconds: from the last registration until the index had nothing left to do.
    """

    anchors: int
    seconds: float
    background_seconds: float
    lookups: Steady
    busy_with_others: float


def merge_rows(count: int) -> int:
    """Return how many rows make `count` anchors merge while more come: see `MergeRule`."""
    return min(max(count // 8, 2_048), 16_384)


def bulk(
    service: Service,
    encoder: OnnxEncoder,
    held: Sequence[str],
    span: tuple[int, int],
    *,
    data: Path,
    questions: Iterator[str],
    sample: int,
    most: int,
    resumed: bool,
) -> Import:
    """Import the anchors of a span, in parts of at most `most`; return what it took.

    held: the texts of all anchors. sample: texts that the bare encoder is given around each part.
    Raises LoadFailed, ServiceFailed.
    """
    found: list[Part] = []
    latencies: list[float] = []
    late: list[float] = []
    statuses = (200, 201) if resumed else (201,)
    begun = time.perf_counter()
    for start, end in parts(*span, most):
        texts = held[start : min(end, start + sample)]
        alone = _alone(start, end)
        before = _paused(service, partial(bare.rate, encoder, texts))
        watch = Watch(service)
        load = post(
            service.port,
            ANCHORS,
            _bodies(held, start, alone),
            clients=IN_FLIGHT,
            statuses=statuses,
            timeout=_LONGEST,
        )
        _, others = watch.taken()
        after = _paused(service, partial(bare.rate, encoder, texts))
        found.append(Part(start, alone, load.seconds, (before + after) / 2, others))
        if alone < end:
            with Asking(service.port, questions, STEADY_RATE) as asking:
                post(
                    service.port,
                    ANCHORS,
                    _bodies(held, alone, end),
                    clients=IN_FLIGHT,
                    statuses=statuses,
                    timeout=_LONGEST,
                )
            taken, lateness = asking.result()
            latencies += taken
            late += lateness
        left = (span[1] - end) * (time.perf_counter() - begun) / (end - span[0])
        say(
            f"  {end:,} anchors, {(alone - start) / load.seconds:,.0f}/s, bare encoder "
            f"{found[-1].bare:,.0f}/s; about {left / 60:.0f} min of the import left"
        )
    say("  until the index has nothing left to do")
    with Asking(service.port, questions, STEADY_RATE) as asking:
        background = until_quiet(service, data)
    service.wait_idle(timeout=_LONGEST)
    expect_anchors(service, span[1])
    return Import(
        found, summary(latencies, late), background, summary(*asking.result()), resumed=resumed
    )


def trickle(
    service: Service,
    held: Sequence[str],
    span: tuple[int, int],
    *,
    data: Path,
    questions: Iterator[str],
) -> Trickle:
    """Register the anchors of a span a few at a time; return what lookups noticed."""
    start, end = span
    watch = Watch(service)
    begun = time.perf_counter()
    with Asking(service.port, questions, STEADY_RATE) as asking:
        for at in range(start, end, TRICKLE_REQUEST):
            time.sleep(max(0.0, begun + (at - start) / TRICKLE_RATE - time.perf_counter()))
            content = body(held, at, min(at + TRICKLE_REQUEST, end))
            post(service.port, ANCHORS, [content], clients=1, statuses=(200, 201))
        seconds = time.perf_counter() - begun
        background = until_quiet(service, data)
    _, others = watch.taken()
    service.wait_idle(timeout=_LONGEST)
    expect_anchors(service, end)
    return Trickle(end - start, seconds, background, summary(*asking.result()), others)


def until_quiet(service: Service, data: Path) -> float:
    """Return the seconds until the index is neither merged nor saved, while lookups go on.

    A few lookups a second keep a service from being idle; a merge takes all of a core, and a save
    has a folder of its own until it is done.
    """
    begun = last = time.perf_counter()
    while (now := time.perf_counter()) < begun + _LONGEST:
        if now - last >= QUIET:
            return last - begun
        before = service.cpu_seconds()
        time.sleep(1)
        share = (service.cpu_seconds() - before) / (time.perf_counter() - now)
        if share > _QUIET_SHARE or any(data.glob("index/*/.unfinished-*")):
            last = time.perf_counter()
    raise ServiceFailed(f"the index was still busy after {_LONGEST:.0f} s")


def say(line: str) -> None:
    """Report progress, with the time of day."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")


def _alone(start: int, end: int) -> int:
    """Return where, of a part, lookups begin: its end where it is too short for both."""
    count = end - start
    return end - max(BATCH, count // _WITH_LOOKUPS) if count >= 2 * BATCH else end


def _bodies(held: Sequence[str], start: int, end: int) -> list[bytes]:
    return [body(held, at, min(at + BATCH, end)) for at in range(start, end, BATCH)]


def _paused(service: Service, measure: Callable[[], float]) -> float:
    """Return a figure of the machine while the service does not run at all."""
    service.pause()
    try:
        return measure()
    finally:
        service.resume()
