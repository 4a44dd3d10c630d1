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

from components.errors import ArtifactError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from components.adapters import AdaptedModel
    from components.config import BackboneConfig
    from components.config.schema import Task
    from components.data import TokenizedSplit
    from components.data.documents import Question

BATCH_SIZE = 8
CHUNK_DOCUMENTS = 512


@dataclass(frozen=True)
class Classifier:
    """A live adapter. `labels` are in the order of the logits; an adapter without named labels has
    "0", "1", ..., one for multiple choice has none.

    `max_chunks`: of a question, None for all.
    """

    model: "AdaptedModel"
    tokenizer: "PreTrainedTokenizerBase"
    labels: tuple[str, ...]
    max_tokens: int
    temperature: float
    backbone: "BackboneConfig"
    max_chunks: int | None = None

    @property
    def task(self) -> "Task":
        """What it was trained for: texts are classified, questions answered."""
        return self.model.head_config.task

    def probabilities(
        self, texts: Sequence[str], *, batch_size: int = BATCH_SIZE, calibrated: bool = True
    ) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """Probabilities (N, C), float32; `calibrated` divides the logits by the fitted
        temperature.
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
        self, texts: Sequence[str], *, batch_size: int = BATCH_SIZE
    ) -> Iterator[dict[str, Any]]:
        """One {"label": str, "probabilities": {label: float}} per text; float32 values written as
        float64, exactly.
        """
        for row in self.probabilities(texts, batch_size=batch_size):
            yield {
                "label": self.labels[int(row.argmax())],
                "probabilities": dict(
                    zip(self.labels, (float(value) for value in row), strict=True)
                ),
            }

    def question_answers(
        self, questions: Sequence["Question"], *, batch_size: int = BATCH_SIZE
    ) -> Iterator[dict[str, Any]]:
        """One {"label": candidate, "probabilities": {candidate: float}} per question,
        calibrated.
        """
        from components.inference import choose

        for start in range(0, len(questions), CHUNK_DOCUMENTS):
            chunk = questions[start : start + CHUNK_DOCUMENTS]
            found = choose(
                self.model,
                self.tokenizer,
                chunk,
                max_tokens=self.max_tokens,
                max_chunks=self.max_chunks,
                batch_size=batch_size,
                temperature=self.temperature,
            )
            for question, row in zip(chunk, found, strict=True):
                yield {
                    "label": question.candidates[int(row.argmax())],
                    "probabilities": dict(
                        zip(question.candidates, (float(value) for value in row), strict=True)
                    ),
                }

    def split_logits(
        self, split: "TokenizedSplit", *, batch_size: int = BATCH_SIZE
    ) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """Uncalibrated logits (N, C), float32, of a prepared split, in its order. They agree with
        `probabilities` up to the rounding that other batches bring.

        Of questions C is the most candidates, and places beyond a question's own hold NO_CANDIDATE.
        """
        import torch

        from components.data import collate, evaluation_batches
        from components.data.multiple_choice import gathered_logits

        device = next(self.model.head.parameters()).device
        found = []
        for rows in evaluation_batches(
            split.lengths, world_size=1, rank=0, micro_batch_size=batch_size
        ):
            batch = collate(split, rows, pad_token_id=int(self.tokenizer.pad_token_id))
            batch.pop("labels")
            with torch.inference_mode():
                logits_BC = self.model(
                    **{name: tensor.to(device) for name, tensor in batch.items()}
                ).logits
            found.append((rows, logits_BC.float().cpu().numpy()))
        return gathered_logits(found, len(split))


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

    from components.adapters import load_adapter, read_adapter_config
    from components.backbones import load_backbone
    from components.config import BackboneConfig

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
        max_chunks=training.get("max_chunks"),
    )


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
