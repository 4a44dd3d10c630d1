"""What commit befcae5 wrote stays usable: adapter folders, MLflow models, an interrupted search,
and the numbers that its trials computed.

Beside this file, befcae5/ holds what that commit wrote (its README says what, write_befcae5.py
how). A failure here is mended in the code, never in those files. Only the backbones are not among
them: they are built here, every weight from Python's own generator, and known by their sha256.
"""

import json
import lzma
import shutil
import sqlite3
import tarfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.compatibility.befcae5_workplace import (
    DATA,
    MADE_IN,
    ROOT,
    backbone,
    furnish,
    made_with,
    names,
    read,
    run,
    trial_histories,
)

ROUNDING = 1e-5
"""Float32 over two layers: another torch, or attention written anew, stays within this."""
OTHER_MACHINE = 1e-4
"""The same over a dozen steps of AdamW."""
LAST_DIGITS_DIFFER = {"decoder"}
"""Since then a decoder's first layer adds up its attention in two parts (constant_text.py)."""


# --- backbones ---


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to run commands in."""
    return furnish(tmp_path_factory.mktemp("befcae5"))


# --- adapter folders ---

METHODS = {
    "prefix_propagation",
    "prefix_tuning",
    "prompt_tuning",
    "propagation_and_prefix_tuning",
    "head_only",
    "full_fine_tuning",
    "lora",
    "adaptive_prefix_propagation",
    "adaptive_prefix_tuning",
    "prefix_memory",
    "kernel_prefix",
    "kernel_propagation",
}


def test_every_method_of_then_is_stored_as_folder_as_model_and_as_trial() -> None:
    folders = names("adapter_logits.json", "logits")
    stored = {read(f"adapters/{name}/adapter_config.json")["method"] for name in folders}
    assert stored == METHODS
    assert set(names("model_answers.json", "answers")) > METHODS
    assert set(names("trials.json", "trials")) > METHODS


@pytest.mark.parametrize("name", names("adapter_logits.json", "logits"))
def test_adapter_folder_loads_and_answers_as_then(name: str) -> None:
    import torch

    from components.adapters import load_adapter

    folder, stored = DATA / "adapters" / name, read("adapter_logits.json")
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    task, family = config["head"]["task"], config["backbone"]["family"]
    batch = {key: torch.tensor(rows) for key, rows in stored["batches"][task].items()}
    with torch.no_grad():
        found = load_adapter(backbone(family), folder)(**batch).logits
    expected = torch.tensor(stored["logits"][name])
    torch.testing.assert_close(found, expected, atol=ROUNDING, rtol=ROUNDING)


# --- MLflow models ---

ANSWER = """
import json, sys
from pathlib import Path
if sys.argv[1] == "imported":
    import components.adapters
import mlflow, pandas
asked, answers = json.loads(Path("model_answers.json").read_text())["asked"], {}
for folder in sorted(Path("models").iterdir()):
    config = json.loads((folder / "artifacts" / "adapter" / "adapter_config.json").read_text())
    rows = pandas.DataFrame(asked[config["head"]["task"]])
    try:
        model = mlflow.pyfunc.load_model(str(folder))
        answers[folder.name] = model.predict(rows).to_dict("records")
    except Exception as error:
        answers[folder.name] = f"{type(error).__name__}: {error}"
import components
print(json.dumps({"answers": answers, "code": list(components.__path__)[0]}))
"""
CODE = ("its own", "imported")
"""Whose code answers: MLflow puts the model's copy of `components` first, but Python keeps what a
process has imported before.
"""


@pytest.fixture(scope="module")
def models(workplace: Path) -> Path:
    """Folder with one MLflow model for each stored adapter."""
    with tarfile.open(DATA / "mlflow_models.tar.xz") as archive:
        archive.extractall(workplace, filter="data")
    shutil.copy(DATA / "model_answers.json", workplace)
    return workplace / "models"


@pytest.fixture(scope="module", params=CODE)
def answered(request: pytest.FixtureRequest, workplace: Path, models: Path) -> dict[str, Any]:
    """Every model's answers, from one process: with the code that lies in the model, or in a
    process that has imported the code under test before (then MLflow takes that one)."""
    done = run(workplace, "-c", ANSWER, request.param, this_code=request.param == "imported")
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert Path(found["code"]).is_relative_to(ROOT) == (request.param == "imported"), found["code"]
    return dict(found["answers"])


def check_answers(found: Any, name: str) -> None:
    """The same labels, and probabilities of the same labels in the same order."""
    expected = read("model_answers.json")["answers"][name]
    assert not isinstance(found, str), found
    assert [answer["label"] for answer in found] == [answer["label"] for answer in expected]
    for answer, then in zip(found, expected, strict=True):
        assert list(answer["probabilities"]) == list(then["probabilities"])
        assert answer["probabilities"] == pytest.approx(then["probabilities"], abs=ROUNDING)


@pytest.mark.slow
@pytest.mark.parametrize("name", names("model_answers.json", "answers"))
def test_mlflow_model_loads_and_answers_as_then(answered: dict[str, Any], name: str) -> None:
    check_answers(answered[name], name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["prefix_propagation", "decoder_suffix", "questions", "searched"])
def test_predict_answers_from_the_folder_in_a_model_as_then(
    workplace: Path, models: Path, name: str
) -> None:
    adapter, asked = models / name / "artifacts" / "adapter", read("model_answers.json")["asked"]
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    if config["head"]["task"] == "multiple_choice":
        (workplace / "asked.json").write_text(json.dumps(asked["multiple_choice"]))
        source = "asked.json"
    else:
        lines = [json.dumps(row) + "\n" for row in asked["classification"]]
        (workplace / "asked.jsonl").write_text("".join(lines))
        source = "asked.jsonl"
    files = ["--input", source, "--output", f"{name}.jsonl"]
    done = run(workplace, "-m", "pipelines.cli", "predict", "--model", str(adapter), *files)
    assert done.returncode == 0, done.stderr[-4000:]
    lines = (workplace / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    check_answers([json.loads(line) for line in lines], name)


# --- an interrupted search ---


def unpack_search(folder: Path) -> Path:
    """Put the interrupted search and its MLflow store into `folder`; returns the search's own."""
    shutil.copytree(DATA / "search", folder, dirs_exist_ok=True)
    (state,) = folder.glob("storage/*/*/search.json")
    text = state.read_text(encoding="utf-8").replace(MADE_IN, str(folder))
    state.write_text(text, encoding="utf-8")
    dump = lzma.decompress((folder / "mlflow.sql.xz").read_bytes()).decode("utf-8")
    store = sqlite3.connect(folder / "mlflow.db")
    store.executescript(dump.replace(MADE_IN, str(folder)))
    store.close()
    if version("mlflow") != read("backbones.json")["made_with"]["mlflow"]:
        upgraded = run(folder, "-m", "mlflow", "db", "upgrade", f"sqlite:///{folder}/mlflow.db")
        assert upgraded.returncode == 0, upgraded.stderr[-4000:]
    return state.parent


@pytest.mark.slow
def test_interrupted_search_resumes_and_keeps_its_finished_trial_or_says_in_one_line_why_not(
    tmp_path: Path,
) -> None:
    search = unpack_search(furnish(tmp_path))
    (record,) = search.glob("trials/*/trial.json")
    checkpoint = record.parent / "checkpoint"
    before = {path: path.read_bytes() for path in checkpoint.iterdir()}
    done = run(tmp_path, "-m", "pipelines.cli", "search", "toy.yaml", "--resume", "--json")
    assert {path: path.read_bytes() for path in checkpoint.iterdir()} == before
    if done.returncode == 2:
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("Error: ") and search.name in last, done.stderr[-4000:]
        assert "Traceback" not in done.stderr
        warnings.warn(f"a search of befcae5 is not resumed: {last}", stacklevel=1)
        return
    assert done.returncode == 0, done.stderr[-4000:]
    report, expected = json.loads(done.stdout), read("uninterrupted.json")
    finished, *others = report["trials"]
    then = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))["best_metrics"]
    assert finished["run_id"] == json.loads(record.read_text(encoding="utf-8"))["run_id"]
    assert finished["best_metrics"].items() <= then.items()
    assert finished["best_metrics"]["validation/nll"] == then["validation/nll"]
    for trial in (finished, *others):
        assert trial["outcome"] == "completed"
        for kind, then in expected["trials"][json.dumps(trial["point"])].items():
            found = {name: trial[kind][name] for name in then}
            assert found == pytest.approx(then, abs=OTHER_MACHINE), kind
    assert len(report["trials"]) == len(expected["trials"])
    assert report["best_trial"] == expected["best_trial"]
    found = {name: report["metrics"][name] for name in expected["metrics"]}
    assert found == pytest.approx(expected["metrics"], abs=OTHER_MACHINE)


# --- what trials compute ---


@pytest.fixture(scope="module")
def histories(workplace: Path) -> dict[str, Any]:
    """What the trials of trials.json compute here."""
    done = run(workplace, str(Path(__file__)))
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads((workplace / "histories.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", names("trials.json", "trials"))
def test_trial_computes_what_it_computed_then(histories: dict[str, Any], name: str) -> None:
    stored = read("trials.json")
    expected = stored["trials"][name]["history"]
    if made_with() == stored["made_with"] and name not in LAST_DIGITS_DIFFER:
        assert histories[name] == expected
    found, then = (
        [list(map(float.fromhex, entry.values())) for entry in history]
        for history in (histories[name], expected)
    )
    assert found == [pytest.approx(entry, abs=OTHER_MACHINE) for entry in then]


if __name__ == "__main__":
    trials = {name: trial["values"] for name, trial in read("trials.json")["trials"].items()}
    Path("histories.json").write_text(json.dumps(trial_histories(trials, Path.cwd())))
