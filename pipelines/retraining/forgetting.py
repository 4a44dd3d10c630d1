"""Documents that the source no longer has are removed wherever a retraining keeps texts or tokens:
in its snapshots, in the cache that was made of them, and in the states that were kept of them.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from components.config import ExperimentConfig
from components.errors import UserError
from components.training.states_folder import STATES_FOLDER, document_key
from pipelines.retraining.documents import TEST_SET
from pipelines.retraining.round_champion import on_snapshot


def keep_only(snapshot: Path, config: ExperimentConfig) -> tuple[Path, ...]:
    """Remove every other snapshot beside this one, and its tokens; returns what was removed."""
    removed: list[Path] = []
    for other in sorted(snapshot.parent.glob(f"*/{TEST_SET}")):
        if other.parent == snapshot:
            continue
        for tokens in _token_folders(other.parent, config):
            _forget_states(tokens, _token_folders(snapshot, config), config)
            shutil.rmtree(tokens)
            removed.append(tokens)
        shutil.rmtree(other.parent)
        removed.append(other.parent)
    return tuple(removed)


def _forget_states(tokens: Path, staying: Iterable[Path], config: ExperimentConfig) -> None:
    """Remove kept states of documents that lie tokenised in one folder and in none that stays."""
    cache = Path(config.cluster.cache_path).resolve()
    if not (cache / STATES_FOLDER).is_dir():
        return
    from components.training.state_store import forget

    forget(cache, _keys([tokens]) - _keys(staying))


def _keys(folders: Iterable[Path]) -> set[str]:
    from components.data import open_prepared

    return {
        document_key(split.input_ids(row))
        for folder in folders
        for split in open_prepared(folder).splits.values()
        for row in range(len(split))
    }


def _token_folders(snapshot: Path, config: ExperimentConfig) -> list[Path]:
    """Where its documents lie tokenised: cut as the experiment says, and as each champion was
    trained that met a challenger on them.
    """
    from components.backbones import tokenizer_id
    from components.data.preparation import cache_key

    data, tokenizer = on_snapshot(config, snapshot).data, tokenizer_id(config.backbone)
    lengths = {data.max_tokens, *_lengths_of_champions(snapshot.parent)}
    cache = Path(config.cluster.cache_path).resolve()
    folders = [
        cache / cache_key(data.model_copy(update={"max_tokens": length}), tokenizer)
        for length in lengths
    ]
    return [folder for folder in folders if folder.is_dir()]


def _lengths_of_champions(folder: Path) -> set[int]:
    from components.adapters import read_adapter_config

    found = set()
    for adapter in folder.glob("champion-*/adapter"):
        try:
            training = read_adapter_config(adapter).get("training") or {}
        except UserError:
            continue  # a download that was cut short: it has answered nothing
        if isinstance(training.get("max_tokens"), int):
            found.add(training["max_tokens"])
    return found
