"""A folder for PEFT, loaded by plain PEFT and transformers, answers as the adapter does: texts
alone and padded together, for each type of decoder that folds. What would not is refused, by name.

Tolerance: 1e-6, what an export states.
"""

import ast
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from components.errors import ConfigError
from components.inference.exported import peft_classifier
from components.inference.exported.alike import SAMPLE_TEXTS, TOLERANCE, _logits
from components.inference.exported.peft_folder import write_peft
from tests.components.backbones.rotary.variants import padded
from tests.components.inference.exported.stock_backbones import MAX_TOKENS, P, tiny_classifier

TYPES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "mistral": {"sliding_window": None},
    "gemma": {},
    "gpt_neox": {"num_key_value_heads": 4},
    "phi": {},
    "olmo2": {},
    "granite": {},
    "smollm3": {},
    "nanochat": {},
}


def exported(classifier: Any, folder: Path) -> Path:
    folder.mkdir()
    write_peft(classifier, folder)
    return folder


def largest_difference(classifier: Any, folder: Path) -> float:
    loaded = peft_classifier.Classifier(str(folder))
    batches = [list(SAMPLE_TEXTS), *([text] for text in SAMPLE_TEXTS)]
    return max(
        float((loaded.logits(batch) - _logits(classifier, batch)).abs().max()) for batch in batches
    )


@pytest.mark.parametrize("model_type", TYPES)
def test_plain_peft_answers_as_the_adapter_does(model_type: str, tmp_path: Path) -> None:
    classifier = tiny_classifier(tmp_path, model_type, changes=TYPES[model_type])
    assert largest_difference(classifier, exported(classifier, tmp_path / "peft")) <= TOLERANCE


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("prefix_propagation", {"rank": 2}),
        ("prefix_propagation", {"reparametrization": "mlp", "reparametrization_hidden": 6}),
        ("adaptive_prefix_propagation", {}),
        ("prefix_tuning", {}),
        ("adaptive_prefix_tuning", {}),
        ("prompt_tuning", {}),
    ],
)
def test_every_form_of_a_static_prefix_is_exported(
    method: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    classifier = tiny_classifier(tmp_path, "qwen3", method=method, **settings)
    assert largest_difference(classifier, exported(classifier, tmp_path / "peft")) <= TOLERANCE


@pytest.mark.filterwarnings("ignore:head.pooling cls")
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_the_loader_pools_as_the_head_does(pooling: str, tmp_path: Path) -> None:
    classifier = tiny_classifier(tmp_path, pooling=pooling)
    assert largest_difference(classifier, exported(classifier, tmp_path / "peft")) <= TOLERANCE


def test_the_prefix_decides_the_answers(tmp_path: Path) -> None:
    """The comparison can fail: another prefix gives other logits."""
    from safetensors.torch import load_file, save_file

    classifier = tiny_classifier(tmp_path)
    folder = exported(classifier, tmp_path / "peft")
    tensors = load_file(folder / "adapter_model.safetensors")
    assert tensors["prompt_embeddings"].shape == (P, 4 * 2 * 2 * 8)
    save_file(
        {"prompt_embeddings": tensors["prompt_embeddings"].flip(0) * 1.1},
        folder / "adapter_model.safetensors",
    )
    assert largest_difference(classifier, folder) > 1e-4


def test_the_folder_says_what_peft_and_its_reader_need(tmp_path: Path) -> None:
    classifier = tiny_classifier(tmp_path)
    folder = exported(classifier, tmp_path / "peft")
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["peft_type"], config["task_type"]) == ("PREFIX_TUNING", "FEATURE_EXTRACTION")
    assert (config["num_virtual_tokens"], config["num_layers"]) == (P, 4)
    assert (config["token_dim"], config["num_attention_heads"]) == (16, 2)
    assert config["num_transformer_submodules"] == 1
    assert config["base_model_name_or_path"] == classifier.backbone.name_or_path
    told = json.loads((folder / "classifier.json").read_text())
    assert told["labels"] == list(classifier.labels) and told["temperature"] == 1.7
    assert (told["max_tokens"], told["pooling"]) == (MAX_TOKENS, "last")
    readme = (folder / "README.md").read_text()
    assert 'Classifier("this folder")' in readme and "`politics`, `space`, `sports`" in readme


def test_a_head_on_a_prefix_row_is_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="head.pooling prefix"):
        classifier = tiny_classifier(tmp_path, pooling="prefix")
    with pytest.raises(ConfigError, match=r"head\.pooling prefix reads a prefix row"):
        exported(classifier, tmp_path / "peft")
    assert not any((tmp_path / "peft").iterdir())


@pytest.mark.parametrize("model_type", ["mistral", "gemma3_text", "gpt_oss", "modernbert"])
def test_what_is_no_static_prefix_is_refused_before_anything_is_written(
    model_type: str, tmp_path: Path
) -> None:
    classifier = tiny_classifier(tmp_path, model_type)
    with pytest.raises(ConfigError, match="no static prefix stands for its rows"):
        exported(classifier, tmp_path / "peft")
    assert not any((tmp_path / "peft").iterdir())


def test_a_changed_config_of_the_backbone_is_refused(tmp_path: Path) -> None:
    """Stock libraries would read the checkpoint's own."""
    from dataclasses import replace

    classifier = tiny_classifier(tmp_path)
    changed = classifier.backbone.model_copy(
        update={"config_overrides": {"max_position_embeddings": 128}}
    )
    with pytest.raises(ConfigError, match="config_overrides changes max_position_embeddings"):
        exported(replace(classifier, backbone=changed), tmp_path / "peft")


def test_the_loader_is_short_and_needs_stock_libraries_alone() -> None:
    source = Path(peft_classifier.__file__).read_text()
    assert len([line for line in source.splitlines() if line.strip()]) <= 30
    nodes = list(ast.walk(ast.parse(source)))
    named = [each.name for node in nodes if isinstance(node, ast.Import) for each in node.names]
    named += [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)]
    imported = {name.partition(".")[0] for name in named}
    assert imported == {"json", "pathlib", "torch", "peft", "safetensors", "transformers"}


def test_greedy_generation_is_that_of_a_naive_loop(tmp_path: Path) -> None:
    """The cache grows behind the prefix; the loop runs rows and the whole text each time."""
    from peft import PeftConfig, PeftModel

    language_model, classifier = with_language_model(tmp_path)
    folder = exported(classifier, tmp_path / "peft")
    ids = torch.tensor([[5, 9, 31, 44, 12, 7]])
    expected = naive(classifier.model, language_model.lm_head, ids, count=50)
    config = PeftConfig.from_pretrained(str(folder))
    config.task_type = "CAUSAL_LM"
    model = PeftModel.from_pretrained(language_model, str(folder), config=config)
    found = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=50, do_sample=False
    )
    assert found.tolist() == expected.tolist()
    assert len(set(found[0].tolist())) > 5


def test_texts_of_different_lengths_are_generated_from_together(tmp_path: Path) -> None:
    """Padded on the left, where `generate` counts positions by the mask."""
    from peft import PeftConfig, PeftModel

    language_model, classifier = with_language_model(tmp_path)
    folder = exported(classifier, tmp_path / "peft")
    texts = [[5, 9, 31, 44, 12, 7], [23, 11, 50]]
    expected = [
        naive(classifier.model, language_model.lm_head, torch.tensor([text]), count=12)[0, -12:]
        for text in texts
    ]
    config = PeftConfig.from_pretrained(str(folder))
    config.task_type = "CAUSAL_LM"
    model = PeftModel.from_pretrained(language_model, str(folder), config=config)
    ids, mask = padded(texts, left=True)
    found = model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=12, do_sample=False, pad_token_id=0
    )
    assert found[:, -12:].tolist() == torch.stack(expected).tolist()


def with_language_model(place: Path) -> tuple[Any, Any]:
    """A tiny language model, and a classifier on its base model."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from tests.components.backbones.rotary.tiny import RECIPE
    from tests.components.inference.exported.stock_backbones import classifier_on

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama", **(RECIPE | {"max_position_embeddings": 128, "eos_token_id": None})
    )
    language_model = AutoModelForCausalLM.from_config(config).eval()
    return language_model, classifier_on(place, language_model.model)


@torch.no_grad()
def naive(model: Any, lm_head: Any, ids: torch.Tensor, *, count: int) -> torch.Tensor:
    """Ids (1, T + count): the likeliest token is put behind the text, and all is run again."""
    rows: list[torch.Tensor] = []
    handle = model.backbone.register_forward_hook(
        lambda _module, _inputs, output: rows.append(output.last_hidden_state)
    )
    for _ in range(count):
        model(input_ids=ids)
        ids = torch.cat([ids, lm_head(rows[-1][:, -1]).argmax(dim=-1)[:, None]], dim=1)
    handle.remove()
    return ids
