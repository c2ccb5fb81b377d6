"""The main job on real input: register 100,000 texts, then look up questions asked before.

    python -m benchmarks.main_job --data ../shared/data

A real service process on the loopback, with its own settings and a temporary data folder, is given
texts of `ballast` and the first question of each of many duplicate pairs of `qqp/dev`, in one
shuffled order. Then the second question of each pair is looked up, and others for the timings; no
question is asked twice. It ends with restarts. README.md says how to read what is printed.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import texts
from benchmarks.load import DUPLICATES, Load, LoadFailed, ask, matches_of, post
from benchmarks.service import (
    Service,
    ServiceFailed,
    Watch,
    deja,
    folder_bytes,
    get,
    machine,
)
from benchmarks.texts import Pair

ANCHORS = "/v1/collections/default/anchors"
COLLECTION = "/v1/collections/default"
BATCH = 1_000  # anchors a request
IN_FLIGHT = 2  # requests
CLIENTS = 32
ONE_CLIENT_QUESTIONS = 500  # a round
QUESTIONS = 2_000  # a round, by `CLIENTS` clients
PAUSE_SECONDS = 1.0  # before each measurement


@dataclass(frozen=True, slots=True)
class Import:
    """What registering took; `idle_after_seconds` more until background work was over."""

    anchors: int
    seconds: float
    rate: float
    idle_after_seconds: float
    busy_with_others: float


@dataclass(frozen=True, slots=True)
class Found:
    """How often the answer held the pair's first question; shares of all pairs, 0 to 1.

    first_or_linked: the best match is the partner or another anchor that a chain of marked
    duplicates links to the question. verdicts: of whole answers. partner_verdicts: of the partner
    where it is in the first ten.
    """

    pairs: int
    first: float
    first_ten: float
    first_or_linked: float
    verdicts: dict[str, int]
    partner_verdicts: dict[str, int]


@dataclass(frozen=True, slots=True)
class Lookups:
    """One timing of distinct questions; latencies in milliseconds, processor time a lookup in µs.

    busy_with_others: the share of all cores that other processes took meanwhile.
    """

    clients: int
    questions: int
    rate: float
    p50: float
    p99: float
    service_cpu: float
    generator_cpu: float
    busy_with_others: float


@dataclass(frozen=True, slots=True)
class Restarts:
    """Seconds from the start of a process to its first 200 on /readyz."""

    empty: float
    after_stop: list[float]
    after_kill: list[float]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything measured; sizes in bytes."""

    machine: dict[str, str]
    encoder: str
    imported: Import
    found: Found
    lookups: list[Lookups]
    rss_after_import: int
    rss_after_lookups: int
    peak_rss: int
    data_bytes: int
    restarts: Restarts


def main() -> int:
    """Do the job and print what was measured; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.main_job", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--anchors", type=int, default=100_000, help="texts of ballast")
    parser.add_argument("--pairs", type=int, default=2_000, help="duplicate pairs of qqp/dev")
    parser.add_argument("--rounds", type=int, default=3, help="of timings, and of restarts")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write everything to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="deja-main-job-") as folder:
        try:
            report = measure(
                Path(folder, "data"),
                ballast=texts.ballast(arguments.data, arguments.anchors + arguments.rounds * BATCH),
                questions=texts.questions(arguments.data, arguments.pairs, arguments.seed),
                rounds=arguments.rounds,
                rng=random.Random(arguments.seed),
            )
        except (LoadFailed, ServiceFailed) as error:
            sys.stderr.write(f"failed, nothing measured: {error}\n")
            return 1
    print_report(report)
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
    return 0


def measure(
    data: Path,
    *,
    ballast: Sequence[str],
    questions: texts.Questions,
    rounds: int,
    rng: random.Random,
) -> Report:
    """Return what the whole job measured.

    data: the service's data folder, empty. ballast: with a last `BATCH` of texts for each round,
    which are registered just before a `kill -9`.
    Raises LoadFailed or ServiceFailed where anything was not as it should be.
    """
    early, late = ballast[: -rounds * BATCH], ballast[-rounds * BATCH :]
    anchors = [(f"ballast-{place}", text) for place, text in enumerate(early)]
    anchors += [(f"pair-{place}", pair.anchor) for place, pair in enumerate(questions.pairs)]
    rng.shuffle(anchors)
    with deja(data) as service:
        empty = service.ready_seconds
        info = json.loads(get(service.port, "/v1/info")[1])
        say(f"ready in {empty:.1f} s; registering {len(anchors):,} anchors")
        imported = register(service, anchors)
        say(f"{imported.rate:.0f} anchors/s; looking up")
        rss_after_import, data_bytes = service.rss(), folder_bytes(data)
        timing, load = timed(service, [pair.question for pair in questions.pairs], CLIENTS)
        found = judge(questions.pairs, load.answers)
        lookups = [timing]
        asked = 0
        for _ in range(rounds):
            for clients, count in ((1, ONE_CLIENT_QUESTIONS), (CLIENTS, QUESTIONS)):
                part = questions.others[asked : asked + count]
                if len(part) < count:
                    raise LoadFailed("there are not enough distinct questions; use fewer rounds")
                asked += count
                lookups.append(timed(service, part, clients)[0])
        rss_after_lookups, peak_rss = service.rss(), service.peak_rss()
    say("restarting")
    return Report(
        machine=machine(),
        encoder=f"{info['encoder']['name']} ({info['encoder']['precision']}), "
        f"manifest {info['encoder']['fingerprint'][:12]}",
        imported=imported,
        found=found,
        lookups=lookups,
        rss_after_import=rss_after_import,
        rss_after_lookups=rss_after_lookups,
        peak_rss=peak_rss,
        data_bytes=data_bytes,
        restarts=restart(data, len(anchors), late, rounds, empty),
    )


def register(service: Service, anchors: Sequence[tuple[str, str]]) -> Import:
    """Register anchors (id and text), `BATCH` a request; return what it took."""
    bodies = [
        json.dumps(
            {"anchors": [{"id": key, "text": text} for key, text in anchors[start : start + BATCH]]}
        ).encode()
        for start in range(0, len(anchors), BATCH)
    ]
    watch = Watch(service)
    load = post(service.port, ANCHORS, bodies, clients=IN_FLIGHT, statuses=(201,), timeout=3600)
    _, others = watch.taken()
    idle_after = service.wait_idle()
    expect_anchors(service, len(anchors))
    return Import(len(anchors), load.seconds, len(anchors) / load.seconds, idle_after, others)


def expect_anchors(service: Service, count: int) -> None:
    """Raise LoadFailed unless the collection holds `count` anchors."""
    held = json.loads(get(service.port, COLLECTION)[1])["anchors"]
    if held != count:
        raise LoadFailed(f"the collection holds {held} anchors, not {count}")


def timed(service: Service, questions: Sequence[str], clients: int) -> tuple[Lookups, Load]:
    """Look up distinct questions; return the timing, and the answers with it."""
    time.sleep(PAUSE_SECONDS)
    watch = Watch(service)
    load = ask(service.port, questions, clients=clients)
    service_cpu, others = watch.taken()
    count = len(questions)
    timing = Lookups(
        clients=clients,
        questions=count,
        rate=load.rate,
        p50=load.percentile(50),
        p99=load.percentile(99),
        service_cpu=service_cpu / count * 1e6,
        generator_cpu=load.cpu_seconds / count * 1e6,
        busy_with_others=others,
    )
    return timing, load


def judge(pairs: Sequence[Pair], answers: Sequence[bytes]) -> Found:
    """Return how well the answers to the pairs' second questions find their first ones."""
    first = ten = linked = 0
    verdicts: Counter[str] = Counter()
    partner_verdicts: Counter[str] = Counter()
    for place, (pair, answer) in enumerate(zip(pairs, answers, strict=True)):
        matches = matches_of(answer)
        ids = [match["id"] for match in matches]
        verdicts[json.loads(answer)["verdict"]] += 1
        partner = f"pair-{place}"
        if partner in ids:
            ten += 1
            first += ids[0] == partner
            partner_verdicts[matches[ids.index(partner)]["verdict"]] += 1
        kind, _, number = ids[0].partition("-")
        linked += kind == "pair" and pairs[int(number)].group == pair.group
    return Found(
        pairs=len(pairs),
        first=first / len(pairs),
        first_ten=ten / len(pairs),
        first_or_linked=linked / len(pairs),
        verdicts=dict(verdicts.most_common()),
        partner_verdicts=dict(partner_verdicts.most_common()),
    )


def restart(data: Path, anchors: int, late: Sequence[str], rounds: int, empty: float) -> Restarts:
    """Return the times of starts on a full data folder, after a stop and after `kill -9`.

    late: texts, of which `BATCH` are registered just before each kill; they must be there after.
    """
    after_stop: list[float] = []
    after_kill: list[float] = []
    for number in range(rounds):
        with deja(data) as service:
            after_stop.append(service.ready_seconds)
            expect_anchors(service, anchors)
            part = late[number * BATCH : (number + 1) * BATCH]
            body = {"anchors": [{"text": text} for text in part]}
            post(service.port, ANCHORS, [json.dumps(body).encode()], clients=1, statuses=(201,))
            service.kill()
        anchors += BATCH
        with deja(data) as service:
            after_kill.append(service.ready_seconds)
            expect_anchors(service, anchors)
            post(service.port, DUPLICATES, [json.dumps({"question": part[0]}).encode()], clients=1)
    return Restarts(empty, after_stop, after_kill)


def print_report(report: Report) -> None:
    """Print everything, a line each; timings as medians of their rounds."""
    for name, value in report.machine.items():
        print(f"{name:<28}{value}")
    imported, found, restarts = report.imported, report.found, report.restarts
    one = [timing for timing in report.lookups if timing.clients == 1]
    many = [timing for timing in report.lookups if timing.clients > 1]
    rows = [
        ("encoder", report.encoder),
        ("anchors", f"{imported.anchors:,}"),
        ("import", f"{imported.rate:,.0f} anchors/s ({imported.seconds:.0f} s)"),
        ("background work over", f"{imported.idle_after_seconds:.1f} s after the last answer"),
        ("partner comes first", f"{found.first:.1%} of {found.pairs:,}"),
        ("partner in the first ten", f"{found.first_ten:.1%}"),
        ("first is linked to it", f"{found.first_or_linked:.1%} (partner or another duplicate)"),
        ("verdicts", counted(found.verdicts)),
        ("verdicts on the partner", counted(found.partner_verdicts)),
        *lookup_rows("1 client", one),
        *lookup_rows(f"{CLIENTS} clients", many),
        ("memory after import", f"{report.rss_after_import / 2**20:,.0f} MiB (resident)"),
        ("memory after lookups", f"{report.rss_after_lookups / 2**20:,.0f} MiB"),
        ("memory, most", f"{report.peak_rss / 2**20:,.0f} MiB"),
        ("data folder", f"{report.data_bytes / 2**20:,.0f} MiB"),
        ("start, empty", f"{restarts.empty:.2f} s to ready"),
        ("restart after a stop", spread(restarts.after_stop)),
        ("restart after kill -9", f"{spread(restarts.after_kill)}, nothing lost"),
        ("other processes", f"took {_others(report):.0%} of the cores (median)"),
    ]
    for name, value in rows:
        print(f"{name:<28}{value}")


def lookup_rows(who: str, rounds: Sequence[Lookups]) -> list[tuple[str, str]]:
    """Return the lines on some rounds of one kind."""

    def median(name: str) -> float:
        return float(statistics.median(getattr(timing, name) for timing in rounds))

    rates = [timing.rate for timing in rounds]
    share = statistics.median(timing.generator_cpu * timing.rate / 1e6 for timing in rounds)
    generator = f"{median('generator_cpu'):.0f} µs, {share:.1%} of a core"
    return [
        (f"lookups, {who}", f"{median('rate'):,.0f}/s ({min(rates):,.0f} to {max(rates):,.0f})"),
        ("  latency", f"p50 {median('p50'):.2f} ms, p99 {median('p99'):.2f} ms"),
        (
            "  processor time",
            f"{median('service_cpu'):.0f} µs a lookup; the load generator {generator}",
        ),
    ]


def counted(counts: dict[str, int]) -> str:
    """Return counts in words."""
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def spread(seconds: Sequence[float]) -> str:
    """Return the median of some seconds, with the least and the most."""
    middle = statistics.median(seconds)
    return f"{middle:.2f} s to ready ({min(seconds):.2f} to {max(seconds):.2f})"


def say(line: str) -> None:
    """Report progress."""
    sys.stderr.write(f"{line}\n")


def _others(report: Report) -> float:
    return statistics.median(timing.busy_with_others for timing in report.lookups)


if __name__ == "__main__":
    sys.exit(main())
