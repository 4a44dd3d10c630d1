"""HTML from texts of others: everything is escaped here, and an address is a link only where it
leads to a page.
"""

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE_DPI = 110
LINKABLE = ("http://", "https://")


def escaped(text: object) -> str:
    """The text as a browser shows it letter by letter, in attributes too."""
    return html.escape(str(text), quote=True)


def link(address: str, text: str) -> str:
    """A link where the address is one of a page; else the text alone (`javascript:` runs)."""
    if not address.lower().startswith(LINKABLE):
        return escaped(text)
    return f'<a href="{escaped(address)}" target="_blank" rel="noopener">{escaped(text)}</a>'


def picture(figure: "Figure", description: str) -> str:
    """A figure inside the page, as PNG."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=PICTURE_DPI, metadata={"Software": None})
    content = base64.b64encode(file.getvalue()).decode("ascii")
    return (
        f'<figure><img src="data:image/png;base64,{content}" alt="{escaped(description)}"></figure>'
    )


def table(
    header: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]], *, kind: str = ""
) -> str:
    """A table; `rows`: (class of the row, cells that are HTML already)."""
    head = "".join(f"<th>{escaped(name)}</th>" for name in header)
    body = "".join(
        f'<tr class="{css}">' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>\n"
        for css, cells in rows
    )
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def facts(values: Mapping[str, str]) -> str:
    """Names and their values (HTML already), one a line."""
    lines = "".join(
        f"<dt>{escaped(name)}</dt><dd>{value}</dd>" for name, value in values.items() if value
    )
    return f"<dl>{lines}</dl>"


def section(title: str, content: str) -> str:
    """A part of the page; empty where there is nothing to say."""
    return f"<section><h2>{escaped(title)}</h2>{content}</section>\n" if content else ""
