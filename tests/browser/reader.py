"""A person in front of MLflow's pages, who clicks and reads. The fact a newcomer gets wrong: the
pages keep rows that are out of view out of the document, and fill after the page has loaded.
"""

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

WIDTH, HEIGHT = 1600, 1000
PATIENCE_MS = 30_000
CONTROLS = re.compile(r"^(Pin run )?(#\w{6} )?")
"""What a row begins with for the hand and not for the eye."""
SETTLES_SECONDS = 2.0
"""Charts are drawn after their data have come."""


def chromium() -> str | None:
    """Debian's browser, where there is one."""
    return shutil.which("chromium")


@contextmanager
def browser() -> Iterator["Page"]:
    """A fresh browser with one window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # As root, chromium starts without its sandbox only.
        options: dict[str, Any] = {"executable_path": chromium(), "args": ["--no-sandbox"]}
        started = playwright.chromium.launch(**options)
        page = started.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(PATIENCE_MS)
        try:
            yield page
        finally:
            started.close()


class Reader:
    """Clicks and reads on one page; `pictures`: where `look` leaves what was seen."""

    def __init__(self, page: "Page", pictures: Path) -> None:
        self.page, self.pictures = page, pictures

    def open(self, address: str) -> None:
        self.page.goto(address)

    def click(self, text: str) -> None:
        """What reads exactly so."""
        self.page.get_by_text(text, exact=True).first.click()

    def click_role(self, role: Any, name: str) -> None:
        """A button, link, tab or menu item whose name begins with this word."""
        self.page.get_by_role(role, name=re.compile(rf"^({name})\b")).first.click()

    def click_charts(self) -> None:
        """From the table to the charts of the same view."""
        self.page.locator("label:has(input[value='CHART'])").click()

    def sees(self, text: str) -> str:
        """The line in which the text stands, once it does."""
        found = self.page.get_by_text(re.compile(text)).first
        found.wait_for()
        return " ".join(found.inner_text().split())

    def rows(self, *, at_least: int) -> list[str]:
        """The rows of the runs' table, once there are so many."""
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while len(found := self._rows()) < at_least:
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
        return found

    def _rows(self) -> list[str]:
        """Each row of the grid as one text; its pinned and its other columns are apart."""
        parts: dict[str, list[str]] = {}
        for row in self.page.locator(".ag-row").all():
            number = row.get_attribute("row-index") or ""
            parts.setdefault(number, []).append(" ".join(row.inner_text().split()))
        texts = [" ".join(parts[number]) for number in sorted(parts, key=int)]
        return [CONTROLS.sub("", text) for text in texts]

    def text(self) -> str:
        """Everything that can be read."""
        return " ".join(self.page.locator("body").inner_text().split())

    def look(self, name: str) -> None:
        """Leave a picture of what is seen."""
        time.sleep(SETTLES_SECONDS)
        self.pictures.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=self.pictures / f"{name}.png")
