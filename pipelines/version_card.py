"""The card of a registered version: what a person has to know before using it, as the description
of its page.
"""

from typing import TYPE_CHECKING, Any

from components.backbones import licence
from components.config import trial_config
from components.registry import run_tags
from components.registry.describe import headline, table
from components.tasks import task_named
from pipelines.describe import describe_quantization
from pipelines.running_search import Search
from pipelines.search_note import number
from pipelines.search_views import source_words

if TYPE_CHECKING:
    from components.jobs.summary import TrialSummary
    from components.training.outcomes import FinalEvaluation

SHORT_FINGERPRINT = 12
MOST_CLASSES = 20


def params_of(running: Search, best: "TrialSummary", final: "FinalEvaluation") -> dict[str, Any]:
    """What a version is told apart by."""
    config = running.config
    point = trial_config(config, best.point)
    return {
        "method": point.adapter.method,
        "prefix_length": point.adapter.prefix_length,
        "learning_rate": point.optimizer.learning_rate,
        "trainable_parameters": final.trainable_parameters,
        "backbone": config.backbone.name_or_path,
        "max_tokens": config.data.max_tokens,
    }


def facts_of(running: Search, best: "TrialSummary") -> dict[str, str]:
    """Where it came from, as tags."""
    fingerprint = running.data.fingerprint
    return run_tags(
        config_sha256=best.config_sha256,
        data_fingerprint=fingerprint,
        search_id=running.folder.search_id,
        data=fingerprint[:SHORT_FINGERPRINT],
    )


def headline_of(running: Search, best: "TrialSummary", final: "FinalEvaluation") -> str:
    """The first line: how good, against what, calibrated or not."""
    return headline(final.metrics, params_of(running, best, final))


def version_card(running: Search, best: "TrialSummary", final: "FinalEvaluation") -> str:
    """Markdown below the first line."""
    config = running.config
    rows = {
        "task": _task(running),
        "documents": _documents(running),
        "calibration": _calibration(final),
        "parameters": _size(final),
        "answers": _latency(running, final),
        "backbone": _backbone(running),
        "limits": _limits(running),
    }
    uri = f"models:/{config.model_name}@champion"
    frame = task_named(config.data.task).usage.frame
    return "\n\n".join(
        part
        for part in (
            config.description,
            table(("", ""), ((name, text) for name, text in rows.items() if text)),
            _metrics(final),
            "```python\nimport mlflow, pandas\n"
            f'model = mlflow.pyfunc.load_model("{uri}")\n'
            f"model.predict(pandas.DataFrame({frame}))\n```",
        )
        if part
    )


def _task(running: Search) -> str:
    task, labels = task_named(running.config.data.task), running.data.labels
    shown = ", ".join(f"`{label}`" for label in labels[:MOST_CLASSES])
    more = f" and {len(labels) - MOST_CLASSES} more" if len(labels) > MOST_CLASSES else ""
    return (
        f"{task.usage.purpose}: {len(labels)} classes ({shown}{more})"
        if labels
        else (task.usage.purpose)
    )


def _documents(running: Search) -> str:
    report, config = running.data.report, running.config.data
    sizes = ", ".join(f"{part.documents:,} {name}" for name, part in report.splits.items())
    train = report.splits["train"]
    return (
        f"{source_words(config)}: {sizes}; median {train.median_tokens:,} tokens, "
        f"{train.share_of_tokens_cut:.0%} of the training tokens cut off; fingerprint "
        f"`{running.data.fingerprint[:SHORT_FINGERPRINT]}`"
    )


def _calibration(final: "FinalEvaluation") -> str:
    if "temperature" not in final.calibration:
        return "none"
    before, after = final.metrics.get("test/ece"), final.metrics.get("test_calibrated/ece")
    text = f"temperature {final.calibration['temperature']:.3g}, fitted on validation documents"
    if before is not None and after is not None:
        text += f"; ECE on test documents {before:.3f} before, {after:.3f} after"
    return text


def _size(final: "FinalEvaluation") -> str:
    size = sum(path.stat().st_size for path in final.folder.rglob("*") if path.is_file())
    return (
        f"{final.trainable_parameters:,} trained ({final.head_parameters:,} of them the head's); "
        f"{size / 1e6:.1f} MB on disk"
    )


def _latency(running: Search, final: "FinalEvaluation") -> str:
    if final.seconds_per_document is None:
        return ""
    where = "GPU" if running.config.cluster.gpus_per_worker else "CPU"
    return (
        f"{1000 * final.seconds_per_document:.3g} ms a test document, in batches on "
        f"{running.config.cluster.num_workers} {where} worker(s)"
    )


def _backbone(running: Search) -> str:
    backbone = running.config.backbone
    terms = licence(backbone) or "not stated beside its weights"
    revision = backbone.revision or "not pinned"
    return (
        f"`{backbone.name_or_path}` (family {backbone.family}, revision "
        f"{revision}, licence {terms}), "
        f"frozen{describe_quantization(backbone)} and not part of this model"
    )


def _limits(running: Search) -> str:
    tokens = running.config.data.max_tokens
    classes = "answers one of its classes, whatever it is given; " if running.data.labels else ""
    return f"{classes}documents are cut at {tokens:,} tokens"


def _metrics(final: "FinalEvaluation") -> str:
    """Every test metric, calibrated ones beside those of temperature 1."""
    names = [name.partition("/")[2] for name in final.metrics if name.startswith("test/")]
    rows = [
        (
            name,
            number(final.metrics[f"test/{name}"]),
            number(final.metrics.get(f"test_calibrated/{name}")),
        )
        for name in names
    ]
    return table(("test metric", "value", "calibrated"), rows)
