"""Where a fresh prefix starts (adapter.init): drawn, at zero, or from the embeddings of a text."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from components.adapters import (
    AdaptedModel,
    ClassificationHeadConfig,
    HeadOnlyConfig,
    PrefixPropagationConfig,
    PromptTuningConfig,
    adapt,
    load_adapter,
    save_adapter,
)
from components.config import ExperimentConfig, config_sha256, validate
from components.errors import ConfigError
from tests.components.adapters.harness import build, documents
from tests.components.adapters.method_models import C
from tests.toy import make_tokenizer

P = 5
TEXT = "w3 w1 w4"
"""Three tokens, fewer than P."""
LONG = "w3 w1 w4 w7 w5 w9 w2"
METHODS: dict[str, Any] = {
    "prefix_propagation": PrefixPropagationConfig,
    "prompt_tuning": PromptTuningConfig,
}
KINDS = ("longformer", "llama")
HEAD = ClassificationHeadConfig(num_labels=C, pooling="last")
BASE: dict[str, Any] = {
    "name": "toy",
    "backbone": {"name_or_path": "a/b", "family": "longformer"},
    "data": {"files": {"train": "x.jsonl"}},
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def started(kind: str, method: str, tokenizer: Any = None, **settings: Any) -> AdaptedModel:
    torch.manual_seed(1)
    config = METHODS[method](prefix_length=P, **settings)
    return adapt(build(kind), config, HEAD, tokenizer=tokenizer).eval()


def rows_of(model: AdaptedModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of the first layer (P, D), and of all others."""
    adapter: Any = model.adapter
    if hasattr(adapter, "prompt"):
        return adapter.prompt.detach(), torch.zeros(0)
    return adapter.prefix[0].detach(), adapter.prefix[1:].detach()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_zeros_start_at_zero_and_learn(kind: str, method: str) -> None:
    model = started(kind, method, init="zeros").train()
    first_PD, others = rows_of(model)
    assert not first_PD.any() and not others.any()
    _, ids, mask = documents(model.backbone.config.pad_token_id)
    model(ids, mask, torch.tensor([0, 2])).loss.backward()
    for name, parameter in model.trainable_parameters().items():
        if name.startswith("adapter."):
            assert parameter.grad is not None and bool(parameter.grad.isfinite().all())
            assert bool(parameter.grad.any()), name


@pytest.mark.parametrize(
    ("text", "words"), [(TEXT, "w3 w1 w4 w3 w1"), (LONG, "w3 w1 w4 w7 w5")], ids=["short", "long"]
)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_text_gives_the_first_layer_its_embeddings(
    kind: str, method: str, text: str, words: str, tokenizer: Any
) -> None:
    model = started(kind, method, tokenizer, init="text", init_text=text)
    backbone: Any = model.backbone
    ids = torch.tensor(tokenizer.convert_tokens_to_ids(words.split()))
    first_PD, others = rows_of(model)
    assert torch.equal(first_PD, backbone.get_input_embeddings().weight[ids])
    assert not others.any()


def test_a_prompt_that_starts_from_a_text_answers_as_if_it_stood_before_the_document(
    tokenizer: Any,
) -> None:
    model = started("llama", "prompt_tuning", tokenizer, init="text", init_text=LONG)
    plain = adapt(build("llama"), HeadOnlyConfig(), HEAD).eval()
    plain.head.load_state_dict(model.head.state_dict())  # type: ignore[attr-defined]
    texts, _, _ = documents(0)
    before = tokenizer.convert_tokens_to_ids(LONG.split())[:P]
    for text in texts:
        with torch.no_grad():
            found = model(torch.tensor([text])).logits
            expected = plain(torch.tensor([[*before, *text]])).logits
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_every_start_has_the_same_head(method: str, tokenizer: Any) -> None:
    """A comparison of starts differs in nothing else."""
    heads = [
        started("llama", method, tokenizer, **settings).head.state_dict()  # type: ignore
        for settings in ({}, {"init": "zeros"}, {"init": "text", "init_text": TEXT})
    ]
    for other in heads[1:]:
        assert all(torch.equal(other[name], value) for name, value in heads[0].items())


def test_in_bf16_the_prefix_is_float32_all_the_same(tokenizer: Any) -> None:
    config = PrefixPropagationConfig(prefix_length=P, init="text", init_text=TEXT)
    backbone = build("llama").bfloat16()
    adapter: Any = adapt(backbone, config, HEAD, tokenizer=tokenizer).adapter
    assert adapter.prefix.dtype == torch.float32
    ids = tokenizer.convert_tokens_to_ids(TEXT.split())
    expected = backbone.get_input_embeddings().weight[ids].float()
    assert torch.equal(adapter.prefix[0, :3], expected)


def test_an_artifact_keeps_the_text_and_loads_without_a_tokenizer(
    tmp_path: Path, tokenizer: Any
) -> None:
    model = started("longformer", "prefix_propagation", tokenizer, init="text", init_text=TEXT)
    _, ids, mask = documents(1)
    expected = model(ids, mask).logits
    folder = save_adapter(model, tmp_path / "adapter")
    stored = json.loads((folder / "adapter_config.json").read_text())
    assert (stored["init"], stored["init_text"]) == ("text", TEXT)
    loaded = load_adapter(build("longformer"), folder)
    assert torch.equal(loaded(ids, mask).logits, expected)
    assert loaded.adapter_config == model.adapter_config


def test_a_text_without_a_tokenizer_is_refused_before_the_backbone_is_touched() -> None:
    backbone = build("longformer")
    earlier = adapt(backbone, PrefixPropagationConfig(prefix_length=P), HEAD)
    with pytest.raises(ConfigError, match=r"adapter\.init text needs the backbone's tokenizer"):
        adapt(backbone, PrefixPropagationConfig(init="text", init_text=TEXT), HEAD)
    _, ids, mask = documents(1)
    assert earlier(ids, mask).logits.shape == (2, C)


def test_a_text_of_no_token_is_refused() -> None:
    from tokenizers import Tokenizer, models, normalizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    core.normalizer = normalizers.BertNormalizer()  # takes control characters out
    config = PromptTuningConfig(prefix_length=P, init="text", init_text="\x07")
    with pytest.raises(ConfigError, match=r"adapter\.init_text holds no token"):
        adapt(
            build("llama"),
            config,
            HEAD,
            tokenizer=PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>"),
        )


@pytest.mark.parametrize(
    ("adapter", "line"),
    [
        ({"init": "text"}, "init text starts from the words in init_text, which has none"),
        ({"init": "text", "init_text": " \n"}, "init text starts from the words in init_text"),
        ({"init_text": TEXT}, "init_text is read with init text only, and init is normal"),
        ({"init": "zeros", "init_text": TEXT}, "init_text is read with init text only"),
        ({"init": "zeros", "rank": 2}, "init zeros sets the rows .* remove rank"),
        (
            {"init": "text", "init_text": TEXT, "reparametrization": "mlp"},
            "init text sets the rows .* remove reparametrization",
        ),
        ({"init": "uniform"}, r"adapter\.init"),
        ({"method": "lora", "init": "zeros"}, r"adapter\.init is no setting of 'lora'"),
        ({"method": "prefix_tuning", "init": "zeros"}, r"adapter\.init is no setting of"),
        ({"method": "prompt_tuning", "init": "text"}, "init text starts from the words"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(adapter: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        validate(ExperimentConfig, BASE | {"adapter": adapter})


def test_the_start_counts_in_the_hash_where_it_is_not_the_default() -> None:
    plain, same, zeros, text = (
        validate(ExperimentConfig, BASE | {"adapter": adapter})
        for adapter in (
            {},
            {"init": "normal"},
            {"init": "zeros"},
            {"init": "text", "init_text": TEXT},
        )
    )
    assert config_sha256(plain) == config_sha256(same)
    assert len({config_sha256(each) for each in (plain, zeros, text)}) == 3
