"""Two versions side by side: what is compared, and what is printed of it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import app
from benchmarks.service import ROOT, ServiceFailed, deja, get
from benchmarks.side_by_side import (
    WORKLOADS,
    Times,
    extract,
    line,
    main,
    measure,
    ratio,
    show,
    sources,
)
from tests.checkout import needs_git


class _Version:
    """Stands in for a service: takes as long as it says, and notes when it may run."""

    def __init__(self, pace: float) -> None:
        self.pace = pace
        self.running = False

    def resume(self) -> None:
        """Let it run."""
        self.running = True

    def pause(self) -> None:
        """Stop it."""
        self.running = False


class _Drifting:
    """Stands in for a workload: a block says how slow the machine is while it is measured."""

    def __init__(self, versions: dict[str, _Version]) -> None:
        self.versions = versions
        self.asked: list[tuple[str, Sequence[str]]] = []

    def measure(self, service: Any, block: Sequence[str]) -> float:
        """Return how long it takes; fails where another version runs beside it."""
        (name,) = (name for name, version in self.versions.items() if version.running)
        assert self.versions[name] is service
        self.asked.append((name, block))
        return service.pace * float(block[0])


def measured(pace: dict[str, float], blocks: Sequence[str]) -> tuple[Times, _Drifting]:
    """Return what is measured of versions with these paces, and what they were asked."""
    versions = {name: _Version(each) for name, each in pace.items()}
    workload = _Drifting(versions)
    services: Any = versions
    standing_in: Any = workload
    return measure(services, standing_in, iter([[block] for block in blocks])), workload


def test_ratios_are_within_a_block() -> None:
    """A machine that becomes three times as slow leaves the ratio as it is."""
    times, _ = measured({"before": 4.0, "now": 3.0, "again": 3.0}, "9123")
    assert times == {"before": [4, 8, 12], "now": [3, 6, 9], "again": [3, 6, 9]}
    assert ratio(times, "now", "before") == "0.750 (0.750 to 0.750)"
    assert ratio(times, "again", "now") == "1.000 (1.000 to 1.000)"


def test_every_version_follows_every_other_as_often() -> None:
    """All get the same texts, one at a time; within six blocks no order comes twice."""
    _, workload = measured({"before": 1.0, "now": 1.0, "again": 1.0}, "123456")
    orders = [
        tuple(name for name, texts in workload.asked if texts == [block]) for block in "123456"
    ]
    assert sorted(orders) == sorted(itertools.permutations(["before", "now", "again"]))


def test_a_line_holds_medians_and_the_middle_half_of_the_ratios() -> None:
    """Numbers stand in the order of the headings."""
    times = {"before": [10.0, 10.0, 10.0], "now": [8.0, 9.0, 5.0], "again": [8.0, 9.0, 6.0]}
    said = " ".join(line(WORKLOADS["many"], times).split())
    assert said == (
        "lookups, 32 clients, each 10.00 8.00 8.00 0.800 (0.650 to 0.850) 1.000 (1.000 to 1.100)"
    )


def test_one_block_has_no_spread() -> None:
    """Nothing is made up where there is one ratio."""
    assert ratio({"now": [3.0], "before": [4.0]}, "now", "before") == "0.750"


def test_only_the_version_before_is_another(tmp_path: Path) -> None:
    """The tree this is run from is measured twice."""
    assert sources(tmp_path) == {"before": tmp_path, "now": ROOT, "again": ROOT}


@needs_git
def test_another_version_runs_its_own_code(tmp_path: Path) -> None:
    """What answers comes from the tree that was extracted, not from what is installed."""
    tree = tmp_path / "tree"
    tree.mkdir()
    extract("HEAD", tree)
    named = tree / "app" / "__init__.py"
    code = named.read_text(encoding="utf-8")
    named.write_text(code.replace(f'"{app.__version__}"', '"0.0.0+before"'), encoding="utf-8")
    with deja(tmp_path / "data", tree) as service:
        assert json.loads(get(service.port, "/v1/info")[1])["version"] == "0.0.0+before"


@needs_git
def test_what_is_no_commit_is_named(tmp_path: Path) -> None:
    """The reason is git's own, and nothing that looks like an option is one."""
    for commit in ("no-such-commit", "--list"):
        with pytest.raises(SystemExit, match=f"^{commit}: no commit of "):
            extract(commit, tmp_path)


def test_numbers_that_measure_nothing_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """They end the command before anything is started."""
    with pytest.raises(SystemExit):
        main(["HEAD", "--blocks", "0"])
    assert "at least 1" in capsys.readouterr().err


def test_a_failure_ends_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """What was measured before it stands; the reason is on stderr, with status 1."""

    def lines() -> Iterator[str]:
        yield "measured"
        raise ServiceFailed("not ready")

    assert show(lines()) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("measured\n", "failed: not ready\n")
