"""Settings of the adapter methods: one section, chosen by `adapter.method`."""

from typing import Any

import pytest

from components.config import ADAPTER_CONFIGS, ExperimentConfig, resolved, validate
from components.errors import ConfigError
from components.settings import config_paths

BASE: dict[str, Any] = {
    "name": "toy",
    "backbone": {"name_or_path": "a/b", "family": "longformer"},
    "data": {"files": {"train": "x.jsonl"}},
}


def with_adapter(adapter: dict[str, Any], **sections: Any) -> ExperimentConfig:
    return validate(ExperimentConfig, BASE | {"adapter": adapter} | sections)


def refused(adapter: dict[str, Any], **sections: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        with_adapter(adapter, **sections)
    return str(caught.value)


def test_method_left_out_is_prefix_propagation() -> None:
    assert (
        validate(ExperimentConfig, BASE).adapter.method
        == with_adapter({"prefix_length": 3}).adapter.method
        == "prefix_propagation"
    )
    assert with_adapter({"prefix_length": 3}).adapter.prefix_length == 3


@pytest.mark.parametrize("method", ADAPTER_CONFIGS)
def test_every_method_survives_its_own_resolved_form(method: str) -> None:
    config = with_adapter({"method": method})
    assert type(config.adapter) is ADAPTER_CONFIGS[method]
    assert validate(ExperimentConfig, resolved(config)) == config
    assert config.adapter.prefix_length == (
        0 if "prefix_length" not in ADAPTER_CONFIGS[method].model_fields else 8
    )


def test_prefix_length_is_one_path_for_all_methods_that_have_it() -> None:
    assert [path for path in config_paths(ExperimentConfig) if path == "adapter.prefix_length"] == [
        "adapter.prefix_length"
    ]
    assert with_adapter({"method": "prompt_tuning", "prefix_length": 5}).adapter.prefix_length == 5


def test_errors_name_method_path_and_fix() -> None:
    assert refused({"method": "lorra"}).startswith(
        'adapter.method "lorra" is unknown. Known: prefix_propagation, prefix_tuning,'
    )
    assert (
        refused({"method": "lora", "prefix_length": 4})
        == "adapter.prefix_length is no setting of 'lora'. Remove it or choose another method."
    )
    assert refused({"method": "prefix_tuning", "prefix_length": 0}).startswith(
        "adapter.prefix_length: "
    )
    assert (
        refused({"prefix_lenght": 4})
        == "Unknown config path 'adapter.prefix_lenght'. Did you mean 'adapter.prefix_length'?"
    )


def test_rules_across_sections_hold_at_load_time() -> None:
    decoder = {"name_or_path": "a/b", "family": "decoder"}
    assert refused({"method": "kernel_propagation"}, backbone=decoder).startswith(
        "adapter.method kernel_propagation needs prefix rows that see the text"
    )
    assert refused(
        {"method": "prefix_tuning", "released_indexing": True}, backbone=decoder
    ).startswith("adapter.released_indexing repeats an error")
    assert refused({"method": "full_fine_tuning"}, training={"precision": "bf16"}).startswith(
        "adapter.method full_fine_tuning needs training.precision fp32"
    )
    questions = {"qangaroo": {"train": "x.json"}}
    assert refused({}, backbone=decoder, data=questions).startswith(
        "data.qangaroo (multiple choice) asks for scores at candidates that stand before the "
        "documents"
    )
    assert refused(
        {"method": "prefix_tuning", "released_indexing": True}, data=questions
    ).startswith("adapter.released_indexing repeats an error")
    assert (
        with_adapter({}, data=questions).data.task
        == "multiple_choice"
        != with_adapter({}).data.task
    )
    both = questions | {"files": {"train": "x.jsonl"}}
    known = "files, hub, installed_source, letters, needle, qangaroo"
    assert f"give exactly one of {known}; got files, qangaroo" in refused({}, data=both)


def test_the_direction_of_a_metric_follows_from_it_and_is_not_turned_round() -> None:
    assert with_adapter({}, training={"metric": "validation/nll"}).training.mode == "min"
    assert with_adapter({}, training={"metric": "validation/macro_f1"}).training.mode == "max"
    assert "mode max would keep the worst evaluation by validation/nll" in refused(
        {}, training={"metric": "validation/nll", "mode": "max"}
    )
    assert (
        "metric 'validation/f1' is not measured; known: validation/accuracy, validation/macro_f1"
        in refused({}, training={"metric": "validation/f1"})
    )


def test_metrics_that_choose_are_metrics_that_are_measured() -> None:
    import numpy as np

    from components.evaluation import classification_metrics
    from components.tasks import metric_directions
    from components.tasks.language_modelling import per_token

    measured = classification_metrics(np.array([[0.6, 0.4], [0.3, 0.7]]), np.array([0, 1]))
    known = {name.removeprefix("validation/") for name in metric_directions()}
    of_tokens = per_token(np.array([[2.0, 1.0]]))
    assert known <= measured.keys() | of_tokens.keys()


def test_a_metric_that_the_task_does_not_measure_is_refused() -> None:
    questions = {"qangaroo": {"train": "x.json"}}
    assert refused({}, data=questions, training={"metric": "validation/macro_f1"}).startswith(
        "training.metric validation/macro_f1 is not measured for data.task multiple_choice; known: "
        "validation/accuracy"
    )


def test_what_no_table_lists_is_refused_by_name() -> None:
    data = {"files": {"train": "x.jsonl"}, "task": "parsing"}
    assert refused({}, data=data) == (
        "data.task 'parsing' is unknown. Known: classification, label_words, language_modelling, "
        "multiple_choice."
    )
    backbone = {"name_or_path": "a/b", "family": "gptj"}
    assert refused({}, backbone=backbone) == (
        'backbone.family "gptj" is unknown. Known: longformer, decoder, encoder.'
    )


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"seed": -1}, "seed"),
        (
            {"backbone": {"name_or_path": "a/b", "family": "decoder", "hidden_dropout": 0.1}},
            "hidden_dropout: the decoders of this family have no such dropout",
        ),
    ],
)
def test_settings_that_could_not_work_are_refused(sections: dict[str, Any], message: str) -> None:
    assert message in refused({}, **sections)
