"""Weights into a stock transformers model that is frozen and whole.

`trust_remote_code` is off everywhere, torch files are read with weights_only.
"""

import hashlib
import json
import logging
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.backbones.families import family_named
from components.backbones.lengthen import is_whole, lengthen
from components.backbones.quantization import (
    ASKED,
    FIELD,
    loading_section,
    quantization_of,
    settle,
)
from components.backbones.settings import BackboneConfig
from components.backbones.sources import (
    INSTALLED_MODELS,
    checkpoint_folder,
    hub_files,
    overridden,
    read_backbone_config,
    stored_config,
)
from components.backbones.stock import stock_model
from components.backbones.text_model import TEXT, text_model, text_values
from components.backbones.told import told
from components.backbones.weights import check_weights, weight_files
from components.errors import BackboneError
from components.foreign_file import open_foreign
from components.last_use import used_now
from components.settings import writing

if TYPE_CHECKING:
    import torch


def load_backbone(
    config: BackboneConfig,
    *,
    cache_path: Path,
    dtype: "torch.dtype | None" = None,
    partition: AbstractContextManager[Any] | None = None,
    device: "torch.device | str" = "cpu",
) -> Any:
    """The frozen base model in evaluation mode, with fast attention unless `backbone.attention` is
    `stock`.

    `cache_path`: folder for lengthened checkpoints. `dtype`: float32 unless given. `partition`:
    context in which the weights are read (DeepSpeed ZeRO-3 shards them there). `device`: where
    weights that stay quantised are put, by whose kernels they are packed; others are on the CPU.
    Raises BackboneError for a checkpoint that is not whole or does not compute.
    """
    import torch

    dtype = dtype or torch.float32
    quantization = quantization_of(read_backbone_config(config))
    stays = quantization is not None and quantization.stays
    # A line for every product of 8 bits otherwise: inputs are cast to float16.
    logging.getLogger("bitsandbytes.autograd").setLevel(logging.ERROR)
    folder = backbone_folder(config, cache_path=cache_path)
    with partition or nullcontext():
        backbone = stock_model(
            folder,
            name=config.name_or_path,
            dtype=dtype,
            **_load_options(config),
            **_other_config(config, folder, dtype),
            **({"device_map": {"": device}} if stays else {}),
        )
    backbone = text_model(backbone)
    if quantization is not None and not stays:
        # Symptom: bfloat16 linear layers in a float32 model (fp8, transformers 5.23). Remove once
        # what is read into plain numbers has the dtype that was asked for.
        backbone.to(dtype)
    settle(backbone)
    backbone.requires_grad_(False).eval()
    if config.attention == "auto":
        family_named(config.family).accelerate(backbone)
    _check_that_it_computes(backbone, config)
    return backbone


def _check_that_it_computes(backbone: Any, config: BackboneConfig) -> None:
    """Raise BackboneError where two tokens give no finite states: a field of config.json that is
    read in the forward pass alone, or weights that are no numbers. Not told of ZeRO-3's shards.
    """
    import torch

    if any(hasattr(parameter, "ds_id") for parameter in backbone.parameters()):
        return

    def refuse(reason: str) -> BackboneError:
        return BackboneError(
            f"the backbone '{config.name_or_path}' cannot compute with its config.json{reason} "
            "Get the checkpoint again, or mend its config.json."
        )

    pad = getattr(backbone.config, "pad_token_id", None) or 0
    ids = torch.tensor([[token for token in range(3) if token != pad][:2]], device=backbone.device)
    with told(refuse, ""), torch.inference_mode():
        states = backbone(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        if not torch.isfinite(states).all():
            raise ArithmeticError("its hidden states are not finite")


def _other_config(config: BackboneConfig, folder: Path, dtype: "torch.dtype") -> dict[str, Any]:
    """The configuration to load with, where it is not config.json itself."""
    from transformers import AutoConfig
    from transformers.quantizers.auto import AutoQuantizationConfig

    values, numbers = stored_config(folder), str(dtype).removeprefix("torch.")
    options: dict[str, Any] = {}
    if config.quantization is not None:
        section = loading_section({FIELD: ASKED[config.quantization]}, numbers)
        options[FIELD] = AutoQuantizationConfig.from_dict(section)
    quantised = quantization_of(values) is not None
    if not config.config_overrides and not quantised:
        return options
    if text_values(values) == values:
        values = overridden(values, config.config_overrides)
    else:
        values = values | {TEXT: overridden(text_values(values), config.config_overrides)}
    if quantised:
        values[FIELD] = loading_section(values, numbers)
    return options | {"config": AutoConfig.for_model(**values)}


def _load_options(config: BackboneConfig) -> dict[str, Any]:
    family = family_named(config.family)
    options: dict[str, Any] = dict(family.load_options)
    if config.hidden_dropout is not None:
        assert family.hidden_dropout is not None  # the settings refuse it
        options[family.hidden_dropout] = config.hidden_dropout
    if config.attention_dropout is not None:
        options[family.attention_dropout] = config.attention_dropout
    return options


def backbone_folder(config: BackboneConfig, *, cache_path: Path) -> Path:
    """Folder to load the weights from: the checkpoint itself, or its lengthened copy in the cache,
    made once.
    """
    source = _checked_weights(config)
    if config.lengthen_to is None:
        return source
    key = hashlib.sha256(
        json.dumps(
            [str(source), _stamp(source), config.lengthen_to, config.attention_window]
        ).encode()
    ).hexdigest()[:16]
    target = (
        Path(cache_path)
        / "backbones"
        / f"{Path(config.name_or_path).name}-{config.lengthen_to}-{key}"
    )
    if not is_whole(target):
        from filelock import FileLock

        with writing(target.parent, "cluster.cache_path"), FileLock(f"{target}.lock"):
            if not is_whole(target):
                lengthen(
                    source,
                    target,
                    positions=config.lengthen_to,
                    attention_window=config.attention_window,
                )
    used_now(target)
    return target


def _checked_weights(config: BackboneConfig) -> Path:
    folder = weights_folder(config)
    if config.source == "installed":
        path = folder / "model.safetensors"
        found, expected = _sha256(path), INSTALLED_MODELS[config.name_or_path].weights_sha256
        if found != expected:
            raise BackboneError(
                f"{path.name} of the installed backbone has sha256 {found}, expected {expected}: "
                "the package was changed. Reinstall it."
            )
    check_weights(folder, stored_config(folder))
    return folder


def weights_folder(config: BackboneConfig) -> Path:
    """Folder of the checkpoint as it is stored; of the hub, downloaded."""
    if config.source != "hub":
        return checkpoint_folder(config)
    folder = hub_files(config, "*.json", "*.txt", "*.model", "model*.safetensors")
    # Some checkpoints, longformer-base-4096 among them, have never been saved as safetensors.
    if any(folder.glob("model*.safetensors")):
        return folder
    return hub_files(config, "pytorch_model*.bin")


def weights_sha256(config: BackboneConfig) -> str:
    """Hash of the checkpoint's weights, before any lengthening: of the one file as sha256sum tells
    it, of shards that of their names and hashes. Raises BackboneError where there are none.
    """
    files = weight_files(weights_folder(config))
    if len(files) == 1:
        return _sha256(files[0])
    lines = "".join(f"{_sha256(path)}  {path.name}\n" for path in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _sha256(path: Path) -> str:
    stamp = path.stat()
    return _sha256_of(path, stamp.st_size, stamp.st_mtime_ns)


@cache
def _sha256_of(path: Path, size: int, modified_ns: int) -> str:
    with open_foreign(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stamp(folder: Path) -> list[tuple[str, int, int]]:
    files = sorted(
        path for path in folder.iterdir() if path.suffix in {".safetensors", ".bin", ".json"}
    )
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
