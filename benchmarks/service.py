"""A server process: started on a free loopback port, watched, and stopped again."""

from __future__ import annotations

import http.client
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).resolve().parent.parent
DEJA = (sys.executable, "-c", "from app.cli import main; main()", "serve")

_TICKS = os.sysconf("SC_CLK_TCK")
_START_SECONDS = 300.0
_STOP_SECONDS = 60.0


class ServiceFailed(Exception):
    """A server did not start, or did not become what was waited for; with the end of its log."""


@dataclass(slots=True)
class Process:
    """A running process, and what it takes of the machine."""

    process: subprocess.Popen[bytes]
    log: Path

    def rss(self) -> int:
        """Return the memory in use (resident), in bytes."""
        return self._memory("VmRSS")

    def peak_rss(self) -> int:
        """Return the most memory in use (resident) since the start, in bytes."""
        return self._memory("VmHWM")

    def cpu_seconds(self) -> float:
        """Return the processor time taken since the start, of all threads, to 10 ms or so."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8")
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def pause(self) -> None:
        """Stop it from running at all, until `resume`."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run again."""
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Ask it to end, and wait; kill it if it does not."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End it at once (`kill -9`)."""
        self.process.kill()
        self.process.wait()

    def _memory(self, field: str) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        (line,) = (line for line in status.splitlines() if line.startswith(field + ":"))
        return int(line.split()[1]) * 1024


# Longer than an index waits, without a change, before it merges what is left.
QUIET = 7.0


@dataclass(slots=True)
class Service(Process):
    """A running server.

    port: on 127.0.0.1. ready_seconds: from the start of the process to its first 200 where it says
    that it is ready.
    """

    port: int
    ready_seconds: float = 0.0

    def wait_idle(self, *, quiet: float = QUIET, timeout: float = 900.0) -> float:
        """Return the seconds until background work was over.

        quiet: for so many seconds the process takes less than 3% of a core. They do not count.
        Raises ServiceFailed after `timeout` seconds.
        """
        started = time.perf_counter()
        last, since = self.cpu_seconds(), started
        while (now := time.perf_counter()) < started + timeout:
            if now - since >= quiet:
                return since - started
            time.sleep(0.1)
            taken = self.cpu_seconds()
            if taken - last > 0.03 * quiet:
                last, since = taken, time.perf_counter()
        raise ServiceFailed(f"still busy after {timeout:.0f} s")


@contextmanager
def running(
    command: Sequence[str],
    port: int,
    log: Path,
    environment: Mapping[str, str] | None = None,
    ready: str = "/readyz",
    *,
    folder: Path = ROOT,
) -> Iterator[Service]:
    """Start a server, hand it out once it is ready, and stop it if it still runs afterwards.

    port: where it will listen. log: the file to append its output to. ready: the path that answers
    with 200 once it is. folder: where the command runs.
    Raises ServiceFailed where it does not become ready.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DEJA_")}
    started = time.perf_counter()
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - the commands are written down in this package
            command,
            cwd=folder,
            env={**kept, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    service = Service(process, log, port)
    try:
        service.ready_seconds = _wait_ready(service, ready, started)
        yield service
    finally:
        service.stop()


@contextmanager
def deja(data: Path, tree: Path = ROOT) -> Iterator[Service]:
    """Run Deja with its own settings on a data folder; see `running`. tree: its source tree."""
    data.mkdir(parents=True, exist_ok=True)
    port = free_port()
    settings = {"DEJA_PORT": str(port), "DEJA_DATA_DIR": str(data)}
    log = data.parent / "deja.log"
    # Python looks in the folder it runs in before it looks among what is installed.
    with running(DEJA, port, log, settings, folder=tree) as service:
        yield service


def free_port() -> int:
    """Return a loopback port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def get(port: int, path: str) -> tuple[int, bytes]:
    """Return the status and body of a GET. Raises OSError where nothing answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def folder_bytes(folder: Path) -> int:
    """Return the size of all files in a folder, in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, str]:
    """Return what a figure depends on: the machine and the versions of what was measured."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    models = [line.split(":", 1)[1].strip() for line in cpu.splitlines() if "model name" in line]
    memory = Path("/proc/meminfo").read_text(encoding="utf-8").split()[1]
    names = ("onnxruntime", "faiss-cpu", "tokenizers", "fastapi", "uvicorn", "numpy")
    return {
        "cores": str(cores()),
        "cpu": models[0] if models else platform.machine(),
        "memory": f"{int(memory) / 2**20:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


class Measured(Protocol):
    """Something that takes processor time: a process, or several."""

    def cpu_seconds(self) -> float:
        """Return what it took since its start, in seconds of one core."""


class Watch:
    """Processor time between two moments: of what is measured, of this process, of all others."""

    def __init__(self, *measured: Measured) -> None:
        self._measured = measured
        self._from = self._now()

    def taken(self) -> tuple[float, float]:
        """Return what is measured took since, in seconds of one core, and the others' share.

        The share, 0 to 1, is of all cores and of the time since: above a few hundredths, the
        figures are of a machine that was busy with something else too.
        """
        start, busy, server, own = (
            after - before for before, after in zip(self._from, self._now(), strict=True)
        )
        return server, max(0.0, busy - server - own) / (start * (os.cpu_count() or 1))

    def _now(self) -> tuple[float, float, float, float]:
        # user, nice, system, idle, iowait, irq, softirq, steal: all but idle and iowait is work.
        fields = Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:9]
        ticks = sum(int(field) for place, field in enumerate(fields) if place not in (3, 4))
        own = time.process_time()
        return (
            time.perf_counter(),
            ticks / _TICKS,
            sum(one.cpu_seconds() for one in self._measured),
            own,
        )


def _wait_ready(service: Service, path: str, started: float) -> float:
    """Return the seconds from `started` to the first 200 on `path`."""
    while time.perf_counter() < started + _START_SECONDS and service.process.poll() is None:
        try:
            status, _ = get(service.port, path)
        except OSError:
            status = 0
        if status == 200:
            return time.perf_counter() - started
        time.sleep(0.01)
    end = service.log.read_text(encoding="utf-8", errors="replace")[-2000:]
    raise ServiceFailed(f"not ready ({service.process.args!r}); the end of its log:\n{end}")
