"""The length study: does the prefix's advantage grow with document length, and does it matter how
deep the evidence lies?

train every method on the needle task, ask it about documents of each length and depth -> the same
methods on real documents, by length -> paired differences with the first method.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from components.backbones import check_positions, family_named, inspect_backbone
from components.config import DataConfig, ExperimentConfig
from components.config.study import LengthStudyConfig
from components.data.needle import needle_place
from components.errors import ConfigError, DataError
from components.evaluation.by_length import NUM_BUCKETS, quantile_edges
from components.evaluation.repeated import (
    Estimate,
    RepeatedAnswers,
    paired_difference,
    trend_per_doubling,
)
from pipelines.research.studies.study import StudyOutcome
from pipelines.research.studies.study_session import StudySession, answers_of, changed, with_method

if TYPE_CHECKING:
    from components.data import PreparedData

Groups = Mapping[str, Any]
"""Name of a group of documents -> which documents are in it (N,), bool."""


def check(config: ExperimentConfig) -> None:
    """Refuse what cannot work before any weight is read. Raises ConfigError, BackboneError, or
    DataError where the real documents are not there.
    """
    from components.data.sources import source_of

    if config.data.needle is None:
        raise ConfigError(
            "data.needle is missing: the length study's own documents are generated. Give "
            "data.needle, and real documents under study.length.real."
        )
    values = inspect_backbone(config.backbone)
    for method in _settings(config).methods:
        with_method(
            config, method, seed=0
        )  # raises where the method cannot take the experiment's settings
    for data in _all_data(config):
        check_positions(
            family_named(config.backbone.family),
            values,
            max_tokens=data.max_tokens,
            prefix_length=config.adapter.prefix_length,
        )
    if (real := _settings(config).real) is not None:
        try:
            source_of(real).state(real)
        except DataError as error:
            named = str(error).replace("data.files.", "study.length.real.files.")
            raise DataError(
                f"{named} Without real documents: --set study.length.real=null."
            ) from error


def run(study: StudySession) -> StudyOutcome:
    """All trainings, then figures and findings."""
    from pipelines.research.studies.length_figures import figures
    from pipelines.research.studies.length_findings import findings

    needle = study.config.data.needle
    assert needle is not None
    numbers = {
        "methods": list(_settings(study.config).methods),
        "seeds": list(_settings(study.config).seeds),
        "prefix_length": study.config.adapter.prefix_length,
        "training_lengths": list(needle.lengths),
        "task": needle.model_dump(mode="json"),
        "needle": needle_part(study),
        "real": real_part(study),
    }
    return StudyOutcome(findings(numbers), figures(numbers), numbers, metrics(numbers))


def needle_part(study: StudySession) -> dict[str, Any]:
    """The needle task by length and by depth."""
    data = study.data(study.config.data)
    places = [needle_place(identity) for identity in data.splits["test"].ids]
    length_N, depth_N = (
        np.array([place.length for place in places]),
        np.array([place.depth for place in places]),
    )
    answers, training = trained_methods(study, study.config, data, "needle")
    answers = {method: replace(each, lengths_N=length_N) for method, each in answers.items()}
    by_length = {str(length): length_N == length for length in np.unique(length_N)}
    by_depth = {f"{depth:g}": depth_N == depth for depth in np.unique(depth_N)}
    return compared(answers, by_length) | {
        "training": training,
        "majority_accuracy": float(np.bincount(data.splits["test"].label_ids).max() / len(places)),
        "by_depth": {
            method: {
                depth: asdict(each.of(chosen_N).estimate("accuracy"))
                for depth, chosen_N in by_depth.items()
            }
            for method, each in answers.items()
        },
        "by_length_and_depth": {
            method: {
                length: {
                    depth: each.of(of_length_N & of_depth_N).measure("accuracy")
                    for depth, of_depth_N in by_depth.items()
                }
                for length, of_length_N in by_length.items()
            }
            for method, each in answers.items()
        },
    }


def real_part(study: StudySession) -> dict[str, Any] | None:
    """Real documents by length, in buckets of equally many; None where the study has none."""
    settings = _settings(study.config)
    if settings.real is None:
        return None
    data = study.data(settings.real)
    answers, training = trained_methods(
        study, study.config.model_copy(update={"data": settings.real}), data, "real"
    )
    length_N = data.splits["test"].lengths
    edges = quantile_edges(length_N, NUM_BUCKETS)
    bucket_N = np.searchsorted(edges, length_N, side="left")
    groups = {
        f"{length_N[bucket_N == index].min()}-{length_N[bucket_N == index].max()}": bucket_N
        == index
        for index in np.unique(bucket_N)
    }
    sizes = {name: len(split) for name, split in data.splits.items()}
    majority = float(np.bincount(data.splits["test"].label_ids).max() / len(length_N))
    return compared(answers, groups) | {
        "training": training,
        "documents": sizes,
        "majority_accuracy": majority,
        "max_tokens": settings.real.max_tokens,
    }


def trained_methods(
    study: StudySession, config: ExperimentConfig, data: "PreparedData", part: str
) -> tuple[dict[str, RepeatedAnswers], dict[str, Any]]:
    """Method -> its answers to the test documents by all seeds, and what the trainings took."""
    settings = _settings(study.config)
    answers, training = {}, {}
    for method in settings.methods:
        results = []
        for seed in settings.seeds:
            trained = with_method(config, method, seed=seed)
            if part == "real":
                trained = changed(
                    trained,
                    training__epochs=settings.real_epochs,
                    optimizer__learning_rate=settings.real_learning_rate
                    or config.optimizer.learning_rate,
                )
            results.append(study.trained(f"{part}-{method}-{seed}", trained, data))
        answers[method] = answers_of(results)
        training[method] = {
            "trainable_parameters": results[0]["trainable_parameters"],
            "tokens": [each["tokens"] for each in results],
            "loss": [each["history"][-1]["train/loss"] for each in results],
            "seconds": [each["training_seconds"] for each in results],
        }
    return answers, training


def compared(answers: Mapping[str, RepeatedAnswers], groups: Groups) -> dict[str, Any]:
    """Every method's measures by group and over all documents, and the first method minus each of
    the others.
    """
    first, *others = answers
    return {
        "by_length": {
            method: {name: _measures(each.of(chosen_N)) for name, chosen_N in groups.items()}
            for method, each in answers.items()
        },
        "overall": {method: _measures(each) for method, each in answers.items()},
        "differences": {
            other: {
                "by_length": {
                    name: _differences(answers[first].of(chosen_N), answers[other].of(chosen_N))
                    for name, chosen_N in groups.items()
                },
                "overall": _differences(answers[first], answers[other]),
                "trend": asdict(trend_per_doubling(answers[first], answers[other])),
            }
            for other in others
        },
    }


def _measures(answers: RepeatedAnswers) -> dict[str, Any]:
    estimates: dict[str, Estimate] = {
        "accuracy": answers.estimate("accuracy"),
        "nll": answers.estimate("nll"),
        "ece": answers.estimate("ece"),
    }
    return {
        **{name: asdict(estimate) for name, estimate in estimates.items()},
        "ece_if_calibrated": answers.ece_if_calibrated(),
        "documents": answers.num_documents,
        "accuracy_of_seeds": answers.correct_RN.mean(axis=1).tolist(),
    }


def _differences(first: RepeatedAnswers, other: RepeatedAnswers) -> dict[str, Any]:
    return {
        "accuracy": asdict(paired_difference(first, other, "accuracy")),
        "ece": asdict(paired_difference(first, other, "ece")),
    }


def metrics(numbers: Mapping[str, Any]) -> dict[str, float]:
    """What the tracking run shows: accuracy and ECE by method and length, and the trends."""
    shown: dict[str, float] = {}
    for part in ("needle", "real"):
        if numbers[part] is None:
            continue
        for method, groups in numbers[part]["by_length"].items():
            shown |= {
                f"{part}/{method}/{name}/{measure}": values[measure]["value"]
                for name, values in groups.items()
                for measure in ("accuracy", "ece")
            }
        shown |= {
            f"{part}/trend_against_{other}": found["trend"]["value"]
            for other, found in numbers[part]["differences"].items()
        }
    return shown


def _settings(config: ExperimentConfig) -> LengthStudyConfig:
    assert config.study.length is not None
    return config.study.length


def _all_data(config: ExperimentConfig) -> list[DataConfig]:
    real = _settings(config).real
    return [config.data] if real is None else [config.data, real]
