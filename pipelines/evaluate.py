"""How good is an adapter on labelled documents? A registered one or a folder, on any split of any
data that `prepare` reads.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from components.config.loading import apply_override
from components.data.settings import DataConfig
from components.errors import ConfigError, DataError
from components.registry.adapter_source import AdapterSource, adapter_source, checked_tracker
from components.settings import validate, writable_folder
from components.tasks import prepare, stored_task, task_named
from pipelines.experiments import load_experiment
from pipelines.reports import EvaluationReport

if TYPE_CHECKING:
    from components.data import PreparedData
    from components.inference.classifier import Classifier
    from components.tasks.task import Evaluated

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
    backbone: str | None = None,
) -> EvaluationReport:
    """Metrics of the adapter named by `model` (folder or registry address) on one split.

    The data are those of `experiment`; without it, those that a registered adapter was trained with
    (the configuration kept with its run); for a folder, what `overrides` say. `overrides` are
    `data.<path>=value` on top. `output`: a folder for evaluation.json, reliability.png and
    by_length.png. `backbone`: as of `predict`. Raises DataError for a label that is not known.
    """
    from components.adapters import read_adapter_config
    from components.inference.classifier import load_classifier

    started = time.perf_counter()
    if output is not None:
        writable_folder(output, "output")
    with adapter_source(model, tracking_uri=tracking_uri) as source:
        adapter = read_adapter_config(source.folder)
        config = _data_config(source, adapter, experiment, overrides, tracking_uri)
        classifier = load_classifier(
            source.folder, cache_path=cache_path, backbone=backbone, trusted=source.registered
        )
    identity = classifier.tokenizer_id
    data = prepare(config, classifier.tokenizer, tokenizer_id=identity, cache_path=cache_path)
    found = _evaluated(classifier, data, config.task, split)
    if output is not None:
        _write(output, found, title=f"{source.address(model)}, {split}")
    trained_with = (adapter.get("training") or {}).get("data_fingerprint")
    return EvaluationReport(
        model=source.address(model),
        split=split,
        documents=len(data.splits[split]),
        temperature=classifier.temperature,
        labels=classifier.labels,
        truncated_documents=data.report.splits[split].truncated,
        data_fingerprint=data.fingerprint,
        same_data_as_training=None if trained_with is None else trained_with == data.fingerprint,
        output=output,
        seconds=time.perf_counter() - started,
        **_measured(found),
    )


def _measured(found: "Evaluated") -> dict[str, Any]:
    """What the report takes from the task's evaluation."""
    return {
        "metrics": found.metrics,
        "uncalibrated": found.uncalibrated,
        "confusion": found.confusion,
        "by_length": found.by_length,
    }


def _data_config(
    source: AdapterSource,
    adapter: Mapping[str, Any],
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
    training = adapter.get("training") or {}
    values: dict[str, Any] = {"data": {}}
    if source.version is not None:
        values["data"] = checked_tracker(tracking_uri).read_dict(
            source.version.run_id, "config.json"
        )["data"]
    elif training.get("max_tokens") is not None:
        cutting = stored_task(adapter).uncut(training)
        values["data"] = {"max_tokens": training["max_tokens"], **cutting}
    if source.version is None and not overrides:
        raise ConfigError(
            "data: an adapter folder does not say which documents to evaluate on. Name an "
            "experiment, or give --set data.files.train=... and the other settings of the data."
        )
    for override in overrides:
        apply_override(values, override)
    return validate(DataConfig, values["data"])


def _evaluated(
    classifier: "Classifier", data: "PreparedData", task: str, split: Split
) -> "Evaluated":
    if task != classifier.task.name:
        raise DataError(
            f"The data hold {task_named(task).words}, the adapter was trained for "
            f"{classifier.task.words}. Evaluate it on data of its task (data.task)."
        )
    documents = data.splits[split]
    return classifier.task.evaluated(
        classifier.split_outputs(documents),
        documents,
        temperature=classifier.temperature,
        data_labels=data.labels,
        labels=classifier.labels,
    )


def _write(output: Path, found: "Evaluated", *, title: str) -> None:
    from components.evaluation import plot_by_length, plot_reliability

    content = {
        "model_and_split": title,
        "metrics": found.metrics,
        "uncalibrated": found.uncalibrated,
        "confusion": found.confusion,
        "by_length": [bucket.as_dict() for bucket in found.by_length],
        "reliability": None if found.reliability is None else found.reliability.as_dict(),
    }
    (output / "evaluation.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if found.reliability is not None:
        figure = plot_reliability(found.reliability, title=title)
        figure.savefig(output / "reliability.png", dpi=120)
    if found.by_length:
        plot_by_length(found.by_length, title=title).savefig(output / "by_length.png", dpi=120)
