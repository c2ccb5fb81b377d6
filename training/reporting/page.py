"""HTML that cannot forget to escape: elements of texts, and one page that needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

STYLE = Path(__file__).with_name("page.css")
# What HTML does not allow, and halves of surrogate pairs, which no file can hold.
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


class Html(str):
    """Markup, put in as it is; any other text is escaped on its way in."""

    __slots__ = ()


def text(content: object) -> Html:
    """Return any content as markup: `Html` as it is, everything else as escaped text."""
    if isinstance(content, Html):
        return content
    return Html(escape(UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", str(content))))


def join(*parts: object) -> Html:
    """Return parts as one piece of markup, those that are None left out."""
    return Html("".join(text(part) for part in parts if part is not None))


def element(tag: str, *children: object, **attributes: object) -> Html:
    """Return an element; `class_` and `aria_label` stand for `class` and `aria-label`.

    Attributes that are None are left out.
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{text(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Html(f"<{tag}{written}>{join(*children)}</{tag}>")


def paragraph(*children: object, class_: str | None = None) -> Html:
    """Return a paragraph."""
    return element("p", *children, class_=class_)


def items(children: Iterable[object]) -> Html:
    """Return an unordered list."""
    return element("ul", *(element("li", child) for child in children))


def section(name: str, title: str, *children: object) -> Html:
    """Return a section with its heading, to be linked to as `#name`."""
    heading = element("h2", title, id=f"{name}-heading")
    return element("section", heading, *children, id=name, aria_labelledby=f"{name}-heading")


def details(summary: str, *children: object) -> Html:
    """Return what is read on demand, folded under its summary."""
    return element("details", element("summary", summary), *children)


def figure(drawing: Html, caption: object, *below: object) -> Html:
    """Return a drawing with its caption, and what belongs below it."""
    return element("figure", drawing, element("figcaption", caption), *below)


def table(
    caption: str, header: Sequence[object], rows: Iterable[Sequence[object]], *, words: int = 1
) -> Html:
    """Return a table that scrolls sideways by itself; the first cell of a row is its header.

    words: how many of the first columns hold words, the others hold numbers.
    """

    def kind(column: int) -> str | None:
        return None if column < words else "number"

    head = element(
        "tr",
        *(
            element("th", name, scope="col", class_=kind(place))
            for place, name in enumerate(header)
        ),
    )
    body = [
        element(
            "tr",
            *(
                element("td", cell, class_=kind(place))
                if place
                else element("th", cell, scope="row")
                for place, cell in enumerate(row)
            ),
        )
        for row in rows
    ]
    inside = element(
        "table",
        element("caption", caption),
        element("thead", head),
        element("tbody", *body),
    )
    return element("div", inside, class_="scroll", role="region", aria_label=caption, tabindex="0")


def quoted(content: object) -> Html:
    """Return a text of somebody else's, in its own direction of writing."""
    return element("bdi", content, class_="quoted")


def document(title: str, *body: object) -> str:
    """Return a whole page with its style inside; it loads nothing and runs nothing."""
    head = join(
        Html('<meta charset="utf-8">\n'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">\n'),
        Html('<meta name="color-scheme" content="light dark">\n'),
        # Whatever a text might smuggle in, the browser is told to load and run nothing.
        Html(
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        ),
        element("title", title),
        Html("\n"),
        element("style", Html("\n" + STYLE.read_text("utf-8"))),
        Html("\n"),
    )
    page = element("html", element("head", head), Html("\n"), element("body", *body), lang="en")
    return f"<!doctype html>\n{page}\n"
