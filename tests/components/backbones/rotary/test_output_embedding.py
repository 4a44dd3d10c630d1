"""The rows of a checkpoint's language-model head are those of its own causal language model, for
every listed type: products, biases, scales and caps.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from components.backbones import BackboneConfig, load_backbone
from components.backbones.output_embedding import formed, output_embedding
from components.backbones.rotary.types import MODEL_TYPES
from components.errors import BackboneError
from tests.components.backbones.rotary.tiny import RECIPE, tiny_model
from tests.conftest import build_tiny_longformer

CAUSAL = [name for name, kind in MODEL_TYPES.items() if kind.is_causal]
WORDS = (7, 3, 90)
# Fields of some types, given to all: a type that does not know one takes no notice of it.
FORMED = {"final_logit_softcapping": 2.0, "logit_scale": 0.25, "logits_scaling": 3.0}
# Float32 products of 32 numbers, in whatever order.
TOLERANCE = 1e-5


def language_model(model_type: str, **changes: Any) -> Any:
    """A whole causal language model with a bias of its head, where the type has one, that is no
    zero.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **(RECIPE | FORMED | changes))
    model = AutoModelForCausalLM.from_config(config).eval()
    bias = getattr(model.get_output_embeddings(), "bias", None)
    if bias is not None:
        torch.nn.init.normal_(bias)
    return model


def loaded(folder: Path) -> Any:
    config = BackboneConfig(source="local", name_or_path=str(folder), family="decoder")
    return load_backbone(config, cache_path=folder)


def logits_of(backbone: Any, ids: Tensor, words: tuple[int, ...] | None) -> Tensor:
    rows = output_embedding(backbone, words)
    with torch.no_grad():
        hidden = backbone(input_ids=ids).last_hidden_state
        products = torch.nn.functional.linear(hidden, rows.weight_CD, rows.bias_C)
    return formed(products, scale=rows.scale, cap=rows.cap)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("model_type", CAUSAL)
def test_logits_are_those_of_the_type_s_own_language_model(
    model_type: str, tied: bool, tmp_path: Path
) -> None:
    model = language_model(model_type, tie_word_embeddings=tied)
    model.save_pretrained(tmp_path)
    ids = torch.randint(3, 90, (2, 9))
    with torch.no_grad():
        expected = model(input_ids=ids).logits
    backbone = loaded(tmp_path)
    for words, columns in ((WORDS, list(WORDS)), (None, slice(None))):
        found = logits_of(backbone, ids, words)
        torch.testing.assert_close(found, expected[..., columns], atol=TOLERANCE, rtol=TOLERANCE)


def test_the_fields_that_form_logits_do_form_them(tmp_path: Path) -> None:
    """So that the test above compares with something."""
    found = {}
    for model_type in ("gemma2", "cohere2", "granite", "llama"):
        language_model(model_type).save_pretrained(tmp_path / model_type)
        rows = output_embedding(loaded(tmp_path / model_type), WORDS)
        found[model_type] = (rows.scale, rows.cap)
    assert found == {
        "gemma2": (1.0, 2.0),
        "cohere2": (0.25, None),
        "granite": (pytest.approx(1 / 3), None),
        "llama": (1.0, None),
    }


def test_rows_are_found_in_shards(tmp_path: Path) -> None:
    model = language_model("llama")
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    rows = output_embedding(loaded(tmp_path), WORDS)
    assert torch.equal(rows.weight_CD, model.lm_head.weight[list(WORDS)])


def test_a_stored_head_counts_although_config_json_ties_it(tmp_path: Path) -> None:
    """As transformers has it where the two differ."""
    from transformers import AutoModelForCausalLM

    model = language_model("llama", tie_word_embeddings=False)
    model.config.tie_word_embeddings = True
    model.config.save_pretrained(tmp_path)
    save_file(
        {name: each.contiguous() for name, each in model.state_dict().items()},
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    whole = AutoModelForCausalLM.from_pretrained(tmp_path)
    rows = output_embedding(loaded(tmp_path), WORDS)
    assert torch.equal(rows.weight_CD, whole.lm_head.weight[list(WORDS)])
    assert not torch.equal(rows.weight_CD, whole.model.embed_tokens.weight[list(WORDS)])


def test_the_older_name_of_gpt_neox_is_read(tmp_path: Path) -> None:
    model = language_model("gpt_neox", tie_word_embeddings=False)
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    (head,) = [name for name in tensors if name in ("lm_head.weight", "embed_out.weight")]
    tensors["embed_out.weight"] = tensors.pop(head)
    save_file(tensors, path, metadata={"format": "pt"})
    rows = output_embedding(loaded(tmp_path), WORDS)
    assert torch.equal(rows.weight_CD, tensors["embed_out.weight"][list(WORDS)])


def test_rows_are_in_the_numbers_of_the_backbone(tmp_path: Path) -> None:
    model = language_model("llama")
    model.save_pretrained(tmp_path)
    config = BackboneConfig(source="local", name_or_path=str(tmp_path), family="decoder")
    backbone = load_backbone(config, cache_path=tmp_path, dtype=torch.bfloat16)
    rows = output_embedding(backbone, WORDS)
    expected = model.lm_head.weight[list(WORDS)].to(torch.bfloat16)
    assert torch.equal(rows.weight_CD, expected)


def test_a_tied_model_made_in_memory_has_the_rows_of_its_input_embedding() -> None:
    backbone = tiny_model("llama", tie_word_embeddings=True)
    rows = output_embedding(backbone, WORDS)
    assert torch.equal(rows.weight_CD, backbone.embed_tokens.weight[list(WORDS)])


def test_what_has_no_head_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"'made in memory' has no language-model head"):
        output_embedding(tiny_model("llama", tie_word_embeddings=False), WORDS)
    tiny_model("llama", tie_word_embeddings=False).save_pretrained(tmp_path)
    with pytest.raises(BackboneError, match=r"no lm_head\.weight.*Give the folder of the whole"):
        output_embedding(loaded(tmp_path), WORDS)
    with pytest.raises(BackboneError, match=r"a longformer has no language-model head"):
        output_embedding(build_tiny_longformer(), WORDS)


def test_a_token_beyond_the_vocabulary_and_a_quantised_head_are_refused(tmp_path: Path) -> None:
    language_model("llama").save_pretrained(tmp_path)
    backbone = loaded(tmp_path)
    with pytest.raises(BackboneError, match=r"token 97 is beyond the 97 rows"):
        output_embedding(backbone, (3, 97))
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    tensors["lm_head.weight"] = tensors["lm_head.weight"].to(torch.int8)
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(BackboneError, match=r"lm_head\.weight is I8: a quantised"):
        output_embedding(backbone, WORDS)
