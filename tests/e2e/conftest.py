"""The service as a process of its own, started and ended as its owner would."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
START_SECONDS = 30.0


class Process:
    """A `deja serve` process on a free port of the loopback address."""

    def __init__(
        self, data_dir: Path, log: Path, *, largest_file: int | None = None, **settings: str
    ) -> None:
        self._log = log
        self.data_dir = data_dir
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("DEJA_")}
        port = settings.get("DEJA_PORT") or str(free_port())
        environment = {
            **inherited,
            "DEJA_DATA_DIR": str(data_dir),
            "DEJA_PORT": port,
            **settings,
        }
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [Path(sys.executable).with_name("deja"), "serve"],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=output,
                # Nothing but a system call runs in the child before it becomes the service.
                preexec_fn=partial(limit_files, largest_file) if largest_file else None,  # noqa: PLW1509
            )
        self.url = f"http://127.0.0.1:{port if port.isdigit() else 0}"
        self.http = httpx.Client(base_url=self.url, timeout=30)

    @property
    def log(self) -> str:
        """Return all it has printed."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def ready(self) -> Process:
        """Wait until it answers; return it."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log
            try:
                if self.http.get("/readyz").status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        raise AssertionError("not ready in time:\n" + self.log)

    def exited(self) -> int:
        """Wait until it has ended; return its exit status."""
        return self.process.wait(START_SECONDS)

    def kill(self) -> None:
        """End it as a power cut would: no handler runs."""
        self.process.kill()
        self.process.wait(START_SECONDS)

    def stop(self) -> int:
        """Ask it to end; return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.exited()


Start = Callable[..., Process]


def limit_files(size: int) -> None:
    """Let this process write no file larger than `size` bytes: a disk that gets full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return what starts processes; those still running are ended afterwards."""
    started: list[Process] = []

    def run(
        data_dir: Path | None = None, *, largest_file: int | None = None, **settings: str
    ) -> Process:
        log = tmp_path / f"log-{len(started)}"
        data_dir = data_dir or tmp_path / "data"
        process = Process(data_dir, log, largest_file=largest_file, **settings)
        started.append(process)
        return process

    yield run
    for process in started:
        process.http.close()
        if process.process.poll() is None:
            process.kill()
