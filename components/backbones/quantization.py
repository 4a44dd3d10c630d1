"""How a backbone's numbers are quantised: as its config.json says, or as `backbone.quantization`
asks for while a plain checkpoint is read. Transformers does it by the library that made the
checkpoint; neither is imported here.

The fact a newcomer gets wrong: only some kinds stay quantised in memory. The others are small on
disk alone: read, they are plain numbers in training.precision, which a gradient can go through.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

from components.errors import BackboneError

FIELD = "quantization_config"
"""Of config.json, in transformers' own form."""
FOREIGN = ("quantization", "compression_config")
"""Fields by which other libraries say it, whose checkpoints transformers does not read."""
Asked = Literal["nf4", "int8"]
BITSANDBYTES = "bitsandbytes"
PACKS = "support_avx512bf16_for_cpu"
"""Attribute of bitsandbytes' 4-bit modules: whether they pack their weights (`settle`)."""
ASKED: Mapping[Asked, Mapping[str, Any]] = {
    "nf4": {"quant_method": BITSANDBYTES, "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "int8": {"quant_method": BITSANDBYTES, "load_in_8bit": True},
}
"""What `backbone.quantization` means, as config.json would say it."""
TORCHAO_TYPES = ("Int8WeightOnlyConfig", "Float8WeightOnlyConfig")
"""Of torchao, those that a gradient goes through (its 4-bit kernels have none)."""
READ_PLAIN: Mapping[str, str | None] = {
    "fp8": None,
    "mxfp4": None,
    "compressed-tensors": "compressed-tensors",
}
"""`quant_method` that is read into plain numbers -> the distribution that this takes."""
KNOWN = (
    "bitsandbytes (nf4, fp4, int8)",
    f"torchao ({', '.join(TORCHAO_TYPES)})",
    *READ_PLAIN,
)


@dataclass(frozen=True)
class Quantization:
    """One kind of quantised weights."""

    kind: str
    """Word for people and records: nf4, int8, fp8, ..."""
    distribution: str | None
    """The library that reads it, where transformers alone does not."""
    bits: float | None
    """Of one weight of a linear module in memory, its share of scales included; None: read into
    plain numbers.
    """

    @property
    def stays(self) -> bool:
        """Whether it is quantised in memory too."""
        return self.bits is not None

    @property
    def keeps_inputs(self) -> bool:
        """Whether a linear module keeps its input for the backward pass (MatMul8bitLt does)."""
        return self.kind == "int8"


def quantization_of(values: Mapping[str, Any]) -> Quantization | None:
    """How the numbers of a checkpoint with this config.json are quantised; None: they are not.
    Raises BackboneError, which lists what is read, for what is not.
    """
    for name in FOREIGN:
        if values.get(name) is not None:
            raise _unknown(name, values[name])
    section = values.get(FIELD)
    if section is None:
        return None
    if not isinstance(section, Mapping):
        raise _unknown(FIELD, section)
    method = section.get("quant_method")
    method = str(getattr(method, "value", method))
    if section.get("load_in_4bit") or section.get("load_in_8bit") or method == BITSANDBYTES:
        return _by_bitsandbytes(section)
    if method == "torchao":
        return _by_torchao(section)
    if method in READ_PLAIN:
        return Quantization(method, READ_PLAIN[method], None)
    raise _unknown(FIELD, section)


def _by_bitsandbytes(section: Mapping[str, Any]) -> Quantization:
    if section.get("load_in_8bit"):
        return Quantization("int8", BITSANDBYTES, 8.0)
    kind = section.get("bnb_4bit_quant_type", "fp4")
    if not section.get("load_in_4bit") or kind not in ("nf4", "fp4"):
        raise _unknown(FIELD, section)
    # A float32 scale for 64 weights; quantised in their turn, 8 bits and a float32 for 256 of them.
    scales = 8 / 64 + 32 / (64 * 256) if section.get("bnb_4bit_use_double_quant") else 32 / 64
    return Quantization(str(kind), BITSANDBYTES, 4 + scales)


def _by_torchao(section: Mapping[str, Any]) -> Quantization:
    given = section.get("quant_type")
    default = given.get("default") if isinstance(given, Mapping) else given
    kind = default.get("_type") if isinstance(default, Mapping) else type(default).__name__
    if kind not in TORCHAO_TYPES:
        raise _unknown(FIELD, section)
    return Quantization(_torchao_kind(kind), "torchao", 8.0)


def _torchao_kind(kind: str) -> str:
    return f"torchao {kind.removesuffix('WeightOnlyConfig').lower()}"


def _unknown(field: str, section: Any) -> BackboneError:
    told = ""
    if isinstance(section, Mapping):
        named = [str(section[each]) for each in ("quant_method", "quant_type") if each in section]
        told = f" ({' '.join(named)[:100]})" if named else ""
    return BackboneError(
        f"config.json: {field} says that the weights are quantised{told} in a way that is not "
        f"supported. Known: {', '.join(KNOWN)}. Give such a checkpoint, or the one in float32, "
        "float16 or bfloat16 that it was made from."
    )


def with_quantization(values: Mapping[str, Any], asked: Asked | None) -> dict[str, Any]:
    """config.json of a backbone as it will be loaded with `backbone.quantization`. Raises
    BackboneError where the checkpoint is quantised already, and where a library is missing.
    """
    found = quantization_of(values)
    if asked is not None:
        if found is not None:
            raise BackboneError(
                f"backbone.quantization is {asked}, but the checkpoint is quantised already "
                f"({found.kind}). Remove backbone.quantization, or give the checkpoint in float32, "
                "float16 or bfloat16 that it was made from."
            )
        values = {**values, FIELD: dict(ASKED[asked])}
        found = quantization_of(values)
    if found is not None and found.distribution is not None:
        _check_installed(found.kind, found.distribution, asked)
    return dict(values)


def _check_installed(kind: str, distribution: str, asked: Asked | None) -> None:
    if find_spec(distribution.replace("-", "_")) is not None:
        return
    what = (
        f"backbone.quantization {asked}" if asked else f"the checkpoint is quantised ({kind}) and"
    )
    otherwise = "remove the setting" if asked else "give a checkpoint that is not quantised"
    raise BackboneError(
        f"{what} needs the package {distribution}, which is not installed. Mend it by: "
        f"pip install {distribution}; or {otherwise}."
    )


def quantization_fault(
    values: Mapping[str, Any], *, stage: int, all_weights: bool, method: str
) -> str | None:
    """Why a backbone with this config.json (`with_quantization`) cannot be trained on at this ZeRO
    stage, or by a method that trains all weights; None: it can.
    """
    found = quantization_of(values)
    if found is None or not found.stays:
        return None
    plain = "set backbone.quantization null, or give a checkpoint in float32, float16 or bfloat16"
    if all_weights:
        return (
            f"adapter.method {method} trains the backbone's weights themselves, and these stay "
            f"quantised ({found.kind}): choose another method, or {plain}."
        )
    if stage == 3:
        return (
            f"zero.stage 3 shards plain weights, and those of this backbone stay quantised "
            f"({found.kind}): set zero.stage 0, 1 or 2, or {plain}."
        )
    return None


def stock_attention_fault(values: Mapping[str, Any]) -> str | None:
    """Why backbone.attention stock cannot be trained through; None: it can.

    Symptom: "Output 0 of MatMul4Bit is a view and is being modified inplace" in the stock
    Longformer (transformers 5.23), which divides its queries in place. Remove once it does not.
    """
    found = quantization_of(values)
    by_bitsandbytes = found is not None and found.stays and found.distribution == BITSANDBYTES
    if not by_bitsandbytes or values.get("model_type") != "longformer":
        return None
    return (
        "backbone.attention stock: the stock Longformer changes queries in place, through which "
        "bitsandbytes has no gradient. Set backbone.attention auto."
    )


def kind_in_memory(values: Mapping[str, Any]) -> str | None:
    """How a loaded backbone's weights are quantised, from its configuration."""
    found = quantization_of(values)
    return found.kind if found is not None and found.stays else None


def settle(backbone: Any) -> None:
    """Take from bitsandbytes what it does to weights when a module first runs.

    It moves int8 weights and scales from the parameters to their modules: done now, because of
    copies that share the parameters (sharing.py) the second would find none, and quantise the
    integers again. On CPUs with AVX512-BF16 it packs 4-bit weights at the first run without
    gradients (0.50), for a product in bf16 through which no gradient comes, in training later
    either: not done at all.
    """
    for module in backbone.modules():
        if getattr(getattr(module, "weight", None), "CB", None) is not None:
            module.init_8bit_state()
        if hasattr(module, PACKS):
            setattr(module, PACKS, False)


def loading_section(values: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """The section of a stored checkpoint's config.json to load it with: computing in `dtype`, and
    into plain numbers where it does not stay quantised.
    """
    section, found = dict(values[FIELD]), quantization_of(values)
    if found is not None and not found.stays:
        section["dequantize"] = True
    if section.get("load_in_4bit"):
        section["bnb_4bit_compute_dtype"] = dtype
    return section


def distributions(kind: Any) -> tuple[str, ...]:
    """What must be installed where a backbone of this `Quantization.kind` is read; transformers
    itself asks for accelerate. Nothing for a word that is no kind.
    """
    if not isinstance(kind, str):
        return ()
    libraries = {"nf4": BITSANDBYTES, "fp4": BITSANDBYTES, "int8": BITSANDBYTES, **READ_PLAIN}
    libraries |= {_torchao_kind(each): "torchao" for each in TORCHAO_TYPES}
    if kind not in libraries:
        return ()
    library = libraries[kind]
    return ("accelerate",) if library is None else ("accelerate", library)
