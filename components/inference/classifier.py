"""An adapter folder brought to life in any process: backbone, adapter, tokenizer and temperature.

`predict`, `evaluate` and the registered pyfunc all answer through `Classifier.answers`. Answers are
equal bit for bit where documents meet in the same batches, so all of them cut long inputs into the
same chunks (`CHUNK_DOCUMENTS`) and take the same batch size.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.checksums import CHECKSUMS_FILE, Damaged, check
from components.errors import ArtifactError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from components.adapters import AdaptedModel
    from components.backbones import BackboneConfig
    from components.data import TokenizedSplit
    from components.tasks import Task

BATCH_SIZE = 8
CHUNK_DOCUMENTS = 512


@dataclass(frozen=True)
class Classifier:
    """A live adapter of any task. `labels` are those of its classes, in the order of the logits; a
    classifier without named labels has "0", "1", ..., what has no classes has none.

    `cutting`: how documents were cut in training beside `max_tokens` (Task.cutting).
    """

    model: "AdaptedModel"
    tokenizer: "PreTrainedTokenizerBase"
    labels: tuple[str, ...]
    max_tokens: int
    temperature: float
    backbone: "BackboneConfig"
    cutting: Mapping[str, Any]

    @property
    def task(self) -> "Task":
        """What it was trained for."""
        return self.model.task

    def probabilities(
        self, texts: Sequence[str], *, batch_size: int = BATCH_SIZE, calibrated: bool = True
    ) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """Probabilities (N, C), float32, of a classifier; `calibrated` divides the logits by the
        fitted temperature.
        """
        from components.inference import classify

        temperature = self.temperature if calibrated else 1.0
        parts = [
            classify(
                self.model,
                self.tokenizer,
                texts[start : start + CHUNK_DOCUMENTS],
                max_tokens=self.max_tokens,
                batch_size=batch_size,
                temperature=temperature,
            )
            for start in range(0, len(texts), CHUNK_DOCUMENTS)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.labels)), dtype=np.float32)

    def answers(
        self, asked: Sequence[Any], *, batch_size: int = BATCH_SIZE
    ) -> Iterator[dict[str, Any]]:
        """One answer for each that is asked (texts of a classifier), by the columns of the task's
        signature, calibrated; float32 values written as float64, exactly.
        """
        from components.inference.outputs import batches_of_logits

        for start in range(0, len(asked), CHUNK_DOCUMENTS):
            chunk = asked[start : start + CHUNK_DOCUMENTS]
            encoded = self.task.encoded(
                chunk, self.tokenizer, max_tokens=self.max_tokens, cutting=self.cutting
            )
            rows: dict[int, Any] = {}
            for members, logits in batches_of_logits(
                self.model, self.tokenizer, encoded, batch_size=batch_size
            ):
                found = self.task.answered(logits, self.temperature)
                rows |= dict(zip(members, found, strict=True))
            for index, each in enumerate(chunk):
                yield self.task.answer(each, rows[index], self.labels)

    def split_outputs(
        self, split: "TokenizedSplit", *, batch_size: int = BATCH_SIZE
    ) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """What the task keeps of the answers (N, C), float32 and uncalibrated, for a prepared split
        in its order. They agree with `answers` up to the rounding that other batches bring.
        """
        import torch

        from components.data import evaluation_batches
        from components.tasks.outputs import gathered

        device = next(self.model.head.parameters()).device
        found = []
        for rows in evaluation_batches(
            split.lengths, world_size=1, rank=0, micro_batch_size=batch_size
        ):
            batch = self.task.batch(split, rows, pad_token_id=int(self.tokenizer.pad_token_id))
            batch = {name: tensor.to(device) for name, tensor in batch.items()}
            labels = batch.pop("labels")
            with torch.inference_mode():
                found.append((rows, self.task.outputs(self.model(**batch).logits, labels)))
        return gathered(found, len(split))


def default_cache_path() -> Path:
    """Where lengthened backbones are kept when nobody says otherwise."""
    return Path.home() / ".cache" / "prefixprop"


def load_classifier(folder: Path, *, cache_path: Path | None = None) -> Classifier:
    """Rebuild the adapted model of an artifact folder, from the backbone that its
    adapter_config.json names; on a GPU where torch sees one, in the precision it was trained in.

    Raises ArtifactError where the folder says too little to do so (a folder written by hand: use
    load_adapter with a backbone of your own), BackboneError where the backbone is not there.
    """
    import torch

    _check_beside(folder)
    from components.adapters import load_adapter, read_adapter_config
    from components.backbones import load_backbone
    from components.backbones.settings import BackboneConfig

    config = read_adapter_config(folder)
    backbone_section, training = config.get("backbone") or {}, config.get("training") or {}
    if "load" not in backbone_section:
        raise ArtifactError(
            f"'{folder}' does not say how to load its backbone (backbone.load in "
            "adapter_config.json). Load the backbone yourself and call "
            "components.adapters.load_adapter."
        )
    source = BackboneConfig.model_validate_json(json.dumps(backbone_section["load"]))
    # In training's precision: the temperature and the registered metrics are those of its answers.
    dtype = torch.bfloat16 if training.get("precision") == "bf16" else torch.float32
    backbone = load_backbone(source, cache_path=cache_path or default_cache_path(), dtype=dtype)
    model = load_adapter(backbone, folder).to("cuda" if torch.cuda.is_available() else "cpu")
    head = config["head"]
    return Classifier(
        model=model,
        tokenizer=_tokenizer(folder, source),
        labels=tuple(
            head.get("labels") or (str(index) for index in range(head.get("num_labels", 0)))
        ),
        max_tokens=_max_tokens(training, backbone, model),
        temperature=read_temperature(folder),
        backbone=source,
        cutting=training,
    )


def _check_beside(folder: Path) -> None:
    """Raise ArtifactError where tokenizer or calibration are not what was written."""
    try:
        check(folder)
    except Damaged as error:
        raise ArtifactError(
            f"{error}. Take the adapter from where it came from again; of a file that was changed "
            f"on purpose, remove '{folder / CHECKSUMS_FILE}'."
        ) from error


def _tokenizer(folder: Path, source: Any) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    from components.backbones import load_tokenizer

    if not (folder / "tokenizer").is_dir():
        return load_tokenizer(source)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        folder / "tokenizer", trust_remote_code=False
    )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _max_tokens(training: Mapping[str, Any], backbone: Any, model: "AdaptedModel") -> int:
    """Tokens per document as in training; where the artifact does not say, all that the positions
    leave beside the prefix.
    """
    if training.get("max_tokens") is not None:
        return int(training["max_tokens"])
    return (
        model.family.usable_positions(backbone.config.to_dict())
        - model.adapter_config.prefix_length
    )


def read_temperature(folder: Path) -> float:
    """The temperature in calibration.json; 1 where there is none. Raises ArtifactError where it is
    no positive number.
    """
    path = folder / "calibration.json"
    if not path.is_file():
        return 1.0
    try:
        temperature = float(json.loads(path.read_text(encoding="utf-8"))["temperature"])
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path} holds no readable temperature: {error}. Delete the file to answer "
            "uncalibrated."
        ) from error
    if not 0.0 < temperature < float("inf"):
        raise ArtifactError(
            f"{path} holds temperature {temperature}; it must be a positive number. Delete the "
            "file to answer uncalibrated."
        )
    return temperature
