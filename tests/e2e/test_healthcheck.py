"""The containers' health check, run against real processes without a container."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.e2e.conftest import ROOT, Start, free_port
from tests.e2e.test_durability import renamed_artifact


def check(port: int) -> tuple[int, str]:
    """Return the exit status of the check and what it says."""
    script = ROOT / "docker" / "healthcheck.py"
    done = subprocess.run(
        [sys.executable, "-I", "-S", script],
        env={**os.environ, "DEJA_PORT": str(port)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).strip()


def test_a_ready_service_is_healthy(start: Start) -> None:
    """Nothing is printed then; a key is not asked for."""
    process = start(DEJA_ADMIN_KEY="k").ready()
    assert check(process.http.base_url.port or 0) == (0, "")


def test_nobody_on_the_port_is_unhealthy() -> None:
    """It says so in one line."""
    port = free_port()
    status, words = check(port)
    assert status == 1
    assert words.startswith(f"nothing answers on port {port} (")
    assert len(words.splitlines()) == 1


def test_a_server_that_accepts_and_says_nothing_is_unhealthy() -> None:
    """It gives up in time for Docker to see why."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        status, words = check(silent.getsockname()[1])
    assert status == 1
    assert "timed out" in words


def test_a_service_that_embeds_anew_is_not_healthy_yet(start: Start, tmp_path: Path) -> None:
    """What it prints is how far the service is; Docker keeps it with the container."""
    first = start().ready()
    anchors = [{"id": f"a{i}", "text": f"Question {i} {'word ' * 40}"} for i in range(900)]
    stored = first.http.post("/v1/collections/default/anchors", json={"anchors": anchors})
    assert stored.status_code == 201
    assert first.stop() == 0
    renamed = renamed_artifact(tmp_path / "artifacts" / "renamed")
    second = start(DEJA_ENCODER=str(renamed))
    port = second.http.base_url.port or 0
    found = check(port)
    while found[0] and "nothing answers" in found[1]:
        assert second.process.poll() is None, second.log
        found = check(port)
    assert found[0] == 1
    assert "not ready" in found[1]
    second.ready()
    assert check(port) == (0, "")
