"""What is installed can be told to whoever has to watch it for vulnerabilities."""

import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from pipelines.local_cluster.doctor import pinned

PROJECT = Path(__file__).resolve().parents[1]


def plain(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


@pytest.mark.slow
def test_make_sbom_lists_every_pinned_package_with_its_version(tmp_path: Path) -> None:
    pytest.importorskip("cyclonedx_py", reason="cyclonedx-bom is not installed (make install)")
    file, binaries = tmp_path / "sbom.json", Path(sys.executable).parent
    make = ["make", "-o", ".venv/.installed", "sbom", f"SBOM={file}", f"BIN={binaries}"]
    subprocess.run(make, cwd=PROJECT, check=True, capture_output=True, timeout=300)
    content = json.loads(file.read_text())
    assert content["bomFormat"] == "CycloneDX"
    assert content["metadata"]["component"]["name"] == "prefixprop"
    listed = {plain(each["name"]): each["version"] for each in content["components"]}
    for name, expected in pinned(PROJECT / "constraints.txt"):
        try:
            installed = version(name)
        except PackageNotFoundError:
            continue  # of an extra that was not asked for
        assert listed[plain(name)] == installed and installed.partition("+")[0] == expected
