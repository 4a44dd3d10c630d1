"""Settings of the adapter methods: one section, chosen by `adapter.method`."""

from typing import Any

import pytest

from components.config import ADAPTER_CONFIGS, ExperimentConfig, resolved, validate
from components.config.loading import config_paths
from components.errors import ConfigError

BASE: dict[str, Any] = {"name": "toy", "backbone": {"name_or_path": "a/b", "family": "longformer"}, "data": {"files": {"train": "x.jsonl"}}}


def with_adapter(adapter: dict[str, Any], **sections: Any) -> ExperimentConfig:
    return validate(ExperimentConfig, BASE | {"adapter": adapter} | sections)


def refused(adapter: dict[str, Any], **sections: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        with_adapter(adapter, **sections)
    return str(caught.value)


def test_method_left_out_is_prefix_propagation() -> None:
    assert validate(ExperimentConfig, BASE).adapter.method == with_adapter({"prefix_length": 3}).adapter.method == "prefix_propagation"
    assert with_adapter({"prefix_length": 3}).adapter.prefix_length == 3


@pytest.mark.parametrize("method", ADAPTER_CONFIGS)
def test_every_method_survives_its_own_resolved_form(method: str) -> None:
    config = with_adapter({"method": method})
    assert type(config.adapter) is ADAPTER_CONFIGS[method]
    assert validate(ExperimentConfig, resolved(config)) == config
    assert config.adapter.prefix_length == (0 if "prefix_length" not in ADAPTER_CONFIGS[method].model_fields else 8)


def test_prefix_length_is_one_path_for_all_methods_that_have_it() -> None:
    assert [path for path in config_paths(ExperimentConfig) if path == "adapter.prefix_length"] == ["adapter.prefix_length"]
    assert with_adapter({"method": "prompt_tuning", "prefix_length": 5}).adapter.prefix_length == 5


def test_errors_name_method_path_and_fix() -> None:
    assert refused({"method": "lorra"}).startswith('adapter.method "lorra" is unknown. Known: prefix_propagation, prefix_tuning,')
    assert (
        refused({"method": "lora", "prefix_length": 4})
        == "adapter.prefix_length is no setting of 'lora'. Remove it or choose another method."
    )
    assert refused({"method": "prefix_tuning", "prefix_length": 0}).startswith("adapter.prefix_length: ")
    assert refused({"prefix_lenght": 4}) == "Unknown config path 'adapter.prefix_lenght'. Did you mean 'adapter.prefix_length'?"


def test_rules_across_sections_hold_at_load_time() -> None:
    decoder = {"name_or_path": "a/b", "family": "decoder"}
    assert refused({"method": "kernel_propagation"}, backbone=decoder).startswith(
        "adapter.method kernel_propagation needs prefix rows that see the text"
    )
    assert refused({"method": "prefix_tuning", "released_indexing": True}, backbone=decoder).startswith(
        "adapter.released_indexing repeats an error"
    )
    assert refused({"method": "full_fine_tuning"}, training={"precision": "bf16"}).startswith(
        "adapter.method full_fine_tuning needs training.precision fp32"
    )
    questions = {"qangaroo": {"train": "x.json"}}
    assert refused({}, backbone=decoder, data=questions).startswith(
        "data.qangaroo asks for scores at candidates that stand before the documents"
    )
    assert refused({"method": "prefix_tuning", "released_indexing": True}, data=questions).startswith(
        "adapter.released_indexing repeats an error"
    )
    assert with_adapter({}, data=questions).data.task == "multiple_choice" != with_adapter({}).data.task
    both = questions | {"files": {"train": "x.jsonl"}}
    assert "give exactly one of files, hub, installed_source, needle, qangaroo; got files, qangaroo" in refused({}, data=both)
