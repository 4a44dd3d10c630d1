"""The kernel study: how much attention does the prefix get as documents grow, and does a prefix
outside the softmax do the same work?

train the softmax methods, their kernel-decomposed forms and the head alone -> the prefix's share of
attention, before and after training -> the trained softmax prefixes put into the decomposition.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from components.backbones import check_positions, family_named, inspect_backbone
from components.config import ExperimentConfig, TrainConfig
from components.config.study import KernelStudyConfig
from components.errors import ConfigError, DataError
from pipelines.research.studies.measurements import Measured
from pipelines.research.studies.study import StudyOutcome
from pipelines.research.studies.study_session import StudySession, answers_of, with_method

if TYPE_CHECKING:
    from components.data import PreparedData, TokenizedSplit

SOFTMAX = ("prefix_tuning", "prefix_propagation")
DECOMPOSED = {"prefix_tuning": "kernel_prefix", "prefix_propagation": "kernel_propagation"}
CONTROL = "head_only"
STATES = ("initial", "trained")


def check(config: ExperimentConfig) -> None:
    """Refuse what cannot work before any weight is read. Raises ConfigError or BackboneError."""
    if config.backbone.family != "longformer":
        raise ConfigError(
            "backbone.family: the kernel study looks into longformer backbones, got "
            f"{config.backbone.family}"
        )
    longest, values = max(_settings(config).mass_lengths), inspect_backbone(config.backbone)
    check_positions(
        family_named(config.backbone.family),
        values,
        max_tokens=longest,
        prefix_length=config.adapter.prefix_length,
    )


def run(study: StudySession) -> StudyOutcome:
    """All measurements, then figures and findings."""
    from pipelines.research.studies.kernel_figures import figures
    from pipelines.research.studies.kernel_findings import findings

    settings = _settings(study.config)
    data = study.data(study.config.data)
    long = study.data(
        study.config.data.model_copy(update={"max_tokens": max(settings.mass_lengths)})
    )
    numbers = {
        "documents": {name: len(split) for name, split in data.splits.items()},
        "max_tokens": study.config.data.max_tokens,
        "prefix_length": study.config.adapter.prefix_length,
        "attention_window": max(study.session.backbone.config.attention_window),
        "seeds": list(settings.seeds),
        "variants": train_variants(study, data),
        "mass": {
            f"{method}/{state}": measure_mass(study, data, long, method, state)
            for method in SOFTMAX
            for state in STATES
        },
        "closeness": {method: measure_closeness(study, data, method) for method in SOFTMAX},
    }
    return StudyOutcome(findings(numbers), figures(numbers), numbers, metrics(numbers))


def train_variants(study: StudySession, data: "PreparedData") -> dict[str, dict[str, Any]]:
    """Variant -> its trainings' measures on the test documents, beside its softmax counterpart's.
    Equal budget: the same documents, steps, learning rate and prefix length.
    """
    settings = _settings(study.config)
    plan: dict[str, tuple[str, dict[str, Any], str | None]] = {
        method: (method, {}, None) for method in SOFTMAX
    }
    for softmax, method in DECOMPOSED.items():
        plan |= {
            f"{method}, {kernel}": (method, {"kernel": kernel}, softmax)
            for kernel in settings.kernels
        }
    plan[CONTROL] = (CONTROL, {}, None)
    trained: dict[str, list[Measured]] = {}
    for name, (method, further, _) in plan.items():
        configs = {
            seed: with_method(study.config, method, seed=seed, **further) for seed in settings.seeds
        }
        trained[name] = [
            study.trained(_training_name(name, seed), config, data)
            for seed, config in configs.items()
        ]
    return {name: _measured(trained, name, softmax) for name, (_, _, softmax) in plan.items()}


def _measured(
    trained: Mapping[str, list[Measured]], name: str, softmax: str | None
) -> dict[str, Any]:
    from components.evaluation.repeated import paired_difference

    answers = answers_of(trained[name])
    measured: dict[str, Any] = {
        measure: asdict(answers.estimate(measure)) for measure in ("accuracy", "nll", "ece")
    }
    measured |= {
        "ece_if_calibrated": answers.ece_if_calibrated(),
        "accuracy_of_seeds": answers.correct_RN.mean(axis=1).tolist(),
        "trainable_parameters": trained[name][0]["trainable_parameters"],
        "training_tokens": [each["tokens"] for each in trained[name]],
        "training_seconds": [each["training_seconds"] for each in trained[name]],
        "training_loss": [each["history"][-1]["train/loss"] for each in trained[name]],
        "alpha": [each["alpha"] for each in trained[name]]
        if trained[name][0]["alpha"] is not None
        else None,
        "softmax_counterpart": softmax,
    }
    if softmax is not None:
        theirs = answers_of(trained[softmax])
        measured["minus_softmax"] = {
            measure: asdict(paired_difference(answers, theirs, measure))
            for measure in ("accuracy", "nll", "ece")
        }
    return measured


def measure_mass(
    study: StudySession, data: "PreparedData", long: "PreparedData", method: str, state: str
) -> Measured:
    """Length -> shares of every measured document, layer and head, of the first seed's adapter."""
    from components.adapters.attention_mass import mass_by_length

    settings = _settings(study.config)
    config = with_method(study.config, method, seed=settings.seeds[0])
    documents = _long_documents(
        long.splits["test"], max(settings.mass_lengths), settings.mass_documents
    )

    def measure() -> Mapping[str, Any]:
        with study.model(
            config,
            data,
            trained=_training_name(method, config.seed) if state == "trained" else None,
        ) as model:
            found = mass_by_length(model, documents, settings.mass_lengths)
        return {
            str(length): {
                name: None if part is None else part.tolist() for name, part in asdict(mass).items()
            }
            for length, mass in found.items()
        }

    return study.measurements.get(
        f"mass-{method}-{state}", _key(study, config, data) | {"long": long.fingerprint}, measure
    )


def _long_documents(split: "TokenizedSplit", tokens: int, count: int) -> list[list[int]]:
    """Token ids of the first documents that are long enough."""
    rows = np.flatnonzero(split.lengths >= tokens)[:count]
    if not len(rows):
        raise DataError(
            f"data: no test document has {tokens} tokens (the longest has {split.lengths.max()}); "
            "lower study.kernel.mass_lengths or take longer documents"
        )
    return [split.input_ids(int(row)).tolist() for row in rows]


def measure_closeness(study: StudySession, data: "PreparedData", method: str) -> Measured:
    """Fitted alphas of the first seed's softmax adapter, and how far every form's test answers are
    from its own.
    """
    from components.adapters.decomposition import fit_alphas, logits_of_forms
    from components.data import collate, evaluation_batches, stratified_subset

    settings = _settings(study.config)
    config = with_method(study.config, method, seed=settings.seeds[0])

    def batches(split: "TokenizedSplit", rows: Any) -> list[Any]:
        chosen = evaluation_batches(
            split.lengths[rows],
            world_size=1,
            rank=0,
            micro_batch_size=config.training.micro_batch_size,
        )
        return [
            collate(split, rows[each], pad_token_id=study.session.pad_token_id) for each in chosen
        ]

    def measure() -> Mapping[str, Any]:
        train, test = data.splits["train"], data.splits["test"]
        of_train = batches(
            train,
            stratified_subset(train.label_ids, settings.alpha_documents, config.data.split_seed),
        )
        of_test = batches(test, np.arange(len(test)))
        with study.model(config, data, trained=_training_name(method, config.seed)) as model:
            fits = fit_alphas(model, of_train)
            logits = logits_of_forms(model, fits, of_test)
        labels = [label for batch in of_test for label in batch["labels"].tolist()]
        return {
            "fits": {form: asdict(fit) for form, fit in fits.items()},
            "forms": {
                form: _compared(logits["softmax"].numpy(), values.numpy(), np.asarray(labels))
                for form, values in logits.items()
            },
        }

    return study.measurements.get(f"closeness-{method}", _key(study, config, data), measure)


def _compared(softmax_NC: Any, other_NC: Any, label_ids_N: Any) -> dict[str, float]:
    from components.evaluation import classification_metrics, softmax
    from components.evaluation.agreement import agreement

    quality = classification_metrics(softmax(other_NC), label_ids_N)
    return asdict(agreement(softmax_NC, other_NC)) | {
        name: quality[name] for name in ("accuracy", "nll", "ece")
    }


def metrics(numbers: Mapping[str, Any]) -> dict[str, float]:
    """What the tracking run shows: test accuracy and ECE of every variant, and the agreement of the
    additive form.
    """
    shown = {}
    for name, variant in numbers["variants"].items():
        for measure in ("accuracy", "nll", "ece"):
            shown[f"{name.replace(', ', '_')}/{measure}"] = variant[measure]["value"]
    return shown | {
        f"{method}/additive_agreement": each["forms"]["additive"]["same_answers"]
        for method, each in numbers["closeness"].items()
    }


def _settings(config: ExperimentConfig) -> KernelStudyConfig:
    assert config.study.kernel is not None
    return config.study.kernel


def _key(study: StudySession, config: TrainConfig, data: "PreparedData") -> dict[str, Any]:
    return study.key(config, data) | {
        "study": _settings(study.config).model_dump(mode="json", exclude={"kernels", "seeds"})
    }


def _training_name(variant: str, seed: int) -> str:
    return f"{variant.replace(', ', '-')}-{seed}"
