"""The results on disk, so that a run that was stopped can go on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.service import ServiceFailed

Json = dict[str, Any]
FORMAT = 1


def read(path: Path, settings: Json, machine: dict[str, str]) -> Json:
    """Return the results of an earlier run, or the beginning of new ones.

    Raises SystemExit where they cannot go on: measured by other settings or on another machine.
    """
    if not path.exists():
        return {"format": FORMAT, "machine": machine, "settings": settings, "sizes": {}}
    results = load(path)
    for name, mine in (("settings", settings), ("machine", machine)):
        theirs = results[name]
        other = [key for key in {**mine, **theirs} if theirs.get(key) != mine.get(key)]
        if other:
            raise SystemExit(
                f"{path} was measured with another {name} ({', '.join(sorted(other))}); repeat "
                "that run's options to go on with it, or name another --json to begin anew"
            )
    return results


def load(path: Path) -> Json:
    """Return results. Raises SystemExit where a file holds none."""
    try:
        results: Json = json.loads(path.read_text(encoding="utf-8"))
        good = results["format"] == FORMAT and isinstance(results["sizes"], dict)
    except FileNotFoundError:
        raise SystemExit(f"{path} is missing: benchmarks.scale writes it with --json") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"{path} holds no results of benchmarks.scale ({error})") from error
    if not good:
        raise SystemExit(f"{path} has another format than this release of benchmarks.scale writes")
    return results


def write(path: Path, results: Json) -> None:
    """Write results whole, or leave those that are there. Raises ServiceFailed where it cannot."""
    beside = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise ServiceFailed(
            f"{path} cannot be written ({error.strerror}); name another --json"
        ) from error


def finished(results: Json) -> list[int]:
    """Return the sizes at which everything was measured, ascending."""
    return sorted(int(size) for size, done in results["sizes"].items() if "recall" in done)


def time_left(results: Json, sizes: Sequence[int]) -> str:
    """Return a guess, in words: an anchor still to come takes what one did at the largest size."""
    ended = finished(results)
    taken = {int(size): sum(done["seconds"].values()) for size, done in results["sizes"].items()}
    waiting = [size for size in sizes if size not in ended]
    if not waiting:
        return "nothing left"
    if not ended:
        return "how much is left is known after the first size"
    rate = taken[ended[-1]] / ended[-1]
    left = sum(max(0.0, rate * size - taken.get(size, 0.0)) for size in waiting)
    return f"very roughly {left / 60:.0f} min left"
