"""What a quantised backbone costs: its hidden states, the answers of one adapter, and the accuracy
of adapters that were trained on it, beside the same backbone in float32.

Documents are those of hyperpartisan (--data, a folder that holds it), else generated ones.
The fact to read first: two trainings differ by more than quantising does on few documents; what
quantising alone changes is seen in the answers of one and the same adapter, document by document.
"""

import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from components.backbones.settings import BackboneConfig
from pipelines.research.benchmark import BenchmarkOptions
from pipelines.research.benchmark.data import corpora
from pipelines.research.benchmark.workload import backbone_values

PLAIN, *QUANTISED = KINDS = ("float32", "nf4", "int8")
MAX_TOKENS, EPOCHS = 128, 2
MOST_DOCUMENTS = 260
HELD_BACK = ("validation", "test")
Say = Callable[[str], None]
Array = np.ndarray[Any, np.dtype[np.floating[Any]]]


@dataclass(frozen=True)
class Answers:
    """Of one adapter to all held-back documents: mean hidden states (N, D) and logits (N, C)."""

    states_ND: Array
    logits_NC: Array
    weights_bytes: int


def run(options: BenchmarkOptions, say: Say) -> list[dict[str, Any]]:
    """One case per kind, float32 first; `quick`: a tenth of the documents and one epoch."""
    with tempfile.TemporaryDirectory(prefix="prefixprop-bench-") as name:
        folder = Path(name)
        corpus = corpora(options.data, folder)[0]
        most = MOST_DOCUMENTS // (10 if options.quick else 1)
        files = {
            split: first_documents(Path(file), folder, most) for split, file in corpus.files.items()
        }
        cases: list[dict[str, Any]] = []
        expected: Answers | None = None
        for kind in [PLAIN, *filter(options.chosen, QUANTISED)]:
            say(f"{kind}: training on documents of {corpus.name}")
            values = experiment(kind, files, folder, epochs=1 if options.quick else EPOCHS)
            report = train(values, folder / kind)
            held_back = [Path(files[split]) for split in HELD_BACK]
            found = answers(values, folder / PLAIN / "adapter", held_back)
            expected = expected or found
            cases.append(case_of(kind, corpus.name, report, found, expected))
            say(described(cases[-1]))
    return cases


def first_documents(file: Path, folder: Path, count: int) -> str:
    """A file of the first `count` lines."""
    place = folder / f"first-{file.name}"
    with file.open(encoding="utf-8") as lines:
        kept = "".join(islice(lines, count))
    place.write_text(kept, encoding="utf-8")
    return str(place)


def experiment(kind: str, files: Mapping[str, str], folder: Path, *, epochs: int) -> dict[str, Any]:
    """The training of one kind; no two differ in anything else."""
    backbone = backbone_values("minilm", folder, max_tokens=MAX_TOKENS)
    return {
        "name": "quantised",
        "backbone": backbone | {"quantization": None if kind == PLAIN else kind},
        "adapter": {"prefix_length": 8, "dropout": 0.0},
        "head": {"pooling": "mean", "dropout": 0.0},
        "data": {"files": dict(files), "max_tokens": MAX_TOKENS, "on_invalid": "drop"},
        "optimizer": {"learning_rate": 3e-3},
        "training": {"epochs": epochs, "micro_batch_size": 8},
        "cluster": {"cache_path": str(folder / "cache")},
    }


def train(values: Mapping[str, Any], output: Path) -> dict[str, Any]:
    """`prefixprop train` in a process of its own; its report."""
    file = output.with_suffix(".yaml")
    file.write_text(json.dumps(values), encoding="utf-8")  # JSON is YAML
    command = [sys.executable, "-m", "pipelines.cli", "train", str(file), "--json"]
    done = subprocess.run(
        [*command, "--output", str(output)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the training ended with {done.returncode}: {done.stderr[-2000:]}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def answers(values: Mapping[str, Any], adapter: Path, documents: Sequence[Path]) -> Answers:
    """The adapter on the backbone of these settings."""
    import torch

    from components.adapters import load_adapter
    from components.backbones import load_backbone, load_tokenizer

    config = BackboneConfig.model_validate(values["backbone"])
    backbone = load_backbone(config, cache_path=Path(values["cluster"]["cache_path"]))
    with warnings.catch_warnings():
        # That it was trained on another backbone is what is measured here.
        warnings.filterwarnings("ignore", message="the backbone that the adapter was trained on")
        model, tokenizer = load_adapter(backbone, adapter), load_tokenizer(config)
    states, logits = [], []
    for line in (line for file in documents for line in file.read_text("utf-8").splitlines()):
        text = json.loads(line)["text"]
        inputs = tokenizer(text, truncation=True, max_length=MAX_TOKENS, return_tensors="pt").data
        inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            states.append(backbone(**inputs).last_hidden_state.mean(1)[0].numpy())
            logits.append(model(**inputs).logits[0].numpy())
    return Answers(np.stack(states), np.stack(logits), _bytes(backbone))


def _bytes(backbone: Any) -> int:
    """What its layers take, scales included."""
    from components.training.same_weights import plain_tensors

    return sum(
        tensor.numel() * tensor.element_size() for _, tensor in plain_tensors(backbone.encoder)
    )


def case_of(
    kind: str, documents: str, report: Mapping[str, Any], found: Answers, expected: Answers
) -> dict[str, Any]:
    """`*_of_same_adapter`: the adapter trained in float32, on this backbone."""
    return {
        "case": kind,
        "documents": f"{documents}, {len(found.logits_NC)} held back",
        "layers_mib": found.weights_bytes / 2**20,
        "hidden_difference": relative(found.states_ND, expected.states_ND),
        "logit_difference_of_same_adapter": relative(found.logits_NC, expected.logits_NC),
        "other_answers_of_same_adapter": other_answers(found.logits_NC, expected.logits_NC),
        "test_accuracy_trained_on_it": report["metrics"]["test/accuracy"],
        "low": report["metrics"]["test/accuracy_low"],
        "high": report["metrics"]["test/accuracy_high"],
        "test_nll_trained_on_it": report["metrics"]["test/nll"],
        "tokens_per_second": report["tokens_per_second"],
    }


def relative(found: Array, expected: Array) -> float:
    """Length of the difference over length."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def other_answers(found_NC: Array, expected_NC: Array) -> float:
    """Share of documents with another answer."""
    return float((found_NC.argmax(1) != expected_NC.argmax(1)).mean())


def described(case: Mapping[str, Any]) -> str:
    """A case in one line."""
    return (
        f"{case['case']}: layers {case['layers_mib']:.1f} MiB, hidden states off by "
        f"{case['hidden_difference']:.2%}, {case['other_answers_of_same_adapter']:.1%} other "
        f"answers; trained on it {case['test_accuracy_trained_on_it']:.3f}"
    )
