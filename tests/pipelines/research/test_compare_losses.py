"""Golden runs of two commits: a difference is told with its step and size, equality as such."""

import subprocess
from pathlib import Path

import pytest

from pipelines.research.compare_losses import Difference, checked_out, differences, table


def test_equal_losses_are_bit_identical_and_others_name_step_and_size() -> None:
    before = {"lora": [1.0, 0.5, 0.25], "head_only": [1.0, 0.5, 0.25]}
    after = {"lora": [1.0, 0.5, 0.25], "head_only": [1.0, 0.5, 0.2501]}
    rows = differences(before, after)
    assert rows[0] == Difference("lora", None, 0.0)
    assert rows[1].first_step == 2 and rows[1].largest == pytest.approx(1e-4)
    assert table(rows).splitlines()[0] == "lora       bit-identical"
    assert "differs from step 2 on, by 0.0001 at most" in table(rows)


def test_a_method_that_one_commit_lacks_is_left_out() -> None:
    assert differences({"lora": [1.0], "gone": [1.0]}, {"lora": [1.0], "new": [1.0]}) == (
        Difference("lora", None, 0.0),
    )


def test_runs_of_different_length_are_no_comparison() -> None:
    with pytest.raises(ValueError, match="zip"):
        differences({"lora": [1.0, 0.5]}, {"lora": [1.0]})


def test_a_commit_is_checked_out_beside_the_project(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "file.txt").write_text("then", encoding="utf-8")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "first"], check=True)
    (tmp_path / "file.txt").write_text("now", encoding="utf-8")
    with checked_out("HEAD", tmp_path) as checkout:
        assert (checkout / "file.txt").read_text(encoding="utf-8") == "then"
    assert not checkout.exists()
    with (
        pytest.raises(RuntimeError, match="commit 'nonesuch'"),
        checked_out("nonesuch", tmp_path),
    ):
        pass
