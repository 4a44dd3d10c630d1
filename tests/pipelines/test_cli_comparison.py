"""`prefixprop compare` as it is typed: what is wrong is one line, a dry run counts."""

import json
from pathlib import Path

import pytest

from tests.pipelines.typed import call


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["base.training.epoch=1"],
            (
                "Error: Unknown config path 'base.training.epoch'. Did you mean "
                "'base.training.epochs'?"
            ),
        ),
        (
            ["search.points=2"],
            "Error: methods.propagation.points: 1 points, but search.points is 2",
        ),
        (
            ["tasks.fruit.data.max_tokens=512"],
            "Error: data.max_tokens 512 + adapter.prefix_length 4 = 516 positions",
        ),
        (
            ["tasks.fruit.data.files.train=missing.jsonl"],
            "Error: tasks.fruit: data.files.train: no file 'missing.jsonl'.",
        ),
    ],
)
def test_a_wrong_comparison_ends_with_code_2_and_one_line(
    experiment: str, overrides: list[str], line: str
) -> None:
    code, stdout, stderr = call(
        "compare",
        "toys.yaml",
        "--dry-run",
        "--json",
        *[part for each in overrides for part in ("--set", each)],
    )
    assert (code, stdout) == (2, "")
    assert stderr.startswith(line)
    assert stderr.count("\n") == 1


def test_a_missing_file_of_a_comparison_is_mended_by_its_own_path(experiment: str) -> None:
    _, _, stderr = call(
        "compare", "toys.yaml", "--dry-run", "--set", "tasks.fruit.data.files.train=missing.jsonl"
    )
    assert "--set tasks.fruit.data.files.train=..." in stderr


def test_a_dry_run_of_a_comparison_counts_cells_tokens_and_parameters(experiment: str) -> None:
    rows = [
        {"id": str(row), "text": f"{'apple' if row % 2 else 'pear'} number {row}", "label": row % 2}
        for row in range(40)
    ]
    Path("documents.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, stdout, _ = call(
        "compare", "toys.yaml", "--dry-run", "--json", "--set", "base.training.epochs=3"
    )
    plan = json.loads(stdout)
    assert code == 0
    assert (plan["searches"], plan["finals"]) == (2, 4)
    assert sum(plan["documents"]["fruit"].values()) == 40
    propagation, head = plan["methods"]
    assert propagation["parameters"][0] > head["parameters"][0]
    assert plan["trained_tokens"] == 2 * (1 + 2) * head["final_tokens"]
    assert not any(Path().glob(".prefixprop/storage"))
