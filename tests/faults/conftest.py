from collections.abc import Iterator

import pytest

from tests.faults import harness


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    with harness.local_cluster() as address:
        yield address
