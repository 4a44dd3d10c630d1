"""The repository says what is true of it: the README names every part, and nothing of one machine
is tracked.
"""

import re
import subprocess
from pathlib import Path
from zipfile import ZipFile

import pytest

PROJECT = Path(__file__).resolve().parents[1]


def tracked() -> list[Path]:
    answer = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    if answer.returncode != 0:
        pytest.skip("no git checkout")
    return [
        PROJECT / name for name in answer.stdout.split("\0") if name and (PROJECT / name).is_file()
    ]


def test_the_readme_names_every_workflow_and_every_component() -> None:
    tree = (
        (PROJECT / "README.md")
        .read_text(encoding="utf-8")
        .split("## Where is what")[1]
        .split("\n## ")[0]
    )
    named = {line.split()[0].rstrip("/") for line in tree.splitlines() if line.startswith("    ")}
    workflows = {
        path.name
        for path in tracked()
        if path.parent == PROJECT / "pipelines" and path.suffix == ".py"
    } - {"__init__.py"}
    components = {
        path.relative_to(PROJECT / "components").parts[0]
        for path in tracked()
        if PROJECT / "components" in path.parents
    }
    assert (workflows | components) - {"__init__.py", "README.md"} <= named


def test_the_readme_names_nothing_that_is_not_there() -> None:
    tree = (
        (PROJECT / "README.md")
        .read_text(encoding="utf-8")
        .split("## Where is what")[1]
        .split("\n## ")[0]
    )
    top = ""
    for line in tree.splitlines():
        if match := re.match(r"^    (  )?(\S+)", line):
            top = top if match[1] else match[2]
            assert (PROJECT / top / match[2] if match[1] else PROJECT / top).exists(), line


def test_nothing_tracked_is_of_one_machine() -> None:
    here = "/" + "work/"
    for path in tracked():
        text = path.read_bytes().decode("utf-8", errors="ignore")
        assert here not in text, path
        assert "/" + "root/" not in text, path


def test_ignore_patterns_of_uploads_are_anchored() -> None:
    """An unanchored `data/` would drop components/data/ from what `ray job submit` uploads."""
    lines = [
        line
        for line in (PROJECT / ".rayignore").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert all(line.startswith("/") for line in lines)


def test_an_upload_holds_the_code_and_stays_far_below_the_limit(tmp_path: Path) -> None:
    """Packed by Ray's own code: its limit is 100 MiB."""
    from ray._private.runtime_env.packaging import create_package

    package = tmp_path / "upload.zip"
    create_package(
        str(PROJECT), package, include_gitignore=True, excludes=[".git", ".venv", "__pycache__"]
    )
    with ZipFile(package) as uploaded:
        names = set(uploaded.namelist())
    assert {
        "pipelines/cli.py",
        "components/data/__init__.py",
        "pipelines/experiments/demo.yaml",
    } <= names
    assert not any(name.startswith((".venv/", ".prefixprop/", "tests/")) for name in names)
    assert package.stat().st_size < 10 * 1024**2
