"""Numbers as they are written in a report's tables; a dash where there is none."""

from __future__ import annotations

from training.reporting.page import Html, element, paragraph
from training.reporting.run_folder import number

UNKNOWN = "\N{EN DASH}"


def signed(value: float) -> Html:
    """Return a change in points with its sign, a true minus, in the colour of gain or loss."""
    written = f"{value:+.1f}"
    if float(written) == 0:
        return element("span", "0.0")
    kind = "gain" if value > 0 else "loss"
    return element("span", written.replace("-", "\N{MINUS SIGN}"), class_=kind)


def count(value: object) -> str:
    """Return a whole number with separators."""
    found = number(value)
    return UNKNOWN if found is None else f"{found:,.0f}"


def percent(value: object) -> str:
    """Return a share, 0..1, in percent."""
    found = number(value)
    return UNKNOWN if found is None else f"{100 * found:.1f}"


def decimal(value: object, digits: int = 3) -> str:
    """Return a number with so many decimals."""
    found = number(value)
    return UNKNOWN if found is None else f"{found:.{digits}f}"


def missing(words: str) -> Html:
    """Return the words that stand where a part of the run is missing."""
    return paragraph(words, class_="muted")
