"""What a person reads first in the registry: the telling line of a version, its tags, and the
descriptions around it.
"""

from collections.abc import Mapping
from typing import Any

from components.registry.packaging import PackageUsage

# Params that become tags of the version.
TAGGED_PARAMS = (
    "backbone",
    "method",
    "prefix_length",
    "learning_rate",
    "trainable_parameters",
    "max_tokens",
)
MOST_LABELS, LONGEST_LABEL, LONGEST_BACKBONE = 20, 60, 400


def accuracy_text(metrics: Mapping[str, float]) -> str | None:
    """`84.2% (95% interval 78.1 to 88.9)` from test/accuracy, test/accuracy_low and
    test/accuracy_high; None where no test accuracy is known.
    """
    if "test/accuracy" not in metrics:
        return None
    text = f"{100 * metrics['test/accuracy']:.1f}%"
    if {"test/accuracy_low", "test/accuracy_high"} <= metrics.keys():
        text += (
            f" (95% interval {100 * metrics['test/accuracy_low']:.1f} to "
            f"{100 * metrics['test/accuracy_high']:.1f})"
        )
    return text


def headline(metrics: Mapping[str, float], params: Mapping[str, Any]) -> str:
    """The telling line: the versions table shows little more than this of a description. Reads
    test/* metrics and the params of TAGGED_PARAMS, as far as they are there.
    """
    accuracy = accuracy_text(metrics)
    parts = [f"Test accuracy {accuracy}" if accuracy else "Not evaluated on test data"]
    if "test/majority_accuracy" in metrics:
        parts.append(f"majority class {100 * metrics['test/majority_accuracy']:.1f}%")
    if "test/chance_accuracy" in metrics:
        parts.append(f"guessing {100 * metrics['test/chance_accuracy']:.1f}%")
    if params.get("prefix_length") not in (None, 0, "0"):  # methods without a prefix have length 0
        parts.append(f"prefix length {params['prefix_length']}")
    if "learning_rate" in params:
        parts.append(f"learning rate {float(params['learning_rate']):g}")
    if "trainable_parameters" in params:
        parts.append(f"{int(params['trainable_parameters']):,} trainable parameters")
    if "backbone" in params:
        parts.append(f"on {params['backbone']}")
    return ", ".join(parts) + "."


def version_tags(metrics: Mapping[str, float], params: Mapping[str, Any]) -> dict[str, str]:
    """Tags of a registered version, made from its metrics and params."""
    tags = {name: str(params[name]) for name in TAGGED_PARAMS if params.get(name) is not None}
    accuracy = accuracy_text(metrics)
    return tags | ({"test_accuracy": accuracy} if accuracy else {})


def model_description(
    model_name: str, labels: tuple[str, ...], backbone: str | None, usage: PackageUsage
) -> str:
    """Description of the registered model: what its versions are and how to use one."""
    purpose = usage.purpose + (f" into {_listed(labels)}" if labels else "")
    return (
        f"Adapters that {purpose}; every version is a small set of trained tensors on the frozen "
        f"backbone {_short(backbone or 'named in adapter_config.json', LONGEST_BACKBONE)}.\n\n"
        "Alias `champion` is the version in use, `challenger` the latest candidate.\n\n"
        "    "
        f'mlflow.pyfunc.load_model("models:/{model_name}@champion")'
        f".predict(pandas.DataFrame({usage.frame}))\n\n"
        f"    prefixprop predict --model models:/{model_name}@champion --input {usage.file} "
        "--output "
        "answers.jsonl\n\n"
        "The plain tensors (safetensors and JSON, no code) lie under `artifacts/adapter` of each "
        "version."
    )


def _listed(labels: tuple[str, ...]) -> str:
    """The labels in a line that leaves room for the rest of the description."""
    shown = [_short(label, LONGEST_LABEL) for label in labels]
    left = len(shown) - MOST_LABELS
    return ", ".join(shown[:MOST_LABELS]) + (f" and {left} more" if left > 0 else "")


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def experiment_description(description: str) -> str:
    """Description of the experiment: what it is about, then how to read its runs."""
    guide = (
        "Each parent run is one search, its children are the trials: open the parent with + or "
        "filter by `tags.kind = 'trial'`. The tags `outcome` and `outcome_reason` say how a "
        "trial ended; `config.json` and `environment.json` hold everything needed to repeat it. "
        "Curves over training cost: plot a metric against the metric `tokens`."
    )
    return "\n\n".join(part for part in (description, guide) if part)
