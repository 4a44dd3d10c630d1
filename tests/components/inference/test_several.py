"""Several adapters of one backbone answer as each does alone, bit for bit, from one reading of each
document where none of them changes the text.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import pandas
import pytest
import torch

from components.adapters import (
    ClassificationHeadConfig,
    MultipleChoiceHeadConfig,
    adapt,
    save_adapter,
)
from components.adapters import PrefixPropagationConfig as Propagation
from components.backbones import BackboneConfig, load_backbone
from components.errors import ConfigError
from components.inference.classifier import Classifier, load_classifier
from components.inference.several import Several
from components.registry import open_tracker
from components.settings import resolved
from tests.components.inference.test_models_serve import register
from tests.conftest import build_tiny_decoder, build_tiny_longformer
from tests.registry_fixtures import sample_texts, tiny_tokenizer

TEXTS = sample_texts(11)
APART = {"decoder": "suffix", "longformer": "one_way"}
Make = Callable[..., Classifier]


def new_backbone(place: Path, family: str, seed: int = 0) -> BackboneConfig:
    torch.manual_seed(seed)
    model = build_tiny_decoder() if family == "decoder" else build_tiny_longformer()
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(1 + seed)
    model.save_pretrained(place)
    tiny_tokenizer(pad_id=model.config.pad_token_id).save_pretrained(place)
    return BackboneConfig(source="local", name_or_path=str(place), family=family)


def new_adapter(place: Path, source: BackboneConfig, seed: int, **changes: Any) -> Classifier:
    """`changes`: of the method's settings, the number of `labels`, `max_tokens`."""
    torch.manual_seed(seed)
    labels, max_tokens = changes.pop("labels", 3), changes.pop("max_tokens", 96)
    head = changes.pop("head", None) or ClassificationHeadConfig(
        num_labels=labels, pooling="last" if source.family == "decoder" else "prefix"
    )
    model = adapt(load_backbone(source, cache_path=place), Propagation(**changes), head)
    with torch.no_grad():
        for parameter in model.trainable_parameters().values():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    training = {"max_tokens": max_tokens}
    save_adapter(model, place, training=training, backbone_id={"load": resolved(source)})
    return load_classifier(place, cache_path=place, trusted=True)


def embedded(classifiers: list[Classifier], ask: Callable[[], Any]) -> tuple[Any, int]:
    """(what asking gives, rows of text that went into any of their backbones meanwhile)."""
    count, handles = 0, []

    def add(_module: Any, inputs: Any) -> None:
        nonlocal count
        count += inputs[0].numel()

    for each in classifiers:
        table: Any = each.model.backbone.get_input_embeddings()  # type: ignore[operator]
        handles.append(table.register_forward_pre_hook(add))
    found = ask()
    for handle in handles:
        handle.remove()
    return found, count


def _answers(classifier: Classifier) -> list[Any]:
    return list(classifier.answers(TEXTS))


def check_together(named: dict[str, Classifier], *, readings: int) -> None:
    """Together they answer as alone, and text goes through a backbone `readings` times."""
    alone, whole = {}, {}
    for name, each in named.items():
        alone[name], whole[name] = embedded([each], partial(_answers, each))
    together = Several(named)
    found, count = embedded(list(named.values()), lambda: list(together.answers(TEXTS)))
    assert found == [{name: alone[name][place] for name in named} for place in range(len(TEXTS))]
    passes = together.passes()
    assert sorted(name for each in passes for name in each) == sorted(named)
    assert len(passes) == readings
    assert count == sum(whole[each[0]] for each in passes)


@pytest.mark.parametrize("family", ["decoder", "longformer"])
def test_a_document_is_read_once_for_all_adapters_that_leave_it_as_it_is(
    family: str, tmp_path: Path
) -> None:
    source = new_backbone(tmp_path / "backbone", family)
    named = {
        f"a/{number}": new_adapter(
            tmp_path / str(number),
            source,
            number,
            placement=APART[family],
            prefix_length=2 + number,
            labels=2 + number,
        )
        for number in (1, 2, 3)
    }
    check_together(named, readings=1)


def test_an_adapter_that_changes_the_text_or_cuts_it_otherwise_takes_a_pass_of_its_own(
    tmp_path: Path,
) -> None:
    source = new_backbone(tmp_path / "backbone", "decoder")
    forms: dict[str, dict[str, Any]] = {
        "suffix": {"placement": "suffix"},
        "prefix": {},
        "short": {"placement": "suffix", "max_tokens": 20},
        "other suffix": {"placement": "suffix"},
    }
    named = {
        name: new_adapter(tmp_path / name, source, seed, **changes)
        for seed, (name, changes) in enumerate(forms.items())
    }
    check_together(named, readings=3)
    assert Several(named).passes() == (("prefix",), ("suffix", "other suffix"), ("short",))


def test_a_registered_model_answers_for_further_ones_too(mlflow_uri: str, tmp_path: Path) -> None:
    source = new_backbone(tmp_path / "backbone", "decoder")
    other = new_backbone(tmp_path / "other", "decoder", seed=1)
    names = ("several-first", "several-second", "several-other")
    tracker = open_tracker("mlflow", mlflow_uri)
    for seed, (name, backbone) in enumerate(zip(names, (source, source, other), strict=True)):
        new_adapter(tmp_path / name, backbone, seed, placement="suffix")
        register(tracker, tmp_path / name, experiment="several", name=name)
    mlflow.set_tracking_uri(mlflow_uri)
    frame = pandas.DataFrame({"text": TEXTS})
    first, second, third = (f"models:/{name}@champion" for name in names)

    def load(*also: str) -> Any:
        told = {"cache_path": str(tmp_path), "also": list(also)}
        return mlflow.pyfunc.load_model(first, model_config=told)

    alone, expected = load().predict(frame), mlflow.pyfunc.load_model(second).predict(frame)
    assert list(alone.columns) == ["label", "probabilities"]
    model = load(second)
    found = model.predict(frame)
    pandas.testing.assert_frame_equal(found[["label", "probabilities"]], alone)
    assert [each["several-second/1"] for each in found["also"]] == expected.to_dict("records")
    live = model.unwrap_python_model()
    both = [live.following.current.classifier, *live.also.values()]
    _, count = embedded(both, lambda: model.predict(frame))
    assert count == embedded(both, lambda: list(both[0].answers(TEXTS)))[1]
    for wrong, told in (
        (third, "'several-first/1' and 'several-other/1' stand on different backbones"),
        (first, "'several-first/1' answers by itself"),
        ("several-second", "'several-second' is no registered version"),
        ("models:/several-second", "'models:/several-second' is no registered version"),
    ):
        with pytest.raises(ConfigError, match=told):
            load(wrong)


def test_another_backbone_is_refused_by_name(tmp_path: Path) -> None:
    adapters = {
        f"{name}/1": new_adapter(
            tmp_path / name, new_backbone(tmp_path / f"{name}-backbone", "decoder", seed), seed
        )
        for seed, name in enumerate(("one", "other"))
    }
    with pytest.raises(
        ConfigError,
        match=r"'one/1' and 'other/1' stand on different backbones.*one-backbone and .*"
        r"weights sha256 \w+ and sha256 \w+\. Ask them apart",
    ):
        Several(adapters)


def test_another_task_is_refused_by_name(tmp_path: Path) -> None:
    source = new_backbone(tmp_path / "backbone", "longformer")
    classifies = new_adapter(tmp_path / "one", source, 0)
    chooses = new_adapter(tmp_path / "other", source, 1, head=MultipleChoiceHeadConfig())
    with pytest.raises(
        ConfigError, match="'a' was trained for classification and 'b' for multiple choice"
    ):
        Several({"a": classifies, "b": chooses})
