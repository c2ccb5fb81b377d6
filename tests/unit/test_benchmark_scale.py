"""The growth benchmark: what can be held without a service."""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import scale
from benchmarks.growth import results as kept
from benchmarks.growth.anchors import body, label_of, parts
from benchmarks.growth.growing import merge_rows
from benchmarks.growth.plots import plots, svg
from benchmarks.growth.recall import K, exact, recall_of
from benchmarks.growth.steady import Asking, summary
from benchmarks.growth.targets import (
    Target,
    all_told,
    bytes_an_anchor,
    import_share,
    lines,
    merging,
    p50_ratio,
    small_import,
    targets,
    verdict,
)
from benchmarks.load import LoadFailed
from benchmarks.scale_report import judged, main, replaced, section
from benchmarks.service import ServiceFailed
from tests.unit.test_benchmark_load import serving


def latency(p50: float, most: float = 20.0) -> dict[str, Any]:
    return {"questions": 100, "p50": p50, "p99": 15.0, "most": most}


def measured(p50: float, bare: float, *, rss: int, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the results of one size."""
    return {
        "import": {
            "parts": parts,
            "lookups": latency(9.0, 120.0),
            "after": latency(9.0, 30.0),
            "background_seconds": 4.0,
        },
        "merge": {"lookups": latency(9.0, 60.0)},
        "rest": {
            "one": latency(p50),
            "bare": bare,
            "to_bare": p50 / bare,
            "rate": 300.0,
            "rate_p99": 150.0,
            "steady": latency(9.0),
            "filtered": {"tenth": latency(8.0)},
            "busy_with_others": 0.0,
        },
        "memory": {
            "rss": rss,
            "peak": rss,
            "anonymous": rss,
            "database": 10**9,
            "index": 10**9,
            "grown": True,
        },
        "restart": {"after_stop": [1.0, 9.0, 4.0], "after_kill": [6.0, 5.5, 7.0]},
        "recall": {"everything": 0.995, "filtered": {"tenth": 0.985}},
    }


def part(start: int, end: int, seconds: float, bare: float) -> dict[str, Any]:
    return {"start": start, "end": end, "seconds": seconds, "bare": bare}


@pytest.fixture
def grown() -> kept.Json:
    """Return results of 10,000 and of a million anchors."""
    small = measured(6.0, 2.0, rss=300_000_000, parts=[part(0, 8_000, 10.0, 1_000.0)])
    large = measured(12.0, 3.0, rss=1_900_000_000, parts=[part(10_000, 900_000, 1_000.0, 1_780.0)])
    return {
        "format": 1,
        "machine": {"cores": "2"},
        "settings": {"filters": {"tenth": 0.1}},
        "empty": {"rss": 200_000_000},
        "sizes": {"10000": small, "1000000": large},
    }


def test_of_every_thousand_in_a_row_filters_admit_their_shares() -> None:
    """Wherever a thousand begins, 100, 10 and 1 of it have the three labels."""
    for start in (0, 1_000, 123_456):
        counts = Counter(label_of(number) for number in range(start, start + 1_000))
        assert counts == {"tenth": 100, "hundredth": 10, "thousandth": 1, "rest": 889}


def test_a_request_holds_ids_texts_and_labels() -> None:
    """The body registers its span alone; `touched` is metadata that makes a new version."""
    found = json.loads(body(["a", "b", "c"], 1, 3, touched=7))["anchors"]
    assert [anchor["id"] for anchor in found] == ["a-0000001", "a-0000002"]
    assert [anchor["text"] for anchor in found] == ["b", "c"]
    assert [anchor["label"] for anchor in found] == ["hundredth", "thousandth"]
    assert [anchor["metadata"] for anchor in found] == [{"touched": 7}] * 2


def test_parts_of_an_import_end_where_the_index_changes_its_kind() -> None:
    """They cover the span without gaps, and end at 10,000, at 20,000 and at multiples."""
    assert parts(0, 8_000, 50_000) == [(0, 8_000)]
    assert parts(5, 130_000, 50_000) == [
        (5, 10_000),
        (10_000, 20_000),
        (20_000, 50_000),
        (50_000, 100_000),
        (100_000, 130_000),
    ]
    assert parts(10, 10, 50_000) == []
    for start, end in itertools.product((0, 10_000, 19_999), (20_000, 150_000)):
        found = parts(start, end, 7_000)
        assert [found[0][0], found[-1][1]] == [start, end]
        assert all(left[1] == right[0] for left, right in itertools.pairwise(found))
        assert all(first < last for first, last in found)


def test_a_trickle_is_long_enough_for_a_merge() -> None:
    """An eighth of the anchors, within the index's own bounds."""
    assert [merge_rows(count) for count in (5_000, 100_000, 10**6)] == [2_048, 12_500, 16_384]


def test_exact_similarities_are_those_of_a_matrix_product() -> None:
    """In batches, for all and for subsets; a subset of fewer than ten ends in -inf."""
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((500, 16)).astype(np.float16)
    asked = rng.standard_normal((7, 16)).astype(np.float32)
    asked /= 10 * np.linalg.norm(asked, axis=1, keepdims=True)
    seqs = np.arange(1, 501)
    subsets = {"third": seqs[::3], "few": np.array([4, 400])}
    batches = [(seqs[at : at + 60], vectors[at : at + 60]) for at in range(0, 500, 60)]
    found = exact(asked, batches, subsets)
    product = asked @ vectors.astype(np.float32).T
    for name, held in {"": seqs, **subsets}.items():
        best = -np.sort(-product[:, held - 1], axis=1)[:, :K]
        np.testing.assert_allclose(found[name][:, : best.shape[1]], best, atol=1e-6)
        assert np.isneginf(found[name][:, best.shape[1] :]).all()


def test_recall_counts_ties_with_the_last_as_right() -> None:
    """Nine better ones and any of three that tie with the tenth are ten; a lesser one is not."""
    truth = np.array([[0.9] * 9 + [0.5]], np.float32)
    assert recall_of([[0.9] * 9 + [0.5 - 5e-7]], truth) == 1.0
    assert recall_of([[0.9] * 9 + [0.5, 0.5, 0.5]], truth) == 1.0
    assert recall_of([[0.9] * 9 + [0.499]], truth) == 0.9
    assert recall_of([[0.9] * 4], truth) == 0.4


def test_recall_owes_no_more_than_there_is() -> None:
    """Where a filter admits two anchors, two are all; where it admits none, nothing is missed."""
    two = np.array([[0.9, 0.8] + [-np.inf] * 8], np.float32)
    assert recall_of([[0.9, 0.8]], two) == 1.0
    assert recall_of([[0.9]], two) == 0.5
    assert recall_of([[]], np.full((1, K), -np.inf, np.float32)) == 1.0


@pytest.mark.parametrize(
    ("value", "bound", "met"),
    [(1.5, "most", True), (1.51, "most", False), (1.5, "least", True), (1.49, "least", False)],
)
def test_a_limit_itself_is_good_enough(value: float, bound: Any, met: bool) -> None:
    """At the limit a target is met, beyond it is missed."""
    target = Target("x", value, bound, 1.5)
    assert target.met is met
    assert verdict(target) == ("met" if met else "missed")


def test_ratios_are_of_what_the_results_hold(grown: kept.Json) -> None:
    """The p50 doubled, by a third in encoder calls; memory is what an empty one does not take."""
    assert p50_ratio(grown, 10**6, to_bare=False) == 2.0
    assert p50_ratio(grown, 10**6, to_bare=True) == pytest.approx(4 / 3)
    assert bytes_an_anchor(grown, 10**6) == 1_700.0
    assert all_told(grown, 10**6) == 1_900.0
    assert merging(grown, 10**6) == 60.0  # not the 120 ms of the import


def test_an_imports_share_weighs_its_parts_by_their_time(grown: kept.Json) -> None:
    """8,000 at 80% of the bare rate took 10 s, the others at 50% took 1,000 s."""
    assert import_share(grown, 20_000) == pytest.approx(0.8)
    assert import_share(grown, 10**6) == pytest.approx(508 / 1_010)
    assert import_share(grown, 5_000) is None
    small = small_import(grown)
    assert small is not None
    assert small.value == pytest.approx(0.8)
    assert (small.limit, small.met) == (0.9, False)


def test_every_target_of_a_million_is_judged(grown: kept.Json) -> None:
    """What is met and what is missed, of all of them; memory is judged at a million only."""
    assert {target.name: verdict(target) for target in targets(grown, 10**6)} == {
        "p50 to smallest": "missed",
        "p50 in bare encoder calls, to smallest": "met",
        "recall@10": "met",
        "recall@10, filter tenth": "missed",
        "memory an anchor": "missed",
        "memory an anchor, whole process": "missed",
        "ready after a stop": "met",
        "ready after kill -9": "missed",
        "longest lookup in a merge": "missed",
        "import to bare encoder": "missed",
    }
    (unjudged,) = {verdict(one) for one in targets(grown, 10_000) if one.name.startswith("memory")}
    assert unjudged == ""


def test_the_table_shows_finished_sizes_alone(grown: kept.Json) -> None:
    """A size whose last step is missing is in neither table nor plot."""
    del grown["sizes"]["1000000"]["recall"]
    assert [line for line in lines(grown) if not line.startswith(" ")] == ["10,000 anchors"]
    assert "| anchors | 10,000 |" in section(grown, "benchmarks")
    assert "target, at 10,000 anchors" in judged(grown)


def test_the_report_replaces_what_stands_between_its_markers(
    grown: kept.Json, tmp_path: Path
) -> None:
    """All around stays; a second report of the same results changes nothing."""
    page = tmp_path / "benchmarks.md"
    page.write_text("before\n<!-- table: scale -->\nold\n<!-- end -->\nafter\n", encoding="utf-8")
    file = tmp_path / "scale.json"
    file.write_text(json.dumps(grown), encoding="utf-8")
    call = [str(file), "--output", str(tmp_path / "benchmarks")]
    assert main(call) == 0
    written = page.read_text(encoding="utf-8")
    assert written.startswith("before\n<!-- table: scale -->\n| anchors | 10,000 | 1,000,000 |")
    assert written.endswith("<!-- end -->\nafter\n")
    assert "| recall@10 | 0.9950 | 0.9950 |" in written
    assert "| memory an anchor | most 1,600 B | 1,700 B | missed |" in written
    assert "old" not in written
    for plot in plots(grown):
        assert (tmp_path / "benchmarks" / plot.file).exists()
        assert f"(benchmarks/{plot.file})" in written
    assert main(call) == 0
    assert page.read_text(encoding="utf-8") == written


def test_a_page_without_markers_is_left_alone() -> None:
    """The error says which lines it needs."""
    with pytest.raises(SystemExit, match="<!-- table: scale --> and <!-- end -->"):
        replaced("# Page\n", "scale", "x")


def test_the_same_figures_are_drawn_with_the_same_bytes(grown: kept.Json) -> None:
    """So a plot changes in the history only when a figure does."""
    first, second = ([svg(plot) for plot in plots(grown)] for _ in range(2))
    assert first == second


def test_results_go_on_only_with_the_same_settings(tmp_path: Path) -> None:
    """A run with other settings or on another machine says so, and what to do."""
    path = tmp_path / "scale.json"
    new = kept.read(path, {"seed": 1}, {"cores": "2"})
    assert new["sizes"] == {}
    kept.write(path, new)
    assert kept.read(path, {"seed": 1}, {"cores": "2"}) == new
    with pytest.raises(SystemExit, match=r"another settings \(seed\).*another --json"):
        kept.read(path, {"seed": 2}, {"cores": "2"})
    with pytest.raises(SystemExit, match=r"another machine \(cores\)"):
        kept.read(path, {"seed": 1}, {"cores": "4"})
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(SystemExit, match="holds no results"):
        kept.load(path)
    with pytest.raises(SystemExit, match="is missing"):
        kept.load(tmp_path / "other.json")
    with pytest.raises(ServiceFailed, match="cannot be written"):
        kept.write(path / "below.json", new)


def test_the_time_left_follows_from_the_largest_size_that_ended() -> None:
    """1,000 anchors took 60 s, so 10,000 take 600, of which 120 are over."""
    ended = {"seconds": {"import": 50.0, "recall": 10.0}, "recall": {}}
    begun = {"seconds": {"import": 120.0}}
    one = {"sizes": {"1000": ended}}
    two = {"sizes": {"1000": ended, "10000": begun}}
    assert kept.time_left({"sizes": {"1000": begun}}, [1_000]).startswith("how much")
    assert kept.time_left(two, [1_000, 10_000]) == "very roughly 8 min left"
    assert kept.time_left(one, [1_000]) == "nothing left"


def test_sizes_are_numbers_with_commas_between() -> None:
    """They come in ascending order; anything else is refused with an example."""
    assert scale.sizes("100_000,10000") == [10_000, 100_000]
    for wrong in ("", "many", "10,20000", "1e5"):
        with pytest.raises(argparse.ArgumentTypeError, match="such as 10000,100000"):
            scale.sizes(wrong)


def test_questions_are_asked_when_they_are_due_and_wait_for_the_one_before() -> None:
    """At 50 a second with one answer of 200 ms, those due meanwhile count their wait."""
    slow = iter([0.2])

    def answer(_: bytes) -> tuple[int, bytes]:
        time.sleep(next(slow, 0.0))
        return 200, b'{"matches": []}'

    questions = (f"question {number}" for number in itertools.count())
    with serving(answer) as seen:
        with Asking(seen.port, questions, rate=50) as asking:
            time.sleep(0.6)
        latencies, late = asking.result()
    assert len(seen.bodies) == len(set(seen.bodies)) == len(latencies) == len(late)
    assert latencies[0] >= 0.2
    assert latencies[1] >= 0.15  # due 20 ms later, and sent after the first answer
    assert summary(latencies, late).most == max(latencies) * 1e3


def test_one_bad_answer_fails_steady_lookups() -> None:
    """The result raises what came back."""
    with serving(lambda _: (503, b"full")) as seen:
        with Asking(seen.port, itertools.repeat("x"), rate=50) as asking:
            time.sleep(0.1)
        with pytest.raises(LoadFailed, match="answered 503: b'full'"):
            asking.result()
