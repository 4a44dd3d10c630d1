"""An adapter folder brought to life in any process: backbone, adapter, tokenizer and temperature.

`predict`, `evaluate` and the registered pyfunc all answer through `Classifier.answers`. Answers are
equal bit for bit where documents meet in the same batches, so all of them cut long inputs into the
same chunks (`CHUNK_DOCUMENTS`) and take the same batch size.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.adapters.reading import TOKENIZER_FOLDER, checked_settings, read_temperature
from components.checksums import CHECKSUMS_FILE, Damaged, check
from components.errors import ArtifactError
from components.inference.named_backbone import named_backbone

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

    @cached_property
    def tokenizer_id(self) -> str:
        """Equal ids tokenise equally: the backbone's own where the adapter's cuts as that one."""
        from components.backbones.tokenizer import id_beside

        return id_beside(self.tokenizer, self.backbone)

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
                cutting=self.cutting,
                batch_size=batch_size,
                temperature=temperature,
            )
            for start in range(0, len(texts), CHUNK_DOCUMENTS)
        ]
        return (
            _checked(np.concatenate(parts))
            if parts
            else np.zeros((0, len(self.labels)), dtype=np.float32)
        )

    def answers(
        self, asked: Sequence[Any], *, batch_size: int = BATCH_SIZE
    ) -> Iterator[dict[str, Any]]:
        """One answer for each that is asked (texts of a classifier), by the columns of the task's
        signature, calibrated; float32 values written as float64, exactly.
        """
        for start in range(0, len(asked), CHUNK_DOCUMENTS):
            chunk = asked[start : start + CHUNK_DOCUMENTS]
            answers = answers_of_chunk({"the adapter": self}, chunk, batch_size=batch_size)
            yield from answers["the adapter"]

    def split_outputs(
        self, split: "TokenizedSplit", *, batch_size: int = BATCH_SIZE
    ) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """What the task keeps of the answers (N, C), float32 and uncalibrated, for a prepared split
        in its order. They agree with `answers` up to the rounding that other batches bring.
        """
        import torch

        from components.data import evaluation_batches
        from components.inference.shared_backbone import turn
        from components.tasks.outputs import gathered

        device = self.model.device
        found = []
        for rows in evaluation_batches(
            split.lengths, world_size=1, rank=0, micro_batch_size=batch_size
        ):
            batch = self.task.batch(split, rows, pad_token_id=int(self.tokenizer.pad_token_id))
            batch = {name: tensor.to(device) for name, tensor in batch.items()}
            labels = batch.pop("labels")
            with turn(self.model), torch.inference_mode():
                outputs = self.task.outputs(self.model(**batch).logits, labels)
            found.append((rows, _checked(outputs)))
        return gathered(found, len(split))


def answers_of_chunk(
    alike: Mapping[str, Classifier], chunk: Sequence[Any], *, batch_size: int
) -> dict[str, list[dict[str, Any]]]:
    """The answers of each of these classifiers to what is asked, in order. `alike`: they cut a text
    into the same tokens, so that a batch of one is a batch of all; their names serve messages.
    """
    from components.inference.outputs import batches_of_logits, sequences_of

    first = next(iter(alike.values()))
    encoded = sequences_of(
        first.task, chunk, first.tokenizer, max_tokens=first.max_tokens, cutting=first.cutting
    )
    if first.task.generates:
        from components.inference.generation import written

        return {name: written(each, chunk, encoded) for name, each in alike.items()}
    models = [each.model for each in alike.values()]
    rows: dict[str, dict[int, Any]] = {name: {} for name in alike}
    for members, logits in batches_of_logits(
        models, first.tokenizer, encoded, batch_size=batch_size
    ):
        for (name, each), of_model in zip(alike.items(), logits, strict=True):
            answered = _checked(each.task.answered(of_model, each.temperature), name)
            rows[name] |= dict(zip(members, answered, strict=True))
    return {
        name: [
            each.task.answer(asked, rows[name][index], each.labels)
            for index, asked in enumerate(chunk)
        ]
        for name, each in alike.items()
    }


def default_cache_path() -> Path:
    """Where lengthened backbones are kept when nobody says otherwise."""
    return Path.home() / ".cache" / "prefixprop"


def load_classifier(
    folder: Path,
    *,
    cache_path: Path | None = None,
    backbone: str | None = None,
    trusted: bool = False,
    in_float32_on_cpu: bool = False,
) -> Classifier:
    """Rebuild the adapted model of an artifact folder; on a GPU where torch sees one, in the
    precision it was trained in, unless `in_float32_on_cpu`. Weights and tokenizer are shared with
    the other adapters of this process that need the same (shared_backbone.py).

    `backbone`: a folder, hub id or installed model to load in place of the one that the adapter
    names; `trusted`: load whatever it names (components/inference/named_backbone.py). Raises
    ArtifactError where the folder is broken or says too little, BackboneError where the backbone is
    not there.
    """
    import torch

    _check_beside(folder)
    from components.adapters import load_adapter, read_adapter_config
    from components.backbones import backbone_shape, family_named, read_backbone_config
    from components.inference.shared_backbone import shared_backbone

    config = read_adapter_config(folder)
    source = named_backbone(config, folder, given=backbone, trusted=trusted)
    sizes, training = read_backbone_config(source), config.get("training") or {}
    adapter, head, _ = checked_settings(config, folder, backbone_shape(sizes))
    room = family_named(source.family).usable_positions(sizes) - adapter.prefix_length
    tokenizer = _tokenizer(folder, source, embeddings=int(sizes["vocab_size"]))
    rest: dict[str, Any] = {
        "labels": tuple(
            getattr(head, "labels", None)
            or (str(index) for index in range(getattr(head, "num_labels", 0)))
        ),
        "max_tokens": _max_tokens(training, room, tokenizer, folder),
        "temperature": read_temperature(folder),
        "cutting": _cutting(training, folder),
    }
    # In training's precision: the temperature and the registered metrics are those of its answers.
    halved = _precision(training, folder) == "bf16" and not in_float32_on_cpu
    dtype = torch.bfloat16 if halved else torch.float32
    # All that is cheap to know is known: the weights come last.
    backbone_copy = shared_backbone(
        source,
        cache_path=cache_path or default_cache_path(),
        dtype=dtype,
        device="cuda" if torch.cuda.is_available() and not in_float32_on_cpu else "cpu",
    )
    model = load_adapter(backbone_copy, folder)
    return Classifier(model=model, tokenizer=tokenizer, backbone=source, **rest)


def _check_beside(folder: Path) -> None:
    """Raise ArtifactError where tokenizer or calibration are not what was written."""
    try:
        check(folder)
    except Damaged as error:
        raise ArtifactError(
            f"{error}. Take the adapter from where it came from again; of a file that was changed "
            f"on purpose, remove '{folder / CHECKSUMS_FILE}'."
        ) from error


def _tokenizer(folder: Path, source: Any, *, embeddings: int) -> "PreTrainedTokenizerBase":
    from components.backbones import load_tokenizer, read_tokenizer, tokenizer_files
    from components.inference.shared_backbone import shared_tokenizer

    own = folder / TOKENIZER_FOLDER
    if not own.is_dir():
        files = tokenizer_files(source)
        return shared_tokenizer(files, embeddings, lambda: load_tokenizer(source))

    def read() -> "PreTrainedTokenizerBase":
        return read_tokenizer(
            own, embeddings=embeddings, refuse=lambda reason: ArtifactError(f"'{own}' {reason}")
        )

    return shared_tokenizer(own, embeddings, read)


def _precision(training: Mapping[str, Any], folder: Path) -> str:
    found = training.get("precision") or "fp32"
    if found not in ("fp32", "bf16"):
        raise ArtifactError(
            f"'{folder}': training.precision is {json.dumps(found)[:100]}, expected fp32 or bf16."
        )
    return str(found)


def _max_tokens(training: Mapping[str, Any], room: int, tokenizer: Any, folder: Path) -> int:
    """Tokens per document as in training; where the artifact does not say, all that the positions
    leave beside the prefix (`room`).
    """
    found = _count(training, "max_tokens", folder) or room
    special = tokenizer.num_special_tokens_to_add(pair=False)
    if special < found <= room:
        return found
    raise ArtifactError(
        f"'{folder}': training.max_tokens is {found}, expected more than the tokenizer's {special} "
        f"special tokens and at most the {room} positions that the backbone has beside the prefix."
    )


def _cutting(training: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    _count(training, "max_chunks", folder)
    return training


def _count(training: Mapping[str, Any], name: str, folder: Path) -> int | None:
    found = training.get(name)
    if found is None or (type(found) is int and found > 0):
        return found
    raise ArtifactError(
        f"'{folder}': training.{name} is {json.dumps(found)[:100]}, expected a positive integer."
    )


def _checked(answers: "np.ndarray[Any, Any]", name: str = "the adapter") -> "np.ndarray[Any, Any]":
    """Raise ArtifactError for answers that are no numbers."""
    if not np.isfinite(answers).all():
        raise ArtifactError(
            f"The answers of {name} are no numbers (NaN or infinite): its values are too large for "
            "this backbone. Get the adapter again, or train it again."
        )
    return answers
