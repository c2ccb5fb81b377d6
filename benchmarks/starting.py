"""Starting each of the systems, empty or on what it kept, and filling it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.asked_programs import BareCalls, chroma
from benchmarks.floor import floor
from benchmarks.load import LoadFailed
from benchmarks.systems import BATCH, Anchor, Server, System, served

SYSTEMS = ("deja", "floor", "obvious", "txtai", "chroma")

_QUIET_SECONDS = 2.0


def started(name: str, folder: Path, python: Path) -> AbstractContextManager[System]:
    """Start a system that registers, on what it kept in its part of a folder."""
    if name == "chroma":
        return chroma(folder / name, python)
    return served(name, folder / name, python)


@contextmanager
def filled(
    name: str, folder: Path, python: Path, anchors: Sequence[Anchor]
) -> Iterator[tuple[System, dict[str, Any]]]:
    """Start a system that holds `anchors`, paused, and what filling it measured.

    python: of the peers. Memory in bytes, `rate` in anchors a second, `BATCH` a request by one
    client. The floor is filled from vectors, so it has only memory.
    """
    if name == "floor":
        with floor(
            folder, [anchor.text for anchor in anchors], [anchor.label for anchor in anchors]
        ) as workers:
            bare = BareCalls(workers)
            bare.pause()
            yield bare, {"rss_filled": bare.rss()}
        return
    with started(name, folder, python) as system:
        empty = system.rss()
        load = system.register(anchors, 1, BATCH)
        if isinstance(system, Server):
            system.service.wait_idle()
        else:
            time.sleep(_QUIET_SECONDS)
        full = system.rss()
        asked = system.ask([anchors[0].text], 1)
        if system.texts(asked.answers[0])[0][0] != anchors[0].text:
            raise LoadFailed(f"{name} does not find its first anchor")
        system.pause()
        yield (
            system,
            {
                "rate": len(anchors) / load.seconds,
                "rss_empty": empty,
                "rss_filled": full,
                "bytes_an_anchor": (full - empty) / len(anchors),
            },
        )
