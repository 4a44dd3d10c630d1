"""A worker on a node that came after the driver had asked all of them looks for itself."""

from pathlib import Path

import pytest

from components.errors import ClusterError
from components.jobs.slot_worker import check_storage


def test_a_node_without_the_driver_s_folder_is_named(tmp_path: Path) -> None:
    check_storage(tmp_path)
    with pytest.raises(
        ClusterError, match=r"^cluster\.storage_path: node \S+ does not see '.*gone'"
    ):
        check_storage(tmp_path / "gone")
