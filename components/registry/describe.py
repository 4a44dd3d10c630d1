"""What a person reads first in the registry: the telling line of a version, its tags, and the
descriptions around it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from components.registry.history import HistoryEntry
    from components.registry.packaging import PackageUsage

TAGGED_PARAMS = ("prefix_length", "learning_rate")
"""Params that become tags of the version."""
MOST_LABELS, LONGEST_LABEL, LONGEST_BACKBONE = 20, 60, 400
HISTORY, MOST_EVENTS, LONGEST_EVENT = "## What happened", 8, 110
CHAMPION_LINE = "Champion: version "
GAP = "&emsp;"


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
    """The telling line: the versions table shows little more than this of a description. How good,
    against what, calibrated or not; then what it is. Reads test/... metrics and params, as far as
    they are there.
    """
    accuracy = accuracy_text(metrics)
    parts = [f"Test accuracy {accuracy}" if accuracy else "Not evaluated on test data"]
    if "test/majority_accuracy" in metrics:
        parts.append(f"majority class {100 * metrics['test/majority_accuracy']:.1f}%")
    if "test/chance_accuracy" in metrics:
        parts.append(f"guessing {100 * metrics['test/chance_accuracy']:.1f}%")
    if "test_calibrated/ece" in metrics:
        parts.append(f"calibrated (ECE {metrics['test_calibrated/ece']:.3f})")
    elif accuracy:
        parts.append("not calibrated")
    if params.get("prefix_length") not in (None, 0, "0"):  # methods without a prefix have length 0
        parts.append(f"prefix length {params['prefix_length']}")
    if "learning_rate" in params:
        parts.append(f"learning rate {float(params['learning_rate']):g}")
    if "trainable_parameters" in params:
        parts.append(f"{int(params['trainable_parameters']):,} trainable parameters")
    if "backbone" in params:
        parts.append(f"on {_short(str(params['backbone']), LONGEST_BACKBONE)}")
    return ", ".join(parts) + "."


def version_tags(metrics: Mapping[str, float], params: Mapping[str, Any]) -> dict[str, str]:
    """Tags of a registered version, made from its metrics and params."""
    tags = {name: str(params[name]) for name in TAGGED_PARAMS if params.get(name) is not None}
    accuracy = accuracy_text(metrics)
    return tags | ({"test_accuracy": accuracy} if accuracy else {})


def with_line(description: str, line: str, headline: str | None) -> str:
    """A version's description with a line below its first, which becomes `headline` where one is
    given.
    """
    first, _, rest = description.partition("\n\n")
    return "\n\n".join(part for part in (headline or first, line, rest) if part)


def with_champion(description: str, said: str) -> str:
    """The first line of a version's description with what is said of the champion, right after how
    good the version itself is.
    """
    good, _, rest = description.partition("\n\n")[0].partition(", ")
    return f"{good}, {said}, {rest}" if rest else f"{good} {said}."


def model_description(
    model_name: str, labels: tuple[str, ...], backbone: str | None, usage: "PackageUsage"
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


def with_history(
    description: str, model_name: str, entries: "Sequence[HistoryEntry]", champion: str
) -> str:
    """A model's description with its champion in the first line (`champion`: the telling line of
    that version), the latest events at its end, and how to go back.
    """
    about = description.partition(HISTORY)[0].strip()
    if about.startswith(CHAMPION_LINE):
        about = about.partition("\n\n")[2]
    last = entries[-1]
    parts = [about, HISTORY, _events(entries)]
    if last.champion_after is not None:
        parts.insert(0, f"{CHAMPION_LINE}{last.champion_after}. {champion}".strip())
    before = [
        each.champion_before for each in entries if each.champion_after != each.champion_before
    ]
    if before and before[-1] is not None:
        parts.append(
            f"The champion before was version {before[-1]}. To go back: `prefixprop rollback "
            f"{model_name}`"
        )
    return "\n\n".join(parts)


def _events(entries: "Sequence[HistoryEntry]") -> str:
    rows = [
        (
            each.time.replace("T", " ").removesuffix("Z"),
            str(each.version),
            each.action.replace("_", " "),
            str(each.champion_after or "-"),
            _short(" ".join(each.reason.split()), LONGEST_EVENT),
        )
        for each in reversed(entries[-MOST_EVENTS:])
    ]
    return table(("time (UTC)", "version", "decision", "champion then", "why"), rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table. MLflow's pages set cells without a gap, so each but the last ends with
    one.
    """
    lines = [_row(head), "|---" * len(head) + "|", *map(_row, rows)]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    *others, last = (" ".join(cell.split()).replace("|", "/") for cell in cells)
    return "| " + " | ".join([*(f"{cell}{GAP}" for cell in others), last]) + " |"


def _listed(labels: tuple[str, ...]) -> str:
    """The labels in a line that leaves room for the rest of the description."""
    shown = [_short(label, LONGEST_LABEL) for label in labels]
    left = len(shown) - MOST_LABELS
    return ", ".join(shown[:MOST_LABELS]) + (f" and {left} more" if left > 0 else "")


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def experiment_description(description: str) -> str:
    """Description of the experiment: where its runs are to be found, because MLflow opens it in a
    view of traces; what it is about; how to read it.
    """
    signpost = "**Runs: choose *Model training* at the top left.**"
    guide = (
        "Each search is a run, its trials are its children (+ opens it). The menu *Views* at the "
        "top right holds tables and charts ready made: *Trials, best first*, *Learning curves*, "
        "*Cost and quality*. A search's own page says what came out; its file report.html shows "
        "that in pictures."
    )
    return "\n\n".join(part for part in (f"{signpost} {description}".strip(), guide) if part)
