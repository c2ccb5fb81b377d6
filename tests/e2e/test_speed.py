"""A large loss of speed fails the tests."""

from __future__ import annotations

import subprocess
import sys

from tests.e2e.conftest import ROOT


def test_a_lookup_is_not_much_slower_than_the_bare_calls() -> None:
    """With 32 clients the service answers at least the stated fraction of the floor's rate."""
    command = [sys.executable, "-m", "benchmarks.regression"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
