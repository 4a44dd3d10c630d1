"""The README's Python runs as it stands."""

import re
import textwrap
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_readme_s_python_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = README.read_text(encoding="utf-8").split("From Python, as it stands (a test runs it):")[
        1
    ]
    block = re.match(r"\n\n((?:    .*\n|\n)+)", after)
    assert block is not None
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(textwrap.dedent(block[1]), names)
    assert (tmp_path / "adapter" / "adapter_config.json").is_file()
    out = names["out"]
    assert out.logits.shape == (3, 2)  # type: ignore[attr-defined]
