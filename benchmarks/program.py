"""A program that is asked in lines of JSON and answers in lines of JSON.

For what is measured without being a server itself. It runs in a process of its own, so that it can
be stopped by a signal while others are measured, and its cost is its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load import LoadFailed
from benchmarks.service import ROOT, Process


@dataclass(slots=True)
class Program(Process):
    """A running program: `tell` it a command, then `hear` its answer."""

    def tell(self, **command: Any) -> None:
        """Send a command."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(command).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def hear(self) -> dict[str, Any]:
        """Return the next answer. Raises LoadFailed where the program ended or says an error."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise self._ended()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise LoadFailed(f"{self.process.args!r}: {answer['error']}")
        return answer

    def call(self, **command: Any) -> dict[str, Any]:
        """Return the answer to a command."""
        self.tell(**command)
        return self.hear()

    def _ended(self) -> LoadFailed:
        end = self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
        return LoadFailed(f"{self.process.args!r} ended; the end of its log:\n{end}")


@contextmanager
def programs(
    command: Sequence[str],
    log: Path,
    count: int = 1,
    environment: Mapping[str, str] | None = None,
) -> Iterator[list[Program]]:
    """Start `count` processes of a program, and end them afterwards. log: of their errors."""
    started: list[Program] = []
    try:
        with log.open("ab") as errors:
            for _ in range(count):
                process = subprocess.Popen(  # noqa: S603 - the commands are written in this package
                    command,
                    cwd=ROOT,
                    env={**os.environ, **(environment or {})},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                )
                started.append(Program(process, log))
        yield started
    finally:
        for program in started:
            program.resume()
            for stream in (program.process.stdin, program.process.stdout):
                if stream is not None:
                    stream.close()
            program.stop()


def serve(commands: Mapping[str, Callable[..., dict[str, Any]]]) -> None:
    """Answer commands from the standard input until it ends. What is printed goes to the log."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a library that prints would otherwise answer in our place
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = commands[command.pop("do")](**command)
        except Exception as error:  # noqa: BLE001 - the other side reports it
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
