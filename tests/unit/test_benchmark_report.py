"""The tables and plots that are made from a run's figures."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks.bench_plots import plots
from benchmarks.bench_report import TITLES, fill, spread, tables, whole
from benchmarks.measuring import Figures

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def report() -> dict[str, Any]:
    """Return a run of two rounds, as it is written."""

    def figures(rate: float, **more: Any) -> dict[str, Any]:
        return asdict(Figures(100, rate, 1e3 / rate, 2e3 / rate, 10.0, 20.0, 0.01, **more))

    rounds = [
        {
            "figures": {
                "one": {"deja": figures(rate), "txtai": figures(50.0)},
                "many": {"deja": figures(2 * rate), "txtai": figures(60.0)},
                "open 50%": {
                    "deja": figures(rate, offered=rate),
                    "txtai": figures(20.0, offered=30.0, kept_up=rate > 250),
                },
            },
            "ratios": {"many rate": {"txtai": 2 * rate / 60}},
            "agreement": {"deja txtai": 0.5},
        }
        for rate in (200.0, 300.0)
    ]
    fills = {
        name: {"rate": 900.0, "rss_empty": 2**20, "rss_filled": 2**21, "rss_after_lookups": 2**22}
        for name in ("deja", "txtai")
    }
    return {
        "machine": {"cores": "2"},
        "settings": {"systems": ["deja", "txtai"]},
        "rounds": rounds,
        "registering": [{"figures": {"register 1": {"deja": figures(100.0)}}, "ratios": {}}],
        "fill": fills,
        "install": {"deja": {"bytes": 3 * 2**20}},
        "cold_start": {"deja": {"seconds": [1.0, 2.0, 1.5], "kept": True}},
    }


def test_a_spread_is_the_median_with_the_least_and_the_most() -> None:
    """One round has no spread, none has a dash."""
    assert spread([300.0, 100.0, 200.0], whole) == "200 (100 to 300)"
    assert spread([1234.0], whole) == "1,234"
    assert spread([], whole) == "-"


def test_tables_hold_the_figures_of_the_run() -> None:
    """Rates by system, ratios, and who did not keep up."""
    made = tables(report())
    assert "| lookups, 32 clients | 500 (400 to 600) | 60 (60 to 60) |" in made["rates"]
    assert "| registering, one client | 100 | - |" in made["rates"]
    assert "| lookups, 32 clients, a second | 8.33 (6.67 to 10.00) |" in made["ratios"]
    assert "| not in 1 of 2 rounds |" in made["open-loop"]
    assert "| start to first answer, s | 1.5 (1.0 to 2.0) | - |" in made["costs"]
    assert "| Deja and txtai | 50.0 (50.0 to 50.0) | - |" in made["agreement"]


def test_tables_are_put_between_their_marks() -> None:
    """What stood there goes, what is around it stays; filling twice changes nothing."""
    page = "a\n<!-- table: rates -->\nold\n<!-- end -->\nb\n"
    filled = fill(page, {"rates": "new"})
    assert filled == "a\n<!-- table: rates -->\nnew\n<!-- end -->\nb\n"
    assert fill(filled, {"rates": "new"}) == filled


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("<!-- table: rats -->\n<!-- end -->", "no table 'rats', only rates"),
        ("nothing", "no '<!-- table: NAME -->'"),
    ],
)
def test_a_page_that_cannot_be_filled_is_said(page: str, said: str) -> None:
    """A name that was misspelt would keep old figures."""
    with pytest.raises(ValueError, match=said):
        fill(page, {"rates": ""})


def test_the_growth_of_another_run_stays() -> None:
    """The table that another command writes into the same page is left alone."""
    grown = "<!-- table: scale -->\n| kept |\n<!-- end -->\n"
    page = grown + "<!-- table: rates -->\nold\n<!-- end -->\n"
    assert fill(page, {"rates": "new"}) == page.replace("old", "new")


def test_the_page_names_only_tables_there_are() -> None:
    """The written page can be filled from any run."""
    filled = fill(PAGE.read_text(encoding="utf-8"), tables(report()))
    assert "500 (400 to 600)" in filled


def test_plots_are_the_same_for_the_same_figures(tmp_path: Path) -> None:
    """The SVG files have no date and no random names."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        plots(json.loads(json.dumps(report())), tmp_path / name, TITLES)
    written = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert written == ["lookups.svg", "one-client.svg", "open-loop.svg"]
    for name in written:
        first, second = (tmp_path / which / name for which in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()
