"""Every file of infra/ is right, and found wrong when a key, a value or a name in it is broken. A
new file is covered by being there. Not covered: a real cluster taking them.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.infra.kinds import (
    compose_file,
    dashboard,
    dockerfile,
    kubernetes_file,
    kustomization,
    prometheus_file,
    settings_file,
    shell_script,
)
from tests.infra.kinds.file_kind import WAYS, FileKind
from tests.infra.references import INFRA

MODULES = (
    kustomization,
    settings_file,
    kubernetes_file,
    compose_file,
    dockerfile,
    prometheus_file,
    dashboard,
    shell_script,
)
"""The first that knows a file is the one that checks it."""
FILES = sorted(path for path in INFRA.rglob("*") if path.is_file() and path.suffix != ".md")


def kind_of(path: Path) -> FileKind:
    relative = path.relative_to(INFRA)
    for module in MODULES:
        if any(path in INFRA.glob(pattern) for pattern in module.KIND.patterns):
            return module.KIND
    raise AssertionError(f"no kind of file covers infra/{relative}: add it to tests/infra/kinds")


def content_of(path: Path) -> Any:
    return kind_of(path).read(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return str(path.relative_to(INFRA))


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_is_wrong_with_a_file(path: Path) -> None:
    assert kind_of(path).problems(path, content_of(path)) == []


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_that_is_broken_in_any_of_three_ways_is_found_wrong(path: Path) -> None:
    kind = kind_of(path)
    broken = kind.broken(path, content_of(path))
    assert set(broken) == set(WAYS) and all(broken.values()), broken.keys()
    for way, contents in broken.items():
        for content in contents:
            assert kind.problems(path, content), (way, content)
