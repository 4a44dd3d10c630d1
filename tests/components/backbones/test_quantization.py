"""Quantised backbones: read by their name or quantised while they are read, trained through, told
of, and refused in one line where that cannot be.
"""

import json
import warnings
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from components.adapters import ClassificationHeadConfig, adapt, load_adapter, save_adapter
from components.adapters.methods import METHODS
from components.backbones import (
    backbone_shape,
    inspect_backbone,
    load_backbone,
    quantization_of,
    read_backbone_config,
    stored_precision,
)
from components.backbones.quantization import PACKS, distributions
from components.backbones.sharing import sharing_copy
from components.errors import ArtifactError, BackboneError, ConfigError
from components.training.same_weights import bit_sum, plain_tensors
from tests.components.backbones.quantised_checkpoints import (
    READ_PLAIN,
    SIZES,
    STAYING,
    config_of,
    needs,
)
from tests.conftest import build_tiny_decoder, build_tiny_longformer

IDS = torch.arange(2, 82).view(2, 40)
LABELS = torch.tensor([0, 1])
# float32 through another order of the same products.
SAME_UP_TO_ROUNDING = 1e-4
# int8 of bitsandbytes rounds the inputs of every linear layer to 8 bits as well.
ROUNDED_INPUTS = 0.05


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).detach().norm() / expected.detach().norm())


@pytest.fixture(params=["longformer", "decoder"])
def plain_folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    model = build_tiny_longformer if request.param == "longformer" else build_tiny_decoder
    # Weights large enough for attention to look somewhere.
    model(**SIZES, initializer_range=0.2).save_pretrained(tmp_path / request.param)
    return tmp_path / request.param


def with_numbers_of(quantised: Any, plain: Any) -> Any:
    """The plain backbone with the numbers that the quantised one's weights stand for."""
    import bitsandbytes as bnb

    for name, module in quantised.named_modules():
        if isinstance(module, bnb.nn.Linear4bit):
            weight = bnb.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
        elif isinstance(module, bnb.nn.Linear8bitLt):
            weight = module.state.CB.float() * module.state.SCB.view(-1, 1) / 127
        else:
            continue
        plain.get_submodule(name).weight.data.copy_(weight)
    return plain


@pytest.mark.parametrize("kind", STAYING)
def test_what_is_stored_quantised_is_read_by_its_name_and_stays_so(
    kind: str, tmp_path: Path
) -> None:
    from transformers import AutoModel

    STAYING[kind](tmp_path)
    config = config_of(tmp_path)
    found = quantization_of(inspect_backbone_values(tmp_path))
    assert found is not None and found.kind == kind and found.stays
    loaded = load_backbone(config, cache_path=tmp_path)
    expected = AutoModel.from_pretrained(tmp_path)
    assert torch.equal(
        loaded(input_ids=IDS).last_hidden_state, expected(input_ids=IDS).last_hidden_state
    )
    assert stored_precision(config) == "fp32"


def test_weights_of_4_bits_are_never_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a processor with AVX512-BF16, where a run without gradients would do it."""
    import bitsandbytes

    monkeypatch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: True)
    assert getattr(bitsandbytes.nn.Linear4bit(2, 2), PACKS)
    STAYING["nf4"](tmp_path)
    loaded = load_backbone(config_of(tmp_path), cache_path=tmp_path)
    packs = [getattr(each, PACKS) for each in loaded.modules() if hasattr(each, PACKS)]
    assert packs and not any(packs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("kind", READ_PLAIN)
def test_what_is_small_on_disk_alone_is_read_into_plain_numbers(
    kind: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    numbers = READ_PLAIN[kind](tmp_path)
    config = config_of(tmp_path)
    loaded = load_backbone(config, cache_path=tmp_path, dtype=dtype)
    assert {parameter.dtype for parameter in loaded.parameters()} == {dtype}
    assert numbers
    for name, expected in numbers.items():
        # Transformers multiplies by the scales in bfloat16.
        assert relative(loaded.get_parameter(name).float(), expected) < 2**-8
    assert stored_precision(config) == "bf16"
    assert backbone_shape(read_backbone_config(config)).linear_bits is None


def inspect_backbone_values(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return values


@pytest.mark.parametrize("method", [name for name in METHODS if name != "full_fine_tuning"])
@pytest.mark.parametrize(("kind", "tolerance"), [("nf4", SAME_UP_TO_ROUNDING), ("int8", 0.05)])
def test_every_method_trains_as_on_the_numbers_that_the_weights_stand_for(
    method: str, kind: str, tolerance: float, plain_folder: Path
) -> None:
    needs("bitsandbytes")
    family = plain_folder.name
    if (method, family) == ("kernel_propagation", "decoder"):
        pytest.skip("refused on decoders")
    cache = plain_folder / "cache"
    config = config_of(plain_folder, family, quantization=kind)
    quantised = load_backbone(config, cache_path=cache)
    plain = load_backbone(config_of(plain_folder, family), cache_path=cache)
    before = plain(input_ids=IDS).last_hidden_state
    with_numbers_of(quantised, plain)
    assert relative(plain(input_ids=IDS).last_hidden_state, before) > 1e-3  # it does cost
    if kind == "nf4":
        plain.activation_checkpointing_enable({"use_reentrant": False})
    values: dict[str, Any] = {"rank": 2} if method == "lora" else {}
    results = []
    for backbone in (quantised, plain):
        torch.manual_seed(0)
        head = ClassificationHeadConfig(num_labels=2, pooling="mean")
        model = adapt(backbone, METHODS[method].model_validate(values), head).train()
        parameters = model.trainable_parameters()
        with torch.no_grad():
            for name, parameter in parameters.items():
                if "lora_B" in name:  # zero: an update that is left out would not show
                    parameter.normal_(std=0.2)
        out = model(input_ids=IDS, labels=LABELS)
        out.loss.backward()
        results.append(
            (out.logits, {n: p.grad for n, p in parameters.items() if p.grad is not None})
        )
    (logits, gradients), (expected_logits, expected) = results
    assert gradients.keys() == expected.keys() and gradients
    assert relative(logits, expected_logits) < tolerance
    together = [
        torch.cat([each[name].flatten() for name in expected]) for each in (gradients, expected)
    ]
    assert relative(*together) < tolerance


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_copies_share_quantised_weights_whoever_runs_first(kind: str, plain_folder: Path) -> None:
    needs("bitsandbytes")
    config = config_of(plain_folder, plain_folder.name, quantization=kind)
    whole = load_backbone(config, cache_path=plain_folder)
    first, second = sharing_copy(whole), sharing_copy(whole)
    for copy in (first, second):
        assert weights_at(copy) == weights_at(whole)
    results = []
    for copy in (first, second):  # a prefix has modules run that nothing ran before
        torch.manual_seed(0)
        head = ClassificationHeadConfig(num_labels=2, pooling="mean")
        settings = METHODS["prefix_propagation"].model_validate({})
        results.append(adapt(copy, settings, head).eval()(input_ids=IDS).logits)
    assert torch.equal(*results)
    # Of the embeddings one is the copy's own from now on: it is trained with a prefix.
    layers = "encoder" if plain_folder.name == "longformer" else "layers"
    assert weights_at(first.get_submodule(layers)) == weights_at(whole.get_submodule(layers))


def weights_at(backbone: Any) -> set[int]:
    """Addresses of all numbers that a backbone computes with."""
    tensors = list(chain(backbone.parameters(), backbone.buffers()))
    for module in backbone.modules():
        for held, name in (("quant_state", "absmax"), ("state", "CB"), ("state", "SCB")):
            tensor = getattr(getattr(module, held, None), name, None)
            tensors += [] if tensor is None else [tensor]
    return {tensor.data_ptr() for tensor in tensors}


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_the_plan_counts_the_bytes_that_weights_take(kind: str, tmp_path: Path) -> None:
    needs("bitsandbytes")
    build_tiny_decoder(hidden_size=256, intermediate_size=512).save_pretrained(tmp_path)
    config = config_of(tmp_path, quantization=kind)
    backbone = load_backbone(config, cache_path=tmp_path)
    taken = sum(number.numel() * number.element_size() for _, number in plain_tensors(backbone))
    shape = backbone_shape(read_backbone_config(config))
    plain = 4 * (shape.parameters - shape.linear_parameters)
    # A float32 scale for each of 256 rows' 8 bits is not counted.
    assert taken == pytest.approx(plain + shape.linear_parameters * shape.linear_bits / 8, rel=0.02)


@pytest.mark.parametrize("kind", STAYING)
def test_ranks_compare_the_scales_too(kind: str, tmp_path: Path) -> None:
    STAYING[kind](tmp_path)
    backbone = load_backbone(config_of(tmp_path), cache_path=tmp_path)
    numbers = [
        number for name, number in plain_tensors(backbone) if "layers.0.self_attn.q_proj." in name
    ]
    assert len(numbers) > 1
    for number in numbers:
        before = [bit_sum(each) for each in numbers]
        number.data.flatten()[0] += 1
        assert [bit_sum(each) for each in numbers] != before


def test_an_adapter_says_on_what_it_was_trained_and_warns_on_something_else(
    plain_folder: Path,
) -> None:
    needs("bitsandbytes")
    family, cache = plain_folder.name, plain_folder / "cache"
    quantised = load_backbone(config_of(plain_folder, family, quantization="nf4"), cache_path=cache)
    plain = load_backbone(config_of(plain_folder, family), cache_path=cache)
    head = ClassificationHeadConfig(num_labels=2, pooling="mean")
    folder = save_adapter(
        adapt(quantised, METHODS["head_only"].model_validate({}), head), plain_folder / "adapter"
    )
    assert json.loads((folder / "adapter_config.json").read_text())["backbone"]["quantization"] == (
        "nf4"
    )
    assert "quantised: nf4" in (folder / "README.md").read_text()
    with pytest.warns(UserWarning, match=r"was quantised \(nf4\), and this one is not quantised"):
        load_adapter(plain, folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_adapter(quantised, folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["backbone"]["quantization"] = ["nf4"]
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ArtifactError, match=r"backbone\.quantization is no text"):
        load_adapter(quantised, folder)


def test_all_weights_are_not_trained_where_they_stay_quantised(plain_folder: Path) -> None:
    needs("bitsandbytes")
    config = config_of(plain_folder, plain_folder.name, quantization="int8")
    backbone = load_backbone(config, cache_path=plain_folder)
    head = ClassificationHeadConfig(num_labels=2, pooling="mean")
    with pytest.raises(ConfigError, match=r"full_fine_tuning trains .* quantised \(int8\)"):
        adapt(backbone, METHODS["full_fine_tuning"].model_validate({}), head)


def test_each_kind_names_what_must_be_installed_where_it_is_read() -> None:
    assert distributions("nf4") == distributions("int8") == ("accelerate", "bitsandbytes")
    assert distributions("torchao int8") == ("accelerate", "torchao")
    assert distributions("fp8") == ("accelerate",)
    assert distributions("compressed-tensors") == ("accelerate", "compressed-tensors")
    assert distributions(None) == distributions(["nf4"]) == distributions("magic") == ()


def saying(**section: Any) -> dict[str, Any]:
    return {"quantization_config": section}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (saying(quant_method="gptq", bits=4), r"\(gptq\) in a way .* Known: bitsandbytes"),
        (saying(quant_method="awq", bits=4), r"\(awq\) in a way"),
        (saying(quant_method="bitsandbytes"), r"\(bitsandbytes\) in a way"),
        (
            saying(
                quant_method="torchao", quant_type={"default": {"_type": "Int4WeightOnlyConfig"}}
            ),
            r"Int4WeightOnlyConfig.* in a way .* torchao \(Int8WeightOnlyConfig, ",
        ),
        (saying(), "in a way that is not supported"),
        ({"quantization_config": "yes"}, "in a way that is not supported"),
        ({"quantization": {"bits": 4}}, "quantization says .* in a way"),
    ],
)
def test_a_kind_that_nothing_here_reads_is_refused_with_the_list(
    said: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    build_tiny_decoder().save_pretrained(tmp_path)
    values = inspect_backbone_values(tmp_path) | said
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(BackboneError, match=reason):
        inspect_backbone(config_of(tmp_path))


@pytest.mark.parametrize(
    ("said", "asked", "reason"),
    [
        ({}, "nf4", "backbone.quantization nf4 needs .* pip install bitsandbytes; or remove"),
        (
            saying(quant_method="bitsandbytes", load_in_8bit=True),
            None,
            r"quantised \(int8\) and needs .* pip install bitsandbytes; or give",
        ),
        (
            saying(quant_method="compressed-tensors"),
            None,
            "pip install compressed-tensors",
        ),
    ],
)
def test_a_missing_library_is_named_with_the_command(
    said: dict[str, Any],
    asked: str | None,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    build_tiny_decoder().save_pretrained(tmp_path)
    values = inspect_backbone_values(tmp_path) | said
    (tmp_path / "config.json").write_text(json.dumps(values))
    monkeypatch.setattr("components.backbones.quantization.find_spec", lambda name: None)
    with pytest.raises(BackboneError, match=reason) as caught:
        read_backbone_config(config_of(tmp_path, quantization=asked))
    assert "\n" not in str(caught.value)


def test_what_is_quantised_is_neither_quantised_again_nor_lengthened(tmp_path: Path) -> None:
    build_tiny_decoder().save_pretrained(tmp_path)
    values = inspect_backbone_values(tmp_path) | saying(quant_method="fp8")
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(BackboneError, match=r"quantised already \(fp8\)"):
        read_backbone_config(config_of(tmp_path, quantization="nf4"))
    with pytest.raises(BackboneError, match="are not lengthened"):
        read_backbone_config(config_of(tmp_path, "longformer", lengthen_to=64))


def test_the_stock_longformer_has_no_gradient_through_bitsandbytes(tmp_path: Path) -> None:
    needs("bitsandbytes")
    build_tiny_longformer().save_pretrained(tmp_path)
    config = config_of(tmp_path, "longformer", quantization="nf4", attention="stock")
    with pytest.raises(BackboneError, match=r"Set backbone.attention auto"):
        inspect_backbone(config)
