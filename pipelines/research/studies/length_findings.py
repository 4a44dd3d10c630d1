"""The text of the length study: every sentence follows from the numbers, and says where an interval
leaves the question open.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipelines.research.studies.text import interval, markdown_table, signed


def findings(numbers: Mapping[str, Any]) -> str:
    """Markdown."""
    task, first = numbers["task"], numbers["methods"][0]
    parts = [
        "# Length study: does the prefix's advantage grow with document length?",
        f"Prefix of {numbers['prefix_length']} positions; seeds "
        f"{', '.join(map(str, numbers['seeds']))}. Intervals are at 95%, over test documents with "
        "the seeds' answers averaged; the chance of drawing other "
        "seeds or other training documents is not in them. Confidences are as trained, without "
        "temperature; `ECE if calibrated` is what the number of documents alone puts into an ECE.",
        "## Answer",
        _answer(numbers),
        "## Needle task",
        f"{task['labels']} labels; a needle of {task['sentences']} sentence(s), "
        f"{task['distractors']} distractors of the same form; trained on {task['train_documents']} "
        "documents of "
        f"{' and '.join(f'{length:,}' for length in numbers['training_lengths'])} tokens. Always "
        f"answering the most frequent label gives {numbers['needle']['majority_accuracy']:.3f}.",
        _learnt(numbers),
        _table(numbers["needle"], numbers["methods"]),
        "![needle task by length](needle_by_length.png)",
        "Accuracy by depth of the needle (0 is the start, 1 the end), all lengths:",
        _depth_table(numbers),
        "![needle task by depth](needle_by_depth.png)",
        (
            f"Accuracy and ECE of {first} minus the others, on the same documents (a star: the "
            "interval excludes 0):"
        ),
        _difference_table(numbers["needle"]),
        "![differences](difference_by_length.png)",
    ]
    real = numbers["real"]
    if real is not None:
        sizes = real["documents"]
        parts += [
            "## Real documents",
            f"{sizes['train']} training, {sizes['validation']} validation and {sizes['test']} test "
            f"documents of at most {real['max_tokens']:,} tokens; always answering the most "
            "frequent label gives "
            f"{real['majority_accuracy']:.3f}. Buckets hold equally many test documents.",
            _table(real, numbers["methods"]),
            "![real documents by length](real_by_length.png)",
            f"{first} minus the others:",
            _difference_table(real),
        ]
    return "\n\n".join(parts) + "\n"


def _answer(numbers: Mapping[str, Any]) -> str:
    first, lines = numbers["methods"][0], []
    for part, name in (("needle", "the needle task"), ("real", "the real documents")):
        if numbers[part] is None:
            continue
        for other, found in numbers[part]["differences"].items():
            trend, overall = found["trend"], found["overall"]["accuracy"]
            if trend["low"] > 0:
                verdict = "grows with length"
            elif trend["high"] < 0:
                verdict = "shrinks with length"
            else:
                verdict = "shows no trend with length that the interval separates from 0"
            lines.append(
                f"* On {name} the advantage of {first} over {other} in accuracy {verdict}: "
                f"{signed(trend)} per doubling of length; over all lengths it is "
                f"{signed(overall)}."
            )
    return "\n".join(lines)


def _learnt(numbers: Mapping[str, Any]) -> str:
    """Which methods learnt the task at all: without that, differences by length say nothing."""
    lines, chance = [], numbers["needle"]["majority_accuracy"]
    for method in numbers["methods"]:
        accuracy, training = (
            numbers["needle"]["overall"][method],
            numbers["needle"]["training"][method],
        )
        verdict = "above" if accuracy["accuracy"]["low"] > chance else "NOT distinguishable from"
        lines.append(
            f"* {method}: {verdict} chance over all lengths, {interval(accuracy['accuracy'])}, by "
            f"seed {', '.join(f'{share:.3f}' for share in accuracy['accuracy_of_seeds'])}; "
            f"{training['trainable_parameters']:,} trained parameters, last training loss "
            f"{np.mean(training['loss']):.3f} nats."
        )
    return "\n".join(lines)


def _table(part: Mapping[str, Any], methods: list[str]) -> str:
    rows = []
    for method in methods:
        for group, values in part["by_length"][method].items():
            estimates = [interval(values[measure]) for measure in ("accuracy", "nll", "ece")]
            rows.append(
                [
                    method,
                    group,
                    str(values["documents"]),
                    *estimates,
                    f"{values['ece_if_calibrated']:.3f}",
                ]
            )
    return markdown_table(
        ["method", "tokens", "documents", "accuracy", "NLL, nats", "ECE", "ECE if calibrated"], rows
    )


def _depth_table(numbers: Mapping[str, Any]) -> str:
    found = numbers["needle"]["by_depth"]
    depths = list(found[numbers["methods"][0]])
    return markdown_table(
        ["method", *depths],
        [
            [method, *(interval(found[method][depth]) for depth in depths)]
            for method in numbers["methods"]
        ],
    )


def _difference_table(part: Mapping[str, Any]) -> str:
    rows = []
    for other, found in part["differences"].items():
        for group, values in found["by_length"].items():
            rows.append(
                [f"minus {other}", group, signed(values["accuracy"]), signed(values["ece"])]
            )
        rows.append(
            [
                f"minus {other}",
                "all",
                signed(found["overall"]["accuracy"]),
                signed(found["overall"]["ece"]),
            ]
        )
    return markdown_table(["difference", "tokens", "accuracy", "ECE"], rows)
