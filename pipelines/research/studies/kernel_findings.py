"""The text of the kernel study: every sentence follows from the numbers, and says where an interval
leaves a question open.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.research.studies.kernel_figures import NAMES, ROWS, lengths_of, uniform_share
from pipelines.research.studies.text import interval, markdown_table, signed

STATES = ("initial", "trained")


def findings(numbers: Mapping[str, Any]) -> str:
    """Markdown."""
    documents = numbers["documents"]
    parts = [
        "# Kernel study: how much attention the prefix gets, and a prefix outside the softmax",
        f"Prefix of {numbers['prefix_length']} positions, window of {numbers['attention_window']} "
        f"tokens. Adapters are trained on {documents['train']} documents of at most "
        f"{numbers['max_tokens']:,} tokens and tested on {documents['test']}, seeds "
        f"{', '.join(map(str, numbers['seeds']))}. Intervals are at 95%, over test documents; the "
        "chance of "
        "drawing other seeds or other training documents is not in them. Confidences are as "
        "trained, without temperature.",
        "## 1. The prefix's share of attention",
        (
            "Z_prefix / (Z_prefix + Z_text), exact, averaged over rows, layers, heads and "
            "documents; `exponent` is the slope of log(share) over log(tokens): -1 means that "
            "twice the document halves the share."
        ),
        _mass_table(numbers),
        _mass_text(numbers),
        (
            "![share of attention by length](mass_by_length.png)\n\n![share of attention by layer "
            "and head](mass_by_head.png)"
        ),
        "## 2. Kernel-decomposed prefixes beside softmax, equal budget",
        _variant_table(numbers["variants"]),
        _variant_text(numbers["variants"]),
        "![variants](variants.png)",
        "## 3. The trained softmax prefix in the decomposition",
        "The softmax adapter's own prefix, with one alpha per layer fitted to its attention "
        "outputs on training documents; `effect reproduced` is 1 - |softmax - form|^2 / |softmax - "
        "text|^2 over "
        "attention outputs, by layer; the difference of logits is relative to their spread over "
        "documents.",
        _closeness_table(numbers["closeness"]),
        _closeness_text(numbers["closeness"]),
        "![decomposition](decomposition.png)",
    ]
    return "\n\n".join(parts) + "\n"


def _mass_table(numbers: Mapping[str, Any]) -> str:
    lengths = lengths_of(numbers["mass"])
    rows = []
    for kind, title in ROWS.items():
        for name, shares in numbers["mass"].items():
            means = _means(shares, kind, lengths)
            rows.append(
                [
                    title,
                    name.replace("/", ", "),
                    *(f"{mean:.4f}" for mean in means),
                    f"{_exponent(lengths, means):.2f}",
                ]
            )
        uniform = [uniform_share(numbers, kind, length) for length in lengths]
        rows.append(
            [
                title,
                "uniform attention",
                *(f"{share:.4f}" for share in uniform),
                f"{_exponent(lengths, uniform):.2f}",
            ]
        )
    for name, shares in numbers["mass"].items():
        if shares[str(lengths[0])]["prefix_BLH"] is not None:
            means = _means(shares, "prefix", lengths)
            rows.append(
                [
                    "prefix rows themselves",
                    name.replace("/", ", "),
                    *(f"{mean:.4f}" for mean in means),
                    f"{_exponent(lengths, means):.2f}",
                ]
            )
    return markdown_table(
        ["rows", "adapter", *(f"{length:,} tokens" for length in lengths), "exponent"], rows
    )


def _means(shares: Mapping[str, Any], kind: str, lengths: Sequence[int]) -> list[float]:
    return [float(np.mean(shares[str(length)][f"{kind}_BLH"])) for length in lengths]


def _exponent(lengths: Sequence[int], shares: Sequence[float]) -> float:
    return float(np.polyfit(np.log(lengths), np.log(shares), 1)[0])


def _mass_text(numbers: Mapping[str, Any]) -> str:
    lengths, lines = lengths_of(numbers["mass"]), []
    for method, name in NAMES.items():
        trained = numbers["mass"][f"{method}/trained"]
        for kind, title in ROWS.items():
            share = _means(trained, kind, lengths)
            start = _means(numbers["mass"][f"{method}/initial"], kind, lengths)
            top = np.max(np.mean(trained[str(lengths[-1])][f"{kind}_BLH"], axis=0))
            lines.append(
                f"* {name}, {title}: {share[0]:.4f} at {lengths[0]:,} tokens and {share[-1]:.4f} "
                f"at {lengths[-1]:,} ({_times(share)}); before training {start[0]:.4f} and "
                f"{start[-1]:.4f}. "
                f"The head that looks most at the prefix gives it {top:.3f} at {lengths[-1]:,} "
                "tokens."
            )
    count = len(next(iter(numbers["mass"].values()))[str(lengths[0])]["local_BLH"])
    return "\n".join(
        [
            *lines,
            (
                f"* Measured on {count} test documents, cut to each length, with the first seed's "
                "adapters."
            ),
        ]
    )


def _times(shares: Sequence[float]) -> str:
    ratio = shares[0] / shares[-1]
    return (
        f"{ratio:.1f} times less"
        if ratio >= 1.05
        else f"{1 / ratio:.1f} times more"
        if ratio <= 0.95
        else "the same within 5%"
    )


def _variant_table(variants: Mapping[str, Any]) -> str:
    rows = []
    for name, variant in variants.items():
        alphas = np.concatenate(variant["alpha"]) if variant["alpha"] else None
        rows.append(
            [
                name,
                f"{variant['trainable_parameters']:,}",
                interval(variant["accuracy"]),
                interval(variant["nll"]),
                interval(variant["ece"]),
                f"{variant['ece_if_calibrated']:.3f}",
                signed(variant["minus_softmax"]["accuracy"]) if "minus_softmax" in variant else "",
                f"{alphas.min():.3f} to {alphas.max():.3f}" if alphas is not None else "",
                f"{np.mean(variant['training_loss']):.3f}",
            ]
        )
    head = [
        "variant",
        "trained parameters",
        "accuracy",
        "NLL, nats",
        "ECE",
        "ECE if calibrated",
        "accuracy minus softmax's",
        "alpha over layers",
        "last training loss",
    ]
    return markdown_table(head, rows)


def _variant_text(variants: Mapping[str, Any]) -> str:
    lines = []
    for name, variant in variants.items():
        if "minus_softmax" not in variant:
            continue
        found = [
            f"{measure} {signed(variant['minus_softmax'][measure])}"
            for measure in ("accuracy", "nll", "ece")
            if variant["minus_softmax"][measure]["low"] > 0
            or variant["minus_softmax"][measure]["high"] < 0
        ]
        against = f"* {name} against {variant['softmax_counterpart']}: "
        lines.append(
            against
            + (
                "; ".join(found) + " (interval excludes 0)."
                if found
                else "no difference in accuracy, NLL or ECE that its interval separates from 0."
            )
        )
    for name, variant in variants.items():
        if variant["alpha"]:
            lines.append(
                f"* alpha of {name}, layer by layer (first seed): "
                f"{', '.join(f'{alpha:.3f}' for alpha in variant['alpha'][0])}."
            )
    comparisons = sum(3 for variant in variants.values() if "minus_softmax" in variant)
    return "\n".join(
        [
            *lines,
            (
                f"* These are {comparisons} comparisons without correction: about one in twenty "
                "excludes 0 by chance alone."
            ),
        ]
    )


def _closeness_table(closeness: Mapping[str, Any]) -> str:
    rows = []
    for method, cell in closeness.items():
        for form, values in cell["forms"].items():
            fit = cell["fits"].get(form)
            rows.append(
                [
                    NAMES[method],
                    form.replace("_", " "),
                    f"{values['same_answers']:.1%}",
                    f"{values['relative_difference']:.2g}",
                    f"{values['largest_difference']:.2g}",
                    f"{values['accuracy']:.3f}",
                    f"{values['nll']:.3f}",
                    ", ".join(f"{alpha:.3f}" for alpha in fit["alpha_L"]) if fit else "",
                    ", ".join(f"{share:.0%}" for share in fit["explained_L"]) if fit else "",
                ]
            )
    head = [
        "adapter",
        "form",
        "same answers",
        "difference of logits",
        "largest difference",
        "accuracy",
        "NLL, nats",
        "alpha by layer",
        "effect reproduced by layer",
    ]
    return markdown_table(head, rows)


def _closeness_text(closeness: Mapping[str, Any]) -> str:
    lines = []
    for method, cell in closeness.items():
        forms, fits = cell["forms"], cell["fits"]
        lines.append(
            f"* {NAMES[method]}: with the input-dependent alpha the parts give the softmax model "
            f"back to {forms['input_dependent']['largest_difference']:.1g} on any logit. "
            f"One added alpha per layer keeps {forms['additive']['same_answers']:.0%} of the "
            f"answers and reproduces {np.mean(fits['additive']['explained_L']):.0%} of the "
            "prefix's effect (mean over layers); "
            f"normalised it keeps {forms['normalised']['same_answers']:.0%} and reproduces "
            f"{np.mean(fits['normalised']['explained_L']):.0%}. "
            f"Without the prefix {forms['no_prefix']['same_answers']:.0%} of the answers stay, so "
            "this is the yardstick."
        )
    return "\n".join(lines)
