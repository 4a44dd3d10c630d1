"""Documents before and after they became more: the same validation and test documents for both."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from components.atomic_folder import atomic_folder
from components.config import DataConfig
from components.data.batching import stratified_subset
from components.data.documents import Example, SplitName, has_own_id
from components.data.settings import FilesConfig
from components.data.validation import label_order


def old_and_all(
    splits: Mapping[SplitName, Sequence[Example]],
    folder: Path,
    *,
    share: float,
    seed: int,
    like: DataConfig,
) -> tuple[DataConfig, DataConfig]:
    """Written below `folder`: a stratified part of the training documents, drawn by `seed`, that
    all of them exceed by `share`; and all of them. `like`: how documents are cut.
    """
    train = splits["train"]
    labels = label_order(example.stratum for example in train)
    label_ids = [labels.index(example.stratum) for example in train]
    chosen = stratified_subset(label_ids, round(len(train) / (1 + share)), seed)
    files = {"old": [train[row] for row in chosen], "all": train}
    files |= {name: splits[name] for name in ("validation", "test")}
    if not folder.is_dir():  # an interrupted study goes on with the very same files
        with atomic_folder(folder) as unfinished:
            for name, examples in files.items():
                (unfinished / f"{name}.jsonl").write_text(_lines(examples), encoding="utf-8")
    return _config(folder, "old", like), _config(folder, "all", like)


def _config(folder: Path, train: str, like: DataConfig) -> DataConfig:
    files = FilesConfig(
        train=str(folder / f"{train}.jsonl"),
        validation=str(folder / "validation.jsonl"),
        test=str(folder / "test.jsonl"),
    )
    return DataConfig(files=files, max_tokens=like.max_tokens)


def _lines(examples: Iterable[Example]) -> str:
    rows = (
        ({"id": each.id} if has_own_id(each) else {})
        | {"text": each.content, "label": each.stratum}
        for each in examples
    )
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
