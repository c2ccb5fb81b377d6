"""For tests of what works in a checkout of the repository alone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def _checked_out() -> bool:
    git = shutil.which("git")
    if git is None:
        return False
    command = [git, "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


needs_git = pytest.mark.skipif(not _checked_out(), reason="not a checkout that git can read")
