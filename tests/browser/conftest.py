import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.plant import Plant, plant
from tests.browser.reader import Reader, browser, chromium
from tests.registry_fixtures import mlflow_server, mlflow_uri

__all__ = ["mlflow_server", "mlflow_uri", "reader", "searched"]

PICTURES = "PREFIXPROP_PICTURES"
"""Where the pictures go; without it beside the test's other files."""


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """The server with its two searches."""
    if chromium() is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    pytest.importorskip("playwright", reason="there is no playwright: make install")
    with plant(tmp_path_factory.mktemp("plant")) as found:
        yield found


@pytest.fixture
def reader(searched: Plant, tmp_path: Path) -> Iterator[Reader]:
    """A newcomer who was let in, and stands at the root page."""
    with browser() as page:
        found = Reader(page, Path(os.environ.get(PICTURES) or tmp_path))
        found.open(searched.link)
        found.sees("Experiments")
        found.open(f"{searched.tracking_uri}/")
        yield found
