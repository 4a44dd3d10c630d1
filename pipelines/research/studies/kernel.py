"""The kernel study: how much attention does the prefix get as documents grow, and does a prefix
outside the softmax do the same work?

train the softmax methods, their kernel-decomposed forms and the head alone -> the prefix's share of
attention, before and after training -> the trained softmax prefixes put into the decomposition.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from components.backbones import check_positions, family_named, read_backbone_config
from components.config import ExperimentConfig, TrainConfig
from components.config.study import KernelStudyConfig
from components.errors import ConfigError, DataError
from pipelines.research.studies.cells import Cell
from pipelines.research.studies.lab import Lab, answers_of, with_method
from pipelines.research.studies.study import StudyOutcome

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
    longest, values = max(_settings(config).mass_lengths), read_backbone_config(config.backbone)
    check_positions(
        family_named(config.backbone.family),
        values,
        max_tokens=longest,
        prefix_length=config.adapter.prefix_length,
    )


def run(lab: Lab) -> StudyOutcome:
    """All measurements, then figures and findings."""
    from pipelines.research.studies.kernel_figures import figures
    from pipelines.research.studies.kernel_findings import findings

    settings = _settings(lab.config)
    data = lab.data(lab.config.data)
    long = lab.data(lab.config.data.model_copy(update={"max_tokens": max(settings.mass_lengths)}))
    numbers = {
        "documents": {name: len(split) for name, split in data.splits.items()},
        "max_tokens": lab.config.data.max_tokens,
        "prefix_length": lab.config.adapter.prefix_length,
        "attention_window": max(lab.session.backbone.config.attention_window),
        "seeds": list(settings.seeds),
        "variants": train_variants(lab, data),
        "mass": {
            f"{method}/{state}": measure_mass(lab, data, long, method, state)
            for method in SOFTMAX
            for state in STATES
        },
        "closeness": {method: measure_closeness(lab, data, method) for method in SOFTMAX},
    }
    return StudyOutcome(findings(numbers), figures(numbers), numbers, metrics(numbers))


def train_variants(lab: Lab, data: "PreparedData") -> dict[str, dict[str, Any]]:
    """Variant -> its trainings' measures on the test documents, beside its softmax counterpart's.
    Equal budget: the same documents, steps, learning rate and prefix length.
    """
    settings = _settings(lab.config)
    plan: dict[str, tuple[str, dict[str, Any], str | None]] = {
        method: (method, {}, None) for method in SOFTMAX
    }
    for softmax, method in DECOMPOSED.items():
        plan |= {
            f"{method}, {kernel}": (method, {"kernel": kernel}, softmax)
            for kernel in settings.kernels
        }
    plan[CONTROL] = (CONTROL, {}, None)
    cells: dict[str, list[Cell]] = {}
    for name, (method, further, _) in plan.items():
        configs = {
            seed: with_method(lab.config, method, seed=seed, **further) for seed in settings.seeds
        }
        cells[name] = [
            lab.trained(_cell_name(name, seed), config, data) for seed, config in configs.items()
        ]
    return {name: _measured(cells, name, softmax) for name, (_, _, softmax) in plan.items()}


def _measured(cells: Mapping[str, list[Cell]], name: str, softmax: str | None) -> dict[str, Any]:
    from components.evaluation.repeated import paired_difference

    answers = answers_of(cells[name])
    measured: dict[str, Any] = {
        measure: asdict(answers.estimate(measure)) for measure in ("accuracy", "nll", "ece")
    }
    measured |= {
        "ece_if_calibrated": answers.ece_if_calibrated(),
        "accuracy_of_seeds": answers.correct_RN.mean(axis=1).tolist(),
        "trainable_parameters": cells[name][0]["trainable_parameters"],
        "training_tokens": [cell["tokens"] for cell in cells[name]],
        "training_seconds": [cell["training_seconds"] for cell in cells[name]],
        "training_loss": [cell["history"][-1]["train/loss"] for cell in cells[name]],
        "alpha": [cell["alpha"] for cell in cells[name]]
        if cells[name][0]["alpha"] is not None
        else None,
        "softmax_counterpart": softmax,
    }
    if softmax is not None:
        theirs = answers_of(cells[softmax])
        measured["minus_softmax"] = {
            measure: asdict(paired_difference(answers, theirs, measure))
            for measure in ("accuracy", "nll", "ece")
        }
    return measured


def measure_mass(
    lab: Lab, data: "PreparedData", long: "PreparedData", method: str, state: str
) -> Cell:
    """Length -> shares of every measured document, layer and head, of the first seed's adapter."""
    from components.adapters.attention_mass import mass_by_length

    settings = _settings(lab.config)
    config = with_method(lab.config, method, seed=settings.seeds[0])
    documents = _long_documents(
        long.splits["test"], max(settings.mass_lengths), settings.mass_documents
    )

    def measure() -> Mapping[str, Any]:
        with lab.model(
            config, data, trained=_cell_name(method, config.seed) if state == "trained" else None
        ) as model:
            found = mass_by_length(model, documents, settings.mass_lengths)
        return {
            str(length): {
                name: None if part is None else part.tolist() for name, part in asdict(mass).items()
            }
            for length, mass in found.items()
        }

    return lab.cells.get(
        f"mass-{method}-{state}", _key(lab, config, data) | {"long": long.fingerprint}, measure
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


def measure_closeness(lab: Lab, data: "PreparedData", method: str) -> Cell:
    """Fitted alphas of the first seed's softmax adapter, and how far every form's test answers are
    from its own.
    """
    from components.adapters.decomposition import fit_alphas, logits_of_forms
    from components.data import collate, evaluation_batches, stratified_subset

    settings = _settings(lab.config)
    config = with_method(lab.config, method, seed=settings.seeds[0])

    def batches(split: "TokenizedSplit", rows: Any) -> list[Any]:
        chosen = evaluation_batches(
            split.lengths[rows],
            world_size=1,
            rank=0,
            micro_batch_size=config.training.micro_batch_size,
        )
        return [
            collate(split, rows[each], pad_token_id=lab.session.pad_token_id) for each in chosen
        ]

    def measure() -> Mapping[str, Any]:
        train, test = data.splits["train"], data.splits["test"]
        of_train = batches(
            train,
            stratified_subset(train.label_ids, settings.alpha_documents, config.data.split_seed),
        )
        of_test = batches(test, np.arange(len(test)))
        with lab.model(config, data, trained=_cell_name(method, config.seed)) as model:
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

    return lab.cells.get(f"closeness-{method}", _key(lab, config, data), measure)


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
        f"{method}/additive_agreement": cell["forms"]["additive"]["same_answers"]
        for method, cell in numbers["closeness"].items()
    }


def _settings(config: ExperimentConfig) -> KernelStudyConfig:
    assert config.study.kernel is not None
    return config.study.kernel


def _key(lab: Lab, config: TrainConfig, data: "PreparedData") -> dict[str, Any]:
    return lab.key(config, data) | {
        "study": _settings(lab.config).model_dump(mode="json", exclude={"kernels", "seeds"})
    }


def _cell_name(variant: str, seed: int) -> str:
    return f"{variant.replace(', ', '-')}-{seed}"
