"""Everything that an MLflow store answers a page at a time."""

from collections.abc import Callable, Iterator
from typing import Any


def all_of(page_after: Callable[[str | None], Any]) -> Iterator[Any]:
    """The entries of all pages; `page_after`: token of a page -> the page, None for the first."""
    token: str | None = None
    while token != "":
        page = page_after(token)
        yield from page
        token = page.token or ""
