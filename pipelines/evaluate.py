"""How good is an adapter on labelled documents? A registered one or a folder, on any split of any
data that `prepare` reads.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from components.config import DataConfig, load_experiment, validate
from components.config.loading import apply_override
from components.errors import ConfigError, DataError
from components.registry.adapter_source import AdapterSource, adapter_source, checked_tracker
from pipelines.reports import EvaluationReport

if TYPE_CHECKING:
    from components.data import PreparedData
    from components.inference.classifier import Classifier

Array = np.ndarray[Any, Any]
Split = Literal["train", "validation", "test"]


def evaluate(
    model: str,
    *,
    tracking_uri: str | None,
    split: Split = "test",
    experiment: str | None = None,
    overrides: Sequence[str] = (),
    output: Path | None = None,
    cache_path: Path = Path(".prefixprop/cache"),
) -> EvaluationReport:
    """Metrics of the adapter named by `model` (folder or registry address) on one split.

    The data are those of `experiment`; without it, those that a registered adapter was trained with
    (the configuration kept with its run); for a folder, what `overrides` say. `overrides` are
    `data.<path>=value` on top. `output`: a folder that gets evaluation.json, reliability.png and
    by_length.png. Raises DataError where the data hold a label that the adapter does not know.
    """
    from components.adapters import read_adapter_config
    from components.backbones import tokenizer_id
    from components.data import prepare
    from components.inference.classifier import load_classifier

    started = time.perf_counter()
    with adapter_source(model, tracking_uri=tracking_uri) as source:
        training = read_adapter_config(source.folder).get("training") or {}
        config = _data_config(source, training, experiment, overrides, tracking_uri)
        classifier = load_classifier(source.folder, cache_path=cache_path)
    data = prepare(
        config,
        classifier.tokenizer,
        tokenizer_id=tokenizer_id(classifier.backbone),
        cache_path=cache_path,
    )
    fingerprint = training.get("data_fingerprint")
    calibrated, label_ids, measured = _measure(classifier, data, split)
    if output is not None:
        _write(output, measured, calibrated, label_ids, title=f"{source.address(model)}, {split}")
    return EvaluationReport(
        model=source.address(model),
        split=split,
        documents=len(label_ids),
        temperature=classifier.temperature,
        labels=classifier.labels,
        truncated_documents=data.report.splits[split].truncated,
        data_fingerprint=data.fingerprint,
        same_data_as_training=None if fingerprint is None else fingerprint == data.fingerprint,
        output=output,
        seconds=time.perf_counter() - started,
        **measured,
    )


def _data_config(
    source: AdapterSource,
    training: Mapping[str, Any],
    experiment: str | None,
    overrides: Sequence[str],
    tracking_uri: str | None,
) -> DataConfig:
    wrong = [override for override in overrides if not override.startswith("data.")]
    if wrong:
        raise ConfigError(
            f"'{wrong[0]}' cannot be set here: an evaluation only takes data.<path>=value, "
            "everything else comes with the adapter."
        )
    if experiment is not None:
        return load_experiment(experiment, overrides).data
    values: dict[str, Any] = {"data": {}}
    if source.version is not None:
        values["data"] = checked_tracker(tracking_uri).read_dict(
            source.version.run_id, "config.json"
        )["data"]
    elif training.get("max_tokens") is not None:
        values["data"]["max_tokens"] = training["max_tokens"]
        if training.get("max_chunks") is not None:
            values["data"]["qangaroo"] = {"max_chunks": training["max_chunks"]}
    if source.version is None and not overrides:
        raise ConfigError(
            "data: an adapter folder does not say which documents to evaluate on. Name an "
            "experiment, or give --set data.files.train=... and the other settings of the data."
        )
    for override in overrides:
        apply_override(values, override)
    return validate(DataConfig, values["data"])


def _measure(
    classifier: "Classifier", data: "PreparedData", split: Split
) -> tuple[Array, Array, dict[str, Any]]:
    """Calibrated probabilities (N, C), label ids (N,) in the adapter's order, and the report's
    figures.
    """
    from components.evaluation import by_document_length, classification_metrics, softmax

    if data.task != classifier.task:
        raise DataError(
            f"The data hold {data.task.replace('_', ' ')}, the adapter was trained for "
            f"{classifier.task.replace('_', ' ')}. Evaluate it on data of its task."
        )
    if classifier.task == "multiple_choice":
        return _measure_questions(classifier, data, split)
    unknown = sorted(set(data.labels) - set(classifier.labels))
    if unknown:
        raise DataError(
            f"The data hold the label '{unknown[0]}', which the adapter does not know. Its labels: "
            f"{', '.join(classifier.labels)}. Evaluate it on data with these labels."
        )
    documents = data.splits[split]
    to_adapter = np.array([classifier.labels.index(label) for label in data.labels])
    label_ids = to_adapter[documents.label_ids]
    logits_NC = classifier.split_logits(documents)
    calibrated = softmax(logits_NC, temperature=classifier.temperature)
    confusion = np.zeros((len(classifier.labels), len(classifier.labels)), dtype=np.int64)
    np.add.at(confusion, (label_ids, logits_NC.argmax(axis=1)), 1)
    figures = {
        "metrics": classification_metrics(calibrated, label_ids),
        "uncalibrated": classification_metrics(softmax(logits_NC), label_ids),
        "confusion": tuple(tuple(int(count) for count in row) for row in confusion),
        "by_length": by_document_length(calibrated, label_ids, documents.tokens),
    }
    return calibrated, label_ids, figures


def _measure_questions(
    classifier: "Classifier", data: "PreparedData", split: Split
) -> tuple[Array, Array, dict[str, Any]]:
    """Calibrated probabilities (N, C) of the candidates, indices of the answers (N,), and the
    report's figures; a confusion of candidates would mean nothing.
    """
    from components.data.multiple_choice import candidate_counts
    from components.evaluation import by_document_length, multiple_choice_metrics, softmax

    questions = data.splits[split]
    label_ids, logits_NC = questions.label_ids, classifier.split_logits(questions)
    num_candidates = candidate_counts(logits_NC)
    calibrated = softmax(logits_NC, temperature=classifier.temperature)
    figures = {
        "metrics": multiple_choice_metrics(calibrated, label_ids, num_candidates=num_candidates),
        "uncalibrated": multiple_choice_metrics(
            softmax(logits_NC), label_ids, num_candidates=num_candidates
        ),
        "confusion": (),
        "by_length": by_document_length(calibrated, label_ids, questions.tokens),
    }
    return calibrated, label_ids, figures


def _write(
    output: Path,
    measured: Mapping[str, Any],
    probabilities_NC: Array,
    label_ids: Array,
    *,
    title: str,
) -> None:
    from components.evaluation import plot_by_length, plot_reliability, reliability_diagram

    output.mkdir(parents=True, exist_ok=True)
    diagram = reliability_diagram(probabilities_NC, label_ids)
    buckets = [bucket.as_dict() for bucket in measured["by_length"]]
    content = {
        "model_and_split": title,
        **measured,
        "by_length": buckets,
        "reliability": diagram.as_dict(),
    }
    (output / "evaluation.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    plot_reliability(diagram, title=title).savefig(output / "reliability.png", dpi=120)
    plot_by_length(measured["by_length"], title=title).savefig(output / "by_length.png", dpi=120)
