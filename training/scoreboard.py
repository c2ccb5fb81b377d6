"""Figures as tables that fit a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 100

_Cell = Callable[[Mapping[str, Any]], str]


def _percent(key: str) -> _Cell:
    return lambda figures: f"{100 * figures[key]:.1f}"


def _spread(key: str) -> _Cell:
    def cell(figures: Mapping[str, Any]) -> str:
        found = figures[key]
        return f"{100 * found['mean']:.1f} ± {100 * found['std']:.1f}" if found else ""

    return cell


def _number(key: str) -> _Cell:
    return lambda figures: f"{figures[key]:,}"


# Title and columns, by kind of set.
_KINDS: Mapping[str, tuple[str, Mapping[str, _Cell]]] = {
    "pairs": (
        "Pairs, in percent",
        {
            "pairs": _number("pairs"),
            "AP": _percent("average_precision"),
            "ROC AUC": _percent("roc_auc"),
            "best F1": _percent("best_f1"),
            "accuracy": _percent("accuracy"),
        },
    ),
    "one_shot": (
        "One-shot classification, in percent, ± standard deviation of the draws",
        {
            "classes": _number("classes"),
            "questions": _number("questions"),
            "accuracy": _spread("accuracy"),
            "open-set AUROC": _spread("open_set_auroc"),
        },
    ),
    "retrieval": (
        "Retrieval, in percent",
        {
            "corpus": _number("corpus"),
            "nDCG@10": _percent("ndcg@10"),
            "MRR@10": _percent("mrr@10"),
            "MAP@100": _percent("map@100"),
            "R@1": _percent("recall@1"),
            "R@10": _percent("recall@10"),
        },
    ),
}


def print_scoreboard(encoders: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Print a table of each kind of set, a row for each encoder on each set, and one of the speed.

    encoders: as in evaluation.json; console: where to, stdout by default, at least WIDTH columns
    wide where it is no terminal.
    """
    from rich.console import Console

    console = console or Console()
    if not console.is_terminal:
        # A file has no width; the default of 80 columns would fold names.
        console.width = max(console.width, WIDTH)
    for kind, (title, columns) in _KINDS.items():
        names = dict.fromkeys(
            name
            for encoder in encoders
            for name, figures in encoder["sets"].items()
            if figures["kind"] == kind
        )
        blocks = [
            [
                [name, encoder["name"], *(cell(encoder["sets"][name]) for cell in columns.values())]
                for encoder in encoders
            ]
            for name in names
        ]
        _print(console, title, ["set", "encoder", *columns], blocks)
    timed = [encoder for encoder in encoders if "speed" in encoder]
    if timed:
        _print(
            console,
            "Median milliseconds of one question in one thread",
            ["encoder", *(f"{tokens} tokens" for tokens in timed[0]["speed"])],
            [[[one["name"], *(f"{took:.2f}" for took in one["speed"].values())] for one in timed]],
        )


def _print(
    console: Console, title: str, header: Sequence[str], blocks: Sequence[Sequence[Sequence[str]]]
) -> None:
    """Print a table whose blocks of rows are set apart; nothing where there are none."""
    from rich import box
    from rich.table import Table

    if not blocks:
        return
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in header:
        words = column in {"set", "encoder"}
        table.add_column(
            column,
            justify="left" if words else "right",
            overflow="fold" if words else "ellipsis",
            no_wrap=not words,
        )
    for rows in blocks:
        for row in rows:
            # A set's name once, at its first row.
            table.add_row(*(["", *row[1:]] if header[0] == "set" and row is not rows[0] else row))
        table.add_section()
    console.print(table)
