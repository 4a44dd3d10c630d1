"""Checkpoints that are stored quantised, one of each kind, made by the library that reads it or by
the kind's own formula; and the plain numbers that they stand for.
"""

import json
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from components.backbones import BackboneConfig
from tests.conftest import build_tiny_decoder

SIZES = {"hidden_size": 64, "intermediate_size": 128}
"""bitsandbytes has a scale for 64 numbers, mxfp4 and the compressed weights here for 32."""
FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
Plain = Mapping[str, Tensor]
"""Name of a weight -> its numbers."""


def config_of(folder: Path, family: str = "decoder", **changes: Any) -> BackboneConfig:
    values = {"source": "local", "name_or_path": str(folder), "family": family, **changes}
    return BackboneConfig.model_validate(values)


def needs(distribution: str) -> None:
    if find_spec(distribution.replace("-", "_")) is None:
        pytest.skip(f"{distribution} is not installed (pip install {distribution})")


def by_transformers(folder: Path, section: Any) -> Plain:
    """Quantised by transformers while a plain one is read, and saved."""
    from transformers import AutoModel

    build_tiny_decoder(**SIZES).save_pretrained(folder / "plain")
    model = AutoModel.from_pretrained(folder / "plain", quantization_config=section)
    model.save_pretrained(folder)
    return {}


def nf4(folder: Path) -> Plain:
    needs("bitsandbytes")
    from transformers import BitsAndBytesConfig

    return by_transformers(
        folder,
        BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
        ),
    )


def int8(folder: Path) -> Plain:
    needs("bitsandbytes")
    from transformers import BitsAndBytesConfig

    return by_transformers(folder, BitsAndBytesConfig(load_in_8bit=True))


def torchao_int8(folder: Path) -> Plain:
    needs("torchao")
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    return by_transformers(folder, TorchAoConfig(Int8WeightOnlyConfig()))


def fp8(folder: Path, **changes: Any) -> Plain:
    """One scale for 128 x 128 weights at most: here for a whole one."""
    build_tiny_decoder(**SIZES, **changes).bfloat16().save_pretrained(folder)
    stored, plain = load_file(folder / "model.safetensors"), {}
    for name in [name for name in stored if name.endswith("_proj.weight")]:
        scale = stored[name].float().abs().max().view(1, 1) / 448
        stored[name] = (stored[name].float() / scale).to(torch.float8_e4m3fn)
        stored[f"{name}_scale_inv"] = scale
        plain[name] = stored[name].float() * scale
    said = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
    return written(folder, stored, said, plain)


def mxfp4(folder: Path) -> Plain:
    """The experts of gpt-oss: two numbers a byte, the lower half first, 32 of them per scale."""
    from transformers import GptOssConfig, GptOssModel

    torch.manual_seed(0)
    sizes = GptOssConfig(
        vocab_size=101,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        intermediate_size=64,
        num_local_experts=2,
        num_experts_per_tok=1,
        max_position_embeddings=140,
        pad_token_id=0,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
    )
    GptOssModel(sizes).bfloat16().save_pretrained(folder)
    stored, plain = load_file(folder / "model.safetensors"), {}
    values = torch.tensor([*FP4, *(-value for value in FP4)])
    for name in [name for name in stored if name.endswith(("gate_up_proj", "down_proj"))]:
        experts, inside, outside = stored.pop(name).shape
        blocks = torch.randint(0, 256, (experts, outside, inside // 32, 16), dtype=torch.uint8)
        scales = torch.randint(118, 122, (experts, outside, inside // 32), dtype=torch.uint8)
        stored |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
        pairs = torch.stack([values[(blocks & 15).long()], values[(blocks >> 4).long()]], dim=-1)
        numbers = pairs.flatten(3) * torch.exp2(scales.float() - 127)[..., None]
        plain[name] = numbers.flatten(2).transpose(1, 2)
    said = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.embed_tokens"]}
    return written(folder, stored, said, plain)


def compressed(folder: Path) -> Plain:
    """Eight numbers of 4 bits in an int32, the lowest first, zero at 8; a scale for 32 of them."""
    needs("compressed-tensors")
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config

    scheme = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group"}
    groups = {"all": {"targets": ["Linear"], "weights": scheme | {"group_size": 32}}}
    settings = QuantizationConfig(
        config_groups=groups, format="pack-quantized", quantization_status="frozen"
    )
    model, plain = build_tiny_decoder(**SIZES).bfloat16(), {}
    model.save_pretrained(folder)
    apply_quantization_config(model, settings)
    for module in model.modules():
        if hasattr(module, "weight_scale"):
            largest_OG = module.weight.data.unflatten(1, (-1, 32)).abs().amax(-1)
            module.weight_scale.data = largest_OG / 7
    ModelCompressor(quantization_config=settings).compress_model(model)
    for name, packed in model.state_dict().items():
        if name.endswith("_packed"):
            scale_OG = model.state_dict()[name.replace("_packed", "_scale")].float()
            steps = (packed[..., None] >> torch.arange(0, 32, 4)) & 15
            numbers = (steps.flatten(1) - 8).unflatten(1, (-1, 32)) * scale_OG[..., None]
            plain[name.removesuffix("_packed")] = numbers.flatten(1)
    said = json.loads(settings.model_dump_json())
    said |= {"quant_method": "compressed-tensors", "quantization_status": "compressed"}
    return written(folder, model.state_dict(), said, plain)


def written(folder: Path, stored: Plain, section: Mapping[str, Any], plain: Plain) -> Plain:
    save_file(
        {name: tensor.contiguous() for name, tensor in stored.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    config = folder / "config.json"
    values = json.loads(config.read_text()) | {"quantization_config": dict(section)}
    config.write_text(json.dumps(values))
    return plain


STAYING: dict[str, Callable[[Path], Plain]] = {
    "nf4": nf4,
    "int8": int8,
    "torchao int8": torchao_int8,
}
"""Kinds that stay quantised in memory."""
READ_PLAIN: dict[str, Callable[[Path], Plain]] = {
    "fp8": fp8,
    "mxfp4": mxfp4,
    "compressed-tensors": compressed,
}
