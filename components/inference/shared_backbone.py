"""One frozen backbone, and one tokenizer, in a process for all adapters that need the same: twenty
adapters of one backbone take little more memory than one.

Each adapter gets a copy that shares the weights (components/backbones/sharing.py). What nobody uses
any more is let go of. The fact a newcomer gets wrong: an adapted model and a fast tokenizer are
changed while they work (hooks, truncation), so that two threads may not use one at the same time:
they take `turn`.
"""

import hashlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from components.backbones import BackboneConfig, read_backbone_config, weights_sha256
from components.foreign_file import ForeignFileError, open_foreign

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

_LOADED: "WeakValueDictionary[tuple[str, ...], Any]" = WeakValueDictionary()
_LOADING = threading.Lock()
_TURNS: "WeakKeyDictionary[Any, threading.Lock]" = WeakKeyDictionary()
_TURNS_CHANGING = threading.Lock()

PLACE = {"source", "name_or_path", "revision"}
"""Where weights come from, which does not matter once they are known."""


def shared_backbone(
    source: BackboneConfig, *, cache_path: Path, dtype: "torch.dtype", device: str
) -> "nn.Module":
    """As `load_backbone`, on a device: modules of one's own round weights that are shared with
    everybody in this process who asked for the same.
    """
    from components.backbones import load_backbone
    from components.backbones.sharing import sharing_copy

    settings = source.model_dump(mode="json", exclude=PLACE)
    content = json.dumps([settings, read_backbone_config(source)], sort_keys=True, default=str)
    key = ("backbone", weights_sha256(source), content, str(dtype), device)

    def load() -> Any:
        loaded = load_backbone(source, cache_path=cache_path, dtype=dtype, device=device)
        return loaded.to(device)

    return sharing_copy(_shared(key, load))


def shared_tokenizer(
    folder: Path, embeddings: int, load: "Callable[[], PreTrainedTokenizerBase]"
) -> "PreTrainedTokenizerBase":
    """The tokenizer that `load` makes of the files in `folder`, or the one that was made of the
    same files for as many embeddings before.
    """
    try:
        key = ("tokenizer", _files_identity(folder), str(embeddings))
    except (ForeignFileError, OSError):
        return load()  # which says what is wrong with them
    found: PreTrainedTokenizerBase = _shared(key, load)
    return found


def _files_identity(folder: Path) -> str:
    from components.backbones.tokenizer import vocabulary_files

    digest = hashlib.sha256()
    for path in sorted({*vocabulary_files(folder), *folder.glob("*.json")}):
        with open_foreign(path) as file:
            digest.update(path.name.encode() + b"\0")
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _shared(key: tuple[str, ...], load: Callable[[], Any]) -> Any:
    with _LOADING:
        found = _LOADED.get(key)
        if found is None:
            found = _LOADED[key] = load()
        return found


def turn(thing: Any) -> threading.Lock:
    """The lock of this very model or tokenizer."""
    with _TURNS_CHANGING:
        found = _TURNS.get(thing)
        if found is None:
            found = _TURNS[thing] = threading.Lock()
        return found
