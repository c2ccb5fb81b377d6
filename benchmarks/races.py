"""Register unless duplicate, from 32 clients that race, also across `kill -9`.

    python -m benchmarks.races

A real service process on the loopback, with its own settings and a temporary data folder, gets
10,000 requests with `if_duplicate: skip` or `reject`: equal texts, other spellings, paraphrases,
close together in time. It is killed in the middle, again and again; the clients send again what was
not answered. Afterwards everything stored is held against brute force, in the order in which it was
created. Then distinct texts are registered plainly and with `skip`, in turns, for the ratio of
their rates.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import tempfile
import threading
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

from app.encoders.artifact import find_artifact, load_artifact
from app.encoders.head import head_of
from app.encoders.onnx import OnnxEncoder
from app.encoders.unknown import unknown_to
from app.settings import Settings
from app.usecases.matching import Judge
from benchmarks.load import LoadFailed, post
from benchmarks.race_check import PromiseBroken, check, read
from benchmarks.race_clients import ANCHORS, BadAnswer, race
from benchmarks.race_texts import plain, tries
from benchmarks.service import Service, ServiceFailed, deja, get

CLIENTS = 32
ROUNDS = 5


class Restarting:
    """A service that can be killed and started again on the same data folder."""

    def __init__(self, data: Path, stack: ExitStack) -> None:
        self._data = data
        self._stack = stack
        self.service: Service = stack.enter_context(deja(data))

    def port(self) -> int:
        """Return where it listens now."""
        return self.service.port

    def kill(self) -> None:
        """End it as a power cut would, and start another."""
        self.service.kill()
        self.service = self._stack.enter_context(deja(self._data))


def races(count: int, kills: int, seed: int, folder: Path) -> None:
    """Let clients race, and hold what is stored against brute force. Raises PromiseBroken."""
    artifact = load_artifact(find_artifact(Settings().encoder))
    marks = [count * (number + 1) // (kills + 1) for number in range(kills)]
    due = threading.Semaphore(0)
    reached = 0

    def answered(total: int) -> None:
        nonlocal reached
        while reached < len(marks) and total >= marks[reached]:
            reached += 1
            due.release()

    with ExitStack() as stack:
        running = Restarting(folder / "data", stack)

        def killer() -> None:
            for _ in marks:
                due.acquire()
                running.kill()

        killing = threading.Thread(target=killer, daemon=True)
        killing.start()
        outcome = race(tries(count, seed), CLIENTS, running.port, answered)
        killing.join()
        _, exported = get(running.port(), f"{ANCHORS}:export")
        running.service.stop()
    found = {one["id"]: one["text"] for one in map(json.loads, exported.splitlines())}
    stored = read(folder / "data" / "deja.db", found)
    judged = check(
        stored,
        outcome.refused,
        Judge(artifact.calibration, head_of(artifact), unknown_to(artifact)),
        OnnxEncoder(artifact),
    )
    lost = set(outcome.created) - set(stored.ids)
    if lost:
        raise PromiseBroken(f"acknowledged and lost: {sorted(lost)[:3]}")
    statuses = ", ".join(f"{status}: {times:,}" for status, times in outcome.statuses.items())
    print(f"tries          {outcome.statuses.total():,} by {CLIENTS} clients ({statuses})")
    print(f"kills          {kills}, {outcome.lost:,} requests lost to them and sent again")
    print(
        f"created        {len(stored.ids):,}, {len(stored.ids) - len(outcome.created)} unheard of"
    )
    print(
        f"checked        {judged:,} pairs by brute force, {len(outcome.refused):,} refusals: sound"
    )


def rates(texts_a_round: int, folder: Path) -> None:
    """Print how fast distinct texts are registered plainly and with `skip`, in turns."""
    texts = plain(2 * ROUNDS * texts_a_round)
    ratios, plainly, skipping = [], [], []
    created = 0
    with deja(folder / "rates") as service:
        for number in range(ROUNDS):
            taken: dict[str, float] = {}
            order = ["register", "skip"] if number % 2 else ["skip", "register"]
            for mode in order:
                bodies = [
                    json.dumps({"anchors": [{"text": text}], "if_duplicate": mode}).encode()
                    for text in islice(texts, texts_a_round)
                ]
                path = f"/v1/collections/{mode}/anchors"
                if not number:
                    _put(service.port, mode)
                load = post(service.port, path, bodies, clients=CLIENTS, statuses=(200, 201))
                taken[mode] = load.rate
                created += mode == "skip" and sum(b'"created"' in one for one in load.answers)
            plainly.append(taken["register"])
            skipping.append(taken["skip"])
            ratios.append(taken["skip"] / taken["register"])
    print(
        f"rates          skip {statistics.median(skipping):,.0f}/s, plain "
        f"{statistics.median(plainly):,.0f}/s; ratio {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f} in {ROUNDS} rounds of {texts_a_round:,}; "
        f"{created / (ROUNDS * texts_a_round):.0%} of skip's created)"
    )


def _put(port: int, name: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("PUT", f"/v1/collections/{name}", "{}", {"Content-Type": "application/json"})
    connection.getresponse().read()
    connection.close()


def main() -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate-texts", type=int, default=500, help="a round; 0 leaves it out")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="deja-races-") as folder:
            if options.tries:
                races(options.tries, options.kills, options.seed, Path(folder))
            if options.rate_texts:
                rates(options.rate_texts, Path(folder))
    except (BadAnswer, PromiseBroken, LoadFailed, ServiceFailed) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
