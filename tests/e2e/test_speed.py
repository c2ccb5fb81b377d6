"""A large loss of speed fails the tests; a small one can be measured."""

from __future__ import annotations

import csv
import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.made_up import made_up
from tests.checkout import needs_git
from tests.e2e.conftest import ROOT

_HEADING = "milliseconds, medians before now again now by before again by now"


def test_a_lookup_is_not_much_slower_than_the_bare_calls() -> None:
    """With 32 clients the service answers at least the stated fraction of the floor's rate."""
    command = [sys.executable, "-m", "benchmarks.regression"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_git
def test_two_versions_are_compared_in_one_run(tmp_path: Path) -> None:
    """The version that is committed is extracted, started and asked beside the present one."""
    ballast = tmp_path / "ballast" / "questions.tsv.gz"
    ballast.parent.mkdir()
    with gzip.open(ballast, "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(["text"])
        writer.writerows([text] for text in made_up(2_000, 1))
    options = ["--data", str(tmp_path), "--anchors", "20", "--blocks", "1"]
    command = [sys.executable, "-m", "benchmarks.side_by_side", "HEAD", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    heading, *lines = done.stdout.splitlines()
    assert " ".join(heading.split()) == _HEADING
    assert len(lines) == 4
    for each in lines:
        *_, before, now, again, by_before, by_now = each.split()
        assert float(by_before) == pytest.approx(float(now) / float(before), rel=0.05)
        assert float(by_now) == pytest.approx(float(again) / float(now), rel=0.05)
