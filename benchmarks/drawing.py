"""How the plots of the measurements look: SVG, the same text for the same figures."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Read on white and on black alike, and told apart by those who see no red or green.
COLOURS = ("#0b76b8", "#d1671f", "#2a9a6b", "#8f63b8")
GREY = "#808080"
# Any: the stubs list every setting there is by name.
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": GREY,
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "deja",
}


def svg(width: float, height: float, draw: Callable[[Figure], None]) -> str:
    """Return what `draw` puts on a figure, in inches, as the text of an SVG file.

    Raises SystemExit where Matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SystemExit(f"plots need matplotlib ({error}); install the training extra") from error
    drawn = io.BytesIO()
    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in drawn.getvalue().decode().splitlines()) + "\n"
