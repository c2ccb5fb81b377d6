"""The plots of how a run went: loss, similarities and dev sets by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from training.reporting.drawing import (
    BASE,
    MUTED,
    SMALL,
    THIRD,
    TUNED,
    axes,
    drawn,
    end_labels,
    shortened,
    signed_points,
    smooth,
)
from training.reporting.run_folder import Json, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from training.reporting.page import Html

_SERIES = {
    "positive": ("positive", TUNED),
    "mean_negative": ("mean negative", BASE),
    "closest_negative": ("closest negative", THIRD),
}
# More points than this no screen shows, and each has its bytes.
_MOST_POINTS = 400
_NAME = 20


def loss_curve(steps: Sequence[Json]) -> Html | None:
    """Return the loss by step, None without two steps that have one."""
    at, values = _series(steps, "loss")
    if len(at) < 2:
        return None
    running = _running(values)

    def draw(figure: Figure) -> None:
        plot = axes(figure, "loss", "step", right=0.62)
        _curve(plot, at, values, TUNED)
        _by_step(plot, at)
        plot.set_ylim(bottom=min(0.0, float(running.min())))
        end_labels(plot, [(running[-1], f"{running[-1]:.3f}", TUNED)])

    description = (
        f"Falls or rises from {running[0]:.3f} at step {at[0]:.0f} to {running[-1]:.3f} at step "
        f"{at[-1]:.0f} (running means)."
    )
    return drawn("loss-plot", "Loss by step", description, draw)


def similarity_curves(steps: Sequence[Json]) -> Html | None:
    """Return the three similarities that the losses are made of, None without two steps."""
    series = {key: _series(steps, key) for key in _SERIES}
    series = {key: (at, values) for key, (at, values) in series.items() if len(at) > 1}
    if not series:
        return None

    def draw(figure: Figure) -> None:
        plot = axes(figure, "cosine similarity", "step", right=1.5)
        labels = []
        for key, (at, values) in series.items():
            name, colour = _SERIES[key]
            _curve(plot, at, values, colour)
            last = _running(values)[-1]
            labels.append((float(last), f"{name} {last:.2f}", colour))
        _by_step(plot, np.concatenate([at for at, _ in series.values()]))
        end_labels(plot, labels)

    spans = (
        f"{_SERIES[key][0]} from {_running(values)[0]:.2f} to {_running(values)[-1]:.2f}"
        for key, (_, values) in series.items()
    )
    return drawn("similarity-plot", "Similarities by step", "; ".join(spans) + ".", draw)


def dev_curves(dev: Sequence[Json], domain: str | None) -> Html | None:
    """Return each dev set's change since the first measurement, None without two of them.

    domain: the trained one, drawn in colour. A line marks the step with the best score.
    """
    names = list(dict.fromkeys(name for line in dev for name in line["dev"]))
    series = {}
    for name in names:
        read = [(number(line["step"]), number(line["dev"].get(name))) for line in dev]
        known = [(step, value) for step, value in read if step is not None and value is not None]
        if len(known) > 1:
            at, values = np.array(known, dtype=np.float64).T
            series[name] = at, 100 * (values - values[0])
    if not series:
        return None
    best = max(
        (line for line in dev if number(line.get("score")) is not None),
        key=lambda line: float(line["score"]),
        default=None,
    )
    widest = max(len(shortened(name, _NAME)) for name in series)

    def draw(figure: Figure) -> None:
        right = 0.5 + 0.075 * widest
        plot = axes(figure, "points since the first measurement", "step", right=right)
        plot.axhline(0, color=MUTED, linewidth=0.8)
        labels = []
        for name, (at, change) in sorted(series.items(), key=lambda item: item[0] == domain):
            colour = TUNED if name == domain else BASE
            plot.plot(at, change, color=colour, marker="o", markersize=2.6, linewidth=1.5)
            written = f"{shortened(name, _NAME)} {signed_points(change[-1])}"
            labels.append((float(change[-1]), written, colour))
        _by_step(plot, np.concatenate([at for at, _ in series.values()]))
        plot.yaxis.set_major_formatter(lambda value, _: signed_points(value, digits=None))
        if best is not None:
            _mark(plot, float(best["step"]), "best")
        end_labels(plot, labels)

    ends = (f"{name} {signed_points(change[-1])}" for name, (_, change) in series.items())
    description = "Change in points at the last measurement: " + ", ".join(ends) + "."
    return drawn("dev-plot", "Dev sets by step", description, draw)


def _series(steps: Sequence[Json], key: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return steps and values of a key, averaged in blocks where there are more than are seen."""
    read = [(number(line.get("step")), number(line.get(key))) for line in steps]
    known = [(step, value) for step, value in read if step is not None and value is not None]
    found = np.array(known, dtype=np.float64).reshape(-1, 2)
    if len(found) > _MOST_POINTS:
        blocks = np.array_split(found, _MOST_POINTS)
        found = np.stack([block.mean(axis=0) for block in blocks])
    return found[:, 0], found[:, 1]


def _running(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return smooth(values, max(3, len(values) // 16))


def _curve(plot: Axes, at: NDArray[np.float64], values: NDArray[np.float64], colour: str) -> None:
    plot.plot(at, values, color=colour, linewidth=0.8, alpha=0.35)
    plot.plot(at, _running(values), color=colour)


def _by_step(plot: Axes, at: NDArray[np.float64]) -> None:
    from matplotlib.ticker import MaxNLocator

    plot.set_xlim(min(0.0, float(at.min())), float(at.max()))
    plot.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    plot.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    plot.yaxis.set_major_locator(MaxNLocator(5))


def _mark(plot: Axes, step: float, name: str) -> None:
    plot.axvline(step, color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)))
    left, right = plot.get_xlim()
    early = step - left < 0.5 * (right - left)
    plot.annotate(
        name,
        (step, 0),
        xycoords=("data", "axes fraction"),
        xytext=(4 if early else -4, 4),
        textcoords="offset points",
        ha="left" if early else "right",
        fontsize=SMALL,
        color=MUTED,
    )
