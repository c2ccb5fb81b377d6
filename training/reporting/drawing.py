"""A Matplotlib figure as inline SVG that takes its colours and letters from the page around it."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.errors import TrainingError
from training.reporting.page import UNPRINTABLE, Html, element, join

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Matplotlib knows only fixed colours. Each of these stands for one that the page's style sets, for
# light and dark; no two differ from black by more than a reader of the raw SVG would mind.
INK, MUTED, LINE = "#010101", "#010102", "#010103"
BASE, TUNED, REFERENCE, THIRD = "#010104", "#010105", "#010106", "#010107"
_ON_PAGE = {
    INK: "currentColor",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    BASE: "var(--base)",
    TUNED: "var(--tuned)",
    REFERENCE: "var(--reference)",
    THIRD: "var(--third)",
}
# Inches; narrow, so that the letters keep their size on a phone, where nothing is narrower.
WIDTH, HEIGHT = 4.6, 2.9
SMALL = 9.0
# Any: the stubs list every setting there is by name.
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    # A `$` or a `_` in the name of a set is that letter.
    "text.parse_math": False,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "xtick.color": LINE,
    "xtick.labelcolor": MUTED,
    "xtick.labelsize": SMALL,
    "ytick.color": LINE,
    "ytick.labelcolor": MUTED,
    "ytick.labelsize": SMALL,
    "ytick.major.size": 0,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
}


def drawn(
    name: str, title: str, description: str, draw: Callable[[Figure], None], height: float = HEIGHT
) -> Html:
    """Return what `draw` draws, as an SVG element with a title and a description.

    name: unique in its page. The same drawing has the same bytes.
    Raises TrainingError where Matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure as Empty
    except ImportError as error:
        raise TrainingError(
            f"the report's plots need matplotlib ({error}); install the training extra"
        ) from error
    written = io.BytesIO()
    with rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        # The browser draws the letters, from its own fonts: what DejaVu lacks is no loss.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        figure = Empty(figsize=(WIDTH, height))
        FigureCanvasSVG(figure)
        draw(figure)
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    return _inline(written.getvalue().decode("utf-8"), name, title, description)


def axes(figure: Figure, y_name: str, x_name: str, *, right: float, height: float = HEIGHT) -> Axes:
    """Return axes with both names in reading direction, and room for labels on the right.

    right: inches left free beside the axes.
    """
    left, bottom, top = 0.5, 0.45, 0.32
    made = figure.add_axes(
        (
            left / WIDTH,
            bottom / height,
            (WIDTH - left - right) / WIDTH,
            (height - bottom - top) / height,
        )
    )
    made.grid(axis="y")
    made.set_axisbelow(True)
    made.set_xlabel(x_name, fontsize=SMALL, labelpad=3)
    figure.text(0.08 / WIDTH, 1 - 0.05 / height, y_name, va="top", fontsize=SMALL, color=MUTED)
    return made


def end_labels(
    axes: Axes, labels: Sequence[tuple[float, str, str]], *, height: float = HEIGHT
) -> None:
    """Write labels on the right of the axes, each beside its value or as near as there is room.

    labels: value on the y axis, text, colour.
    """
    low, high = axes.get_ylim()
    inches = axes.get_position().height * height
    line = 1.3 * SMALL / 72 * (high - low) / inches
    for (_, written, colour), place in zip(
        labels, apart([value for value, _, _ in labels], line), strict=True
    ):
        axes.annotate(
            written,
            (1, place),
            xycoords=("axes fraction", "data"),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=SMALL,
            annotation_clip=False,
        )


def apart(values: Sequence[float], gap: float) -> list[float]:
    """Return values moved, in their order and as little as possible, to be `gap` apart.

    Least squares: what has to make way does so as a block around its mean.
    """
    order = sorted(range(len(values)), key=lambda place: values[place])
    blocks: list[tuple[float, int]] = []
    for rank, place in enumerate(order):
        mean, size = values[place] - rank * gap, 1
        while blocks and blocks[-1][0] > mean:
            before, count = blocks.pop()
            mean, size = (mean * size + before * count) / (size + count), size + count
        blocks.append((mean, size))
    level = [mean for mean, size in blocks for _ in range(size)]
    moved = [0.0] * len(values)
    for rank, place in enumerate(order):
        moved[place] = level[rank] + rank * gap
    return moved


def smooth(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return the running mean of (n,) values over `window`, centred; shorter at both ends."""
    reach = window // 2
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    first, last = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(values))
    averaged: NDArray[np.float64] = (sums[last] - sums[first]) / (last - first)
    return averaged


def shortened(name: str, letters: int) -> str:
    """Return a name of at most so many letters, in one line."""
    plain = UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", " ".join(name.split()))
    return plain if len(plain) <= letters else plain[: letters - 1] + "…"


def signed_points(value: float, digits: int | None = 1) -> str:
    """Return a change with its sign, a true minus; digits None: as many as it needs."""
    written = f"{value:+.{digits}f}" if digits is not None else f"{round(value, 6):+g}"
    return "0" if float(written) == 0 else written.replace("-", "\N{MINUS SIGN}")


def _inline(svg: str, name: str, title: str, description: str) -> Html:
    """Return a file's SVG as an element of a page.

    Its colours become the page's; ids that nothing refers to go, as they would repeat between
    plots; and so does its style sheet, which inside a page would reach the whole page.
    """
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", svg)
    svg = re.sub(r"\n\s*(?=\n|<)", "\n", svg)
    for fixed, on_page in _ON_PAGE.items():
        svg = svg.replace(fixed, on_page)
    box = re.search(r'viewBox="[^"]*"', svg)
    inside = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
    opening = (
        f'<svg class="plot" role="img" {box[0] if box else ""} '
        f'xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'aria-labelledby="{name}-title" aria-describedby="{name}-description">'
    )
    return join(
        Html(opening),
        element("title", title, id=f"{name}-title"),
        element("desc", description, id=f"{name}-description"),
        Html(inside.strip() + "</svg>"),
    )
