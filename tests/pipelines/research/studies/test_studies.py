"""Both studies at toy size, from the experiment to the report: on a random backbone the answers
mean nothing, the accounts must still add up.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from components.config import ExperimentConfig, validate
from components.errors import BackboneError, ConfigError, DataError
from components.registry import open_tracker
from pipelines.experiments import load_experiment
from pipelines.research.studies import STUDIES, kernel, length
from pipelines.research.studies.study import StudyName, study
from tests.conftest import build_tiny_longformer
from tests.registry_fixtures import mlflow_uri
from tests.toy import make_experiment

__all__ = ["mlflow_uri"]
TRAINING = {
    "training": {"epochs": 1, "micro_batch_size": 4},
    "adapter": {"method": "prefix_propagation", "prefix_length": 4, "dropout": 0.0},
}
NEEDLE = {
    "lengths": [70],
    "test_lengths": [70, 110],
    "depths": [0.0, 1.0],
    "labels": 2,
    "distractors": 1,
}
NEEDLE |= {"train_documents": 8, "validation_documents": 4, "test_documents": 16}


def kernel_experiment(folder: Path, **study_settings: Any) -> ExperimentConfig:
    settings = {
        "kernels": ["exp", "polynomial"],
        "seeds": [10, 11],
        "mass_lengths": [8, 16, 24],
        "mass_documents": 2,
        "alpha_documents": 6,
    }
    return validate(
        ExperimentConfig,
        make_experiment(
            folder, build_tiny_longformer(), **TRAINING, study={"kernel": settings | study_settings}
        ),
    )


def length_experiment(folder: Path, **changes: Any) -> ExperimentConfig:
    values = make_experiment(
        folder, build_tiny_longformer(), **TRAINING, registry={"kind": "memory"}
    )
    real = values.pop("data")
    values["data"] = {"needle": NEEDLE, "max_tokens": 120}
    values["study"] = {"length": {"seeds": [10, 11], "real": real, "real_epochs": 1}}
    return validate(ExperimentConfig, values | changes)


def ran(
    name: StudyName, config: ExperimentConfig, output: Path, uri: str = ""
) -> tuple[Any, dict[str, Any], list[str]]:
    said: list[str] = []
    report = study(
        name,
        config,
        output=output,
        tracking_uri=uri,
        command=f"prefixprop study {name}",
        say=said.append,
    )
    return report, json.loads((report.folder / "study.json").read_text()), said


@pytest.mark.slow
def test_the_kernel_study_measures_keeps_and_goes_on(tmp_path: Path, mlflow_uri: str) -> None:
    config = kernel_experiment(tmp_path)
    report, numbers, said = ran("kernel", config, tmp_path / "out", mlflow_uri)
    trainings = 2 * (2 + 2 * 2 + 1)
    assert report.cells == trainings + 4 + 2 == sum(line.startswith("measuring ") for line in said)
    assert set(report.files) == {
        "findings.md",
        "study.json",
        "mass_by_length.png",
        "mass_by_head.png",
        "variants.png",
        "decomposition.png",
    }
    assert set(numbers["variants"]) == {
        *(
            "prefix_tuning",
            "prefix_propagation",
            "head_only",
            "kernel_prefix, exp",
            "kernel_prefix, polynomial",
        ),
        *("kernel_propagation, exp", "kernel_propagation, polynomial"),
    }
    assert (
        len({tuple(variant["training_tokens"]) for variant in numbers["variants"].values()}) == 1
    )  # equal budget
    for method in ("prefix_tuning", "prefix_propagation"):
        forms = numbers["closeness"][method]["forms"]
        assert forms["softmax"]["largest_difference"] == 0
        assert forms["input_dependent"]["largest_difference"] < 1e-4
        assert (
            forms["no_prefix"]["largest_difference"]
            > forms["input_dependent"]["largest_difference"]
        )
        shares = numbers["mass"][f"{method}/trained"]
        assert [len(shares[tokens]["local_BLH"]) for tokens in ("8", "16", "24")] == [2, 2, 2]
        assert all(
            0 < share < 1
            for tokens in shares.values()
            for row in tokens["first_BLH"][0]
            for share in row
        )
        assert numbers["mass"][f"{method}/initial"] != shares

    # An interruption: what is there is taken over, the rest measured again with the same outcome,
    # in the same tracking run.
    shutil.rmtree(report.folder)
    (tmp_path / "out" / "cells" / "kernel_prefix-exp-11.json").unlink()
    (tmp_path / "out" / "cells" / "mass-prefix_tuning-trained.json").unlink()
    again, same, said = ran("kernel", config, tmp_path / "out", mlflow_uri)
    assert [line for line in said if line.startswith("measuring ")] == [
        "measuring kernel_prefix-exp-11",
        "measuring mass-prefix_tuning-trained",
    ]
    assert _without_times(same) == _without_times(numbers)
    assert again.run_id == report.run_id
    tracker = open_tracker("mlflow", mlflow_uri)
    assert tracker.read_dict(report.run_id, "study/study.json")["mass"] == numbers["mass"]
    assert tracker.run_tags(report.run_id)["study"] == "kernel"


def _without_times(numbers: dict[str, Any]) -> Any:
    variants = {
        name: {key: value for key, value in each.items() if key != "training_seconds"}
        for name, each in numbers["variants"].items()
    }
    return {**numbers, "variants": variants, "provenance": None}


@pytest.mark.slow
def test_the_length_study_groups_compares_and_writes(tmp_path: Path) -> None:
    report, numbers, said = ran("length", length_experiment(tmp_path), tmp_path / "out")
    assert report.cells == 2 * 3 * 2 == sum(line.startswith("measuring ") for line in said)
    needle = numbers["needle"]
    assert {
        group: values["documents"] for group, values in needle["by_length"]["head_only"].items()
    } == {"70": 8, "110": 8}
    assert set(needle["differences"]) == {"prefix_tuning", "head_only"}
    for method, groups in needle["by_length"].items():
        mean = (
            sum(values["accuracy"]["value"] * values["documents"] for values in groups.values())
            / 16
        )
        assert mean == pytest.approx(needle["overall"][method]["accuracy"]["value"])
    for other, found in needle["differences"].items():
        apart = (
            needle["overall"]["prefix_propagation"]["accuracy"]["value"]
            - needle["overall"][other]["accuracy"]["value"]
        )
        assert found["overall"]["accuracy"]["value"] == pytest.approx(apart)
    assert (
        sum(values["documents"] for values in numbers["real"]["by_length"]["head_only"].values())
        == 9
    )
    text = (report.folder / "findings.md").read_text()
    assert "per doubling of length" in text and "prefixprop study length" in text
    assert str(tmp_path) not in text


def warm_start_experiment(folder: Path, **settings: Any) -> ExperimentConfig:
    values = make_experiment(
        folder,
        build_tiny_longformer(),
        adapter=TRAINING["adapter"],
        training={"epochs": 2, "micro_batch_size": 4, "evaluations_per_epoch": 2},
        registry={"kind": "memory"},
        study={"warm_start": {"seeds": [10, 11], "shorter_length": 2} | settings},
    )
    return validate(ExperimentConfig, values)


@pytest.mark.slow
def test_a_warm_start_is_the_champion_before_its_first_step(tmp_path: Path) -> None:
    config = warm_start_experiment(tmp_path, warm_rate_factors=[1.0, 0.25])
    report, numbers, said = ran("warm_start", config, tmp_path / "out")
    assert set(report.files) == {
        "findings.md",
        "study.json",
        "warm_and_cold.png",
    }
    assert set(numbers["seeds"]) == {"10", "11"}
    for found in numbers["seeds"].values():
        assert found["documents"]["all"] > found["documents"]["old"]
        best, arms = found["champion"]["best"], found["arms"]
        for factor in ("1", "0.25"):
            assert arms[f"warm x{factor}"]["start"] == pytest.approx(best, abs=1e-6)
        assert arms["cold"]["start"]["nll"] != pytest.approx(best["nll"], abs=1e-6)
        assert set(found["cut"]) == {"first", "largest", "smallest"}
        assert {len(arm["curve"]) for arm in arms.values()} == {4}
        assert arms["warm x0.25"]["learning_rate"] == arms["cold"]["learning_rate"] / 4
    assert (
        numbers["seeds"]["10"]["champion"]["curve"] != numbers["seeds"]["11"]["champion"]["curve"]
    )
    text = (report.folder / "findings.md").read_text()
    assert "## A shorter prefix" in text and str(tmp_path) not in text

    # Without the cuts nothing is trained again.
    without = warm_start_experiment(tmp_path, warm_rate_factors=[1.0, 0.25], shorter_length=None)
    report, _, said = ran("warm_start", without, tmp_path / "out")
    assert not [line for line in said if line.startswith("measuring ")]
    assert "## A shorter prefix" not in (report.folder / "findings.md").read_text()


def test_every_study_has_its_experiment_and_a_module() -> None:
    for name, module in STUDIES.items():
        config = load_experiment(f"study_{name}")
        assert getattr(config.study, name) is not None
        assert module == f"pipelines.research.studies.{name}"


def test_what_cannot_be_studied_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    config = kernel_experiment(tmp_path)
    with pytest.raises(ConfigError, match=r"study\.length is missing: the experiment 'toy'"):
        study("length", config, output=tmp_path / "out", tracking_uri="", command="")
    with pytest.raises(BackboneError, match="positions, but the backbone has"):
        kernel.check(kernel_experiment(tmp_path / "long", mass_lengths=[8, 4000]))
    needle = length_experiment(tmp_path / "length")
    without = needle.model_copy(update={"data": config.data})
    with pytest.raises(ConfigError, match=r"data\.needle is missing"):
        length.check(without)
    (tmp_path / "length" / "test.jsonl").unlink()
    with pytest.raises(
        DataError,
        match=r"^study\.length\.real\.files\.test: no file .*--set study\.length\.real=null",
    ):
        length.check(needle)
    assert not (tmp_path / "out").exists()
