"""The plot of how far to go: what shares of the way gain against what they lose elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.reporting.drawing import (
    BASE,
    INK,
    MUTED,
    SMALL,
    TUNED,
    axes,
    drawn,
    shortened,
    signed_points,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from training.reporting.page import Html

_NAME = 24


@dataclass(frozen=True, slots=True)
class Share:
    """A share of the way from base to tuned, 0..1, and what it does, in points.

    set: the one that fares worst of all but the trained domain, `worst` its change; this: whether
    it is the run's own share.
    """

    share: float
    gain: float
    set: str
    worst: float
    this: bool = False


def frontier(shares: Sequence[Share], domain: str) -> Html | None:
    """Return the gain of shares, least first, against their worst change; None without any."""
    if not shares:
        return None
    x = np.array([0.0, *(one.gain for one in shares)])
    y = np.array([0.0, *(one.worst for one in shares)])
    height = 3.5

    def draw(figure: Figure) -> None:
        plot = axes(figure, "worst change on any other set, points",
                    f"points gained on {shortened(domain, _NAME)}",
                    right=0.3, height=height)  # fmt: skip
        for values, limit in ((x, plot.set_xlim), (y, plot.set_ylim)):
            room = max(0.15 * float(np.ptp(values)), 0.2)
            limit(values.min() - room, values.max() + room)
        plot.axhline(0, color=MUTED, linewidth=0.8)
        plot.axvline(0, color=MUTED, linewidth=0.8)
        plot.plot(x, y, color=BASE, linewidth=1.0, zorder=2)
        colours = [MUTED, *(TUNED if one.this else BASE for one in shares)]
        sizes = [18, *(64 if one.this else 36 for one in shares)]
        plot.scatter(x, y, s=sizes, c=colours, zorder=3)
        for axis in (plot.xaxis, plot.yaxis):
            axis.set_major_formatter(lambda value, _: signed_points(value, digits=None))
        names = ["base", *(f"{one.share:g}" for one in shares)]
        for at, name in enumerate(names):
            this = at > 0 and shares[at - 1].this
            plot.annotate(name, (x[at], y[at]), xytext=(5, 6), textcoords="offset points",
                          fontsize=SMALL, color=TUNED if this else INK)  # fmt: skip

    description = "; ".join(
        f"{one.share:g} of the way: gained {signed_points(one.gain)}, "
        f"worst {signed_points(one.worst)} on {one.set}"
        for one in shares
    )
    title = "Gain on the trained domain against the worst change elsewhere, by share of the way"
    return drawn("frontier-plot", title, description + ".", draw, height)
