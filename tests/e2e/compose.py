"""A project of Docker Compose of its own: other volumes, another port, nothing of the user's."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.conftest import ROOT, free_port

TAG = "deja-test"
WAIT_SECONDS = 90


def why_no_engine() -> str | None:
    """Return why no containers can be run here, None where they can."""
    try:
        found = _docker("version", "--format", "{{.Server.Version}}", timeout=30)
        compose = _docker("compose", "version", timeout=30)
    except FileNotFoundError:
        return "there is no docker command"
    except subprocess.TimeoutExpired:
        return "the Docker engine does not answer"
    for done in (found, compose):
        if done.returncode:
            return f"no Docker engine with Compose: {said(done).splitlines()[-1]}"
    return None


def said(done: subprocess.CompletedProcess[str]) -> str:
    """Return all that a command printed."""
    return (done.stdout + done.stderr).strip() or f"exit status {done.returncode}"


def docker(*arguments: str, timeout: float = 60) -> str:
    """Return what a docker command that must succeed printed."""
    done = _docker(*arguments, timeout=timeout)
    assert done.returncode == 0, said(done)
    return done.stdout.strip()


def inspect(what: str) -> Any:
    """Return what Docker knows of a container, an image or a volume."""
    return json.loads(docker("inspect", what))[0]


class Compose:
    """The project's compose file under a name and on a port of its own.

    settings: what a user would write into .env.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        self.name = f"deja-test-{uuid.uuid4().hex[:12]}"
        self.port = int(settings.get("DEJA_PORT") or free_port())
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self._files = [ROOT / "docker-compose.yml"]
        self.settings = {"DEJA_TAG": TAG, "DEJA_PORT": str(self.port), **settings}

    def __call__(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Return how `docker compose ARGUMENTS` ended, and all it printed."""
        env_file = self.folder / f"{self.name}.env"
        lines = "".join(f"{name}={value}\n" for name, value in self.settings.items())
        env_file.write_text(lines, encoding="utf-8")
        files = [part for file in self._files for part in ("--file", str(file))]
        return _docker(
            "compose",
            *("--project-name", self.name, "--project-directory", str(ROOT)),
            *("--env-file", str(env_file)),
            *files,
            *arguments,
            timeout=timeout,
        )

    def add(self, override: dict[str, Any]) -> None:
        """Let another compose file count as well."""
        path = self.folder / f"{self.name}-{len(self._files)}.json"
        path.write_text(json.dumps(override), encoding="utf-8")
        self._files.append(path)

    def up(self, seconds: int = WAIT_SECONDS) -> subprocess.CompletedProcess[str]:
        """Start the service, wait until it is healthy or cannot be, and return how that ended."""
        return self(
            "up", "--detach", "--wait", "--wait-timeout", str(seconds), timeout=seconds + 60
        )

    def serving(self) -> httpx.Client:
        """Start the service and return a client of it."""
        started = self.up()
        assert started.returncode == 0, said(started) + self.log()
        return httpx.Client(base_url=self.url, timeout=30)

    def log(self) -> str:
        """Return all the service printed."""
        return said(self("logs", "--no-color", "--no-log-prefix", "deja"))

    def container(self) -> str:
        """Return the id of the service's container."""
        return self("ps", "--all", "--quiet", "deja").stdout.strip()

    def inside(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Return how a command inside the running service's container ended."""
        return self("exec", "--no-TTY", "deja", *command)

    def train(self, *arguments: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """Return how a training run ended."""
        return self("run", "--rm", "--no-TTY", "train", *arguments, timeout=timeout)


@contextmanager
def project(folder: Path, **settings: str) -> Iterator[Compose]:
    """Yield a project; whatever it started or stored is gone afterwards."""
    made = Compose(folder, **settings)
    try:
        yield made
    finally:
        done = made("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "5")
        assert done.returncode == 0, said(done)


def build(*targets: str, folder: Path) -> None:
    """Build the images of services, as their compose file says."""
    done = Compose(folder)("--profile", "*", "build", *targets, timeout=3600)
    assert done.returncode == 0, said(done)[-4000:]


def _docker(*arguments: str, timeout: float) -> subprocess.CompletedProcess[str]:
    environment: dict[str, str] = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DEJA_", "COMPOSE_")) or name == "DEJA_BASE"
    }
    return subprocess.run(
        ["docker", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=environment,
        stdin=subprocess.DEVNULL,
    )


def one_line(text: str, beginning: str) -> str:
    """Return the one line of `text` that begins so."""
    lines: Sequence[str] = [line for line in text.splitlines() if line.startswith(beginning)]
    assert len(lines) == 1, text
    return lines[0]
