"""The figures of the kernel study, from its numbers alone."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"prefix_tuning": "#c0504d", "prefix_propagation": "#1f6fb2"}
NAMES = {"prefix_tuning": "prefix-tuning", "prefix_propagation": "prefix-propagation"}
ROWS = {"local": "text rows (see their window)", "first": "first text row (sees the whole text)"}


def figures(numbers: Mapping[str, Any]) -> "dict[str, Figure]":
    """File name -> figure."""
    return {
        "mass_by_length.png": mass_by_length(numbers),
        "mass_by_head.png": mass_by_head(numbers["mass"]),
        "variants.png": variants(numbers["variants"]),
        "decomposition.png": decomposition(numbers["closeness"]),
    }


def mass_by_length(numbers: Mapping[str, Any]) -> "Figure":
    """Mean share of attention on the prefix against document length, with what uniform attention
    would give.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    lengths = lengths_of(numbers["mass"])
    for panel, (rows, title) in zip(panels, ROWS.items(), strict=True):
        for name, shares in numbers["mass"].items():
            method, state = name.split("/")
            means = [np.mean(shares[str(length)][f"{rows}_BLH"]) for length in lengths]
            of_document = [
                np.mean(shares[str(length)][f"{rows}_BLH"], axis=(1, 2)) for length in lengths
            ]
            panel.plot(
                lengths,
                means,
                "o-" if state == "trained" else "o:",
                color=COLOURS[method],
                label=f"{NAMES[method]}, {state}",
            )
            panel.fill_between(
                lengths,
                [each.min() for each in of_document],
                [each.max() for each in of_document],
                color=COLOURS[method],
                alpha=0.12,
            )
        panel.plot(
            lengths,
            [uniform_share(numbers, rows, length) for length in lengths],
            "--",
            color="#606060",
            label="if attention were uniform",
        )
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xticks(lengths, [f"{length:,}" for length in lengths])
        panel.set(xlabel="tokens of the document", title=title)
        panel.grid(alpha=0.3, which="major")
    panels[0].set_ylabel("share of attention on the prefix\n(mean over layers and heads, 1 = all)")
    panels[1].legend(fontsize="small")
    figure.suptitle(
        f"Attention on a prefix of {numbers['prefix_length']} as documents grow (bands: least to "
        "most of the documents)"
    )
    return figure


def lengths_of(mass: Mapping[str, Any]) -> list[int]:
    return sorted(int(length) for length in next(iter(mass.values())))


def uniform_share(numbers: Mapping[str, Any], rows: str, length: int) -> float:
    """P / (P + keys of the text that such a row sees), with the window's keys as for a row away
    from the ends.
    """
    prefix = numbers["prefix_length"]
    keys = length if rows == "first" else min(length, numbers["attention_window"] + 2)
    return float(prefix / (prefix + keys))


def mass_by_head(mass: Mapping[str, Any]) -> "Figure":
    """Every layer and head of the trained adapters, shortest and longest documents."""
    from matplotlib.figure import Figure

    lengths = lengths_of(mass)
    columns = [(rows, length) for rows in ROWS for length in (lengths[0], lengths[-1])]
    figure = Figure(figsize=(13, 5.6), layout="constrained")
    grid = figure.subplots(len(NAMES), len(columns), sharex=True, sharey=True)
    largest = max(
        np.mean(mass[f"{method}/trained"][str(length)][f"{rows}_BLH"], axis=0).max()
        for method in NAMES
        for rows, length in columns
    )
    for line, method in zip(grid, NAMES, strict=True):
        for panel, (rows, length) in zip(line, columns, strict=True):
            share_LH = np.mean(mass[f"{method}/trained"][str(length)][f"{rows}_BLH"], axis=0)
            image = panel.imshow(
                share_LH, vmin=0, vmax=largest, cmap="viridis", aspect="auto", origin="lower"
            )
            panel.set_title(
                (
                    f"{NAMES[method]}, "
                    f"{'text rows' if rows == 'local' else 'first row'}\n{length:,} tokens, mean "
                    f"{share_LH.mean():.3f}"
                ),
                fontsize=9,
            )
            panel.set_xticks(range(0, share_LH.shape[1], 2), range(1, share_LH.shape[1] + 1, 2))
            panel.set_yticks(range(share_LH.shape[0]), range(1, share_LH.shape[0] + 1))
    for panel in grid[-1]:
        panel.set_xlabel("head")
    for line in grid:
        line[0].set_ylabel("layer")
    figure.colorbar(image, ax=grid, label="share of attention on the prefix (1 = all)")
    figure.suptitle("Which layers and heads look at the trained prefix")
    return figure


def variants(found: Mapping[str, Any]) -> "Figure":
    """Test accuracy, NLL and ECE of every trained variant with 95% intervals."""
    from matplotlib.figure import Figure

    names = list(found)[::-1]
    figure = Figure(figsize=(12, 0.42 * len(names) + 1.9), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    places = range(len(names))
    for panel, (measure, title) in zip(
        panels,
        (("accuracy", "test accuracy"), ("nll", "NLL (nats)"), ("ece", "ECE (15 bins)")),
        strict=True,
    ):
        for place, name in zip(places, names, strict=True):
            estimate = found[name][measure]
            colour = COLOURS.get(family_of(name), "#606060")
            panel.plot(
                [estimate["low"], estimate["high"]], [place, place], color=colour, linewidth=2
            )
            panel.plot(estimate["value"], place, "o" if "," not in name else "s", color=colour)
        panel.set(xlabel=title)
        panel.grid(axis="x", alpha=0.3)
    panels[2].plot(
        [found[name]["ece_if_calibrated"] for name in names],
        list(places),
        "x",
        color="#202020",
        label="if perfectly calibrated",
    )
    figure.legend(loc="outside lower right", frameon=False)
    panels[0].set_yticks(list(places), names)
    figure.suptitle(
        "Softmax prefixes (circles) and kernel-decomposed ones (squares) at equal budget, 95% "
        "intervals"
    )
    return figure


def family_of(variant: str) -> str:
    """The softmax method that a variant is a form of, or its own name."""
    forms = {"kernel_prefix": "prefix_tuning", "kernel_propagation": "prefix_propagation"}
    method = variant.partition(",")[0]
    return forms.get(method, method)


FORMS = {
    "input_dependent": "each row's\nalpha (check)",
    "normalised": "normalised",
    "additive": "added",
    "no_prefix": "no prefix",
}
"""Form of the decomposition -> its name below a bar."""


def decomposition(closeness: Mapping[str, Any]) -> "Figure":
    """How closely every form reproduces the trained softmax model, and the fitted alphas."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.5, 4.5), layout="constrained")
    answers, logits, layers = figure.subplots(1, 3)
    for offset, (method, cell) in zip((-0.2, 0.2), closeness.items(), strict=True):
        places = np.arange(len(FORMS)) + offset
        bars = {"width": 0.38, "color": COLOURS[method]}
        same = [100 * cell["forms"][form]["same_answers"] for form in FORMS]
        answers.bar(places, same, label=NAMES[method], **bars)
        # On a logarithmic axis rounding errors show as what they are.
        logits.bar(places, [cell["forms"][form]["relative_difference"] for form in FORMS], **bars)
        for fit, line, name in (("additive", "o-", "added"), ("normalised", "s--", "normalised")):
            explained = [100 * share for share in cell["fits"][fit]["explained_L"]]
            numbers = range(1, len(explained) + 1)
            label = f"{NAMES[method]}, {name}"
            layers.plot(numbers, explained, line, color=COLOURS[method], label=label)
    answers.set(ylabel="test documents with the same answer (%)", ylim=(0, 105))
    logits.set(ylabel="difference of logits / spread of logits", yscale="log")
    layers.set(
        xlabel="layer",
        ylabel="prefix's effect on attention reproduced (%)",
        ylim=(min(0, layers.get_ylim()[0]), 105),
    )
    for panel in (answers, logits):
        panel.set_xticks(range(len(FORMS)), list(FORMS.values()), fontsize=8)
    for panel in (answers, layers):
        panel.legend(
            fontsize="small",
            loc="upper center",
            bbox_to_anchor=(0.5, -0.12),
            ncols=2,
            frameon=False,
        )
    figure.suptitle("The trained softmax prefix put outside the softmax")
    return figure
