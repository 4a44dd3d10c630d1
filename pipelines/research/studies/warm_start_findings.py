"""The text of the study of warm starts: every sentence follows from the numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.research.studies.text import markdown_table, signed

MEASURES = ("accuracy", "nll")


def findings(numbers: Mapping[str, Any]) -> str:
    """Markdown."""
    seeds = numbers["seeds"]
    documents = next(iter(seeds.values()))["documents"]
    arms = list(next(iter(seeds.values()))["arms"])
    parts = [
        "# Warm starts: how soon is the champion's quality reached again?",
        f"{documents['old']} old training documents of at most {numbers['max_tokens']} tokens, "
        f"{documents['all']} with the new ones; {documents['validation']} validation documents "
        f"and {documents['test']} for test, the same for all. Prefix of "
        f"{numbers['prefix_length']} positions, learning rate {numbers['learning_rate']:g}, "
        f"{numbers['epochs']} epochs, seeds {', '.join(seeds)}; each seed draws which documents "
        "are new, and trains its own champion. `warm xF` starts from the champion's values at F "
        "times the learning rate, `cold` as drawn.",
        "The champion's quality is that of its best evaluation by "
        f"{numbers['metric']}, the best of several and so a little lucky. A warm training has it "
        "before its first step; what counts is the first evaluation after one (first), and the one "
        "from which on it was never lost again (lasting).",
        "## Answer",
        "\n".join(_answer(seeds, name, measure) for name in arms for measure in MEASURES),
        "## By seed",
        _table(seeds, arms),
        "![warm and cold](warm_and_cold.png)",
        "Test documents, seeds averaged; intervals at 95% over documents, the chance of other "
        "seeds not in them (a star: the interval excludes 0):",
        _differences(numbers),
    ]
    if numbers["shorter_length"] is not None:
        parts += [
            "## A shorter prefix",
            f"The champion's prefix cut to {numbers['shorter_length']} rows, not trained further: "
            "the first ones, those of the largest norm over all layers, and as a control those of "
            "the smallest. On the validation documents:",
            _cuts(seeds),
        ]
    return "\n\n".join(parts) + "\n"


def _answer(seeds: Mapping[str, Any], name: str, measure: str) -> str:
    """When an arm was as good as the champion."""
    found = [each["arms"][name] for each in seeds.values()]
    first = [each["reached"][measure]["first"] for each in found]
    lasting = [each["reached"][measure]["lasting"] for each in found]
    budget = max(each["curve"][-1]["tokens"] for each in found)
    return (
        f"* {name}, {measure}: first after {_listed(first)} tokens, lasting from "
        f"{_listed(lasting)} (of {budget:,.0f})."
    )


def _listed(tokens: Sequence[float | None]) -> str:
    return ", ".join("never" if each is None else f"{each:,.0f}" for each in tokens)


def _table(seeds: Mapping[str, Any], arms: Sequence[str]) -> str:
    rows = []
    for seed, found in seeds.items():
        champion = found["champion"]
        rows.append([seed, "champion", "", *_pair(champion["best"]), *_pair(champion["test"])])
        for name in arms:
            arm = found["arms"][name]
            lowest = min(point["accuracy"] for point in arm["curve"])
            rows.append([seed, name, f"{lowest:.3f}", *_pair(arm["best"]), *_pair(arm["test"])])
    head = ["seed", "training", "lowest accuracy on the way", "accuracy of the best evaluation"]
    return markdown_table([*head, "its NLL", "its test accuracy", "its test NLL"], rows)


def _pair(values: Mapping[str, float]) -> list[str]:
    return [f"{values['accuracy']:.3f}", f"{values['nll']:.3f}"]


def _differences(numbers: Mapping[str, Any]) -> str:
    rows = [
        [f"{name} minus cold", signed(each["accuracy"]), signed(each["nll"])]
        for name, each in numbers["differences"].items()
    ]
    return markdown_table(["difference", "accuracy", "NLL, nats"], rows)


def _cuts(seeds: Mapping[str, Any]) -> str:
    """Quality of the cut champions before any training."""
    kept = {"whole": [each["champion"]["best"] for each in seeds.values()]}
    kept |= {
        way: [each["cut"][way] for each in seeds.values()]
        for way in next(iter(seeds.values()))["cut"]
    }
    rows = []
    for way, starts in kept.items():
        of_seeds = (", ".join(f"{start[name]:.3f}" for start in starts) for name in MEASURES)
        means = (f"{np.mean([start[name] for start in starts]):.3f}" for name in MEASURES)
        rows.append([way, *of_seeds, *means])
    return markdown_table(
        ["rows kept", "accuracy by seed", "NLL by seed", "mean accuracy", "mean NLL"], rows
    )
