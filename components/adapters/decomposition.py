"""How closely the kernel decomposition reproduces a trained softmax prefix: its prefix put outside
the softmax, with a factor alpha per layer fitted to it.

    softmax         (text_i + alpha_i prefix_i) / (1 + alpha_i)      alpha_i = Z_prefix / Z_text of
    each row and head
    input_dependent the same with that alpha_i, put together from its parts: a check, equal up to
    rounding
    normalised      the same with one alpha per layer
    additive        text_i + alpha prefix_i with one alpha per layer: what kernel_prefix and
    kernel_propagation compute with the exp kernel no_prefix       text_i alone: how much there is
    to reproduce

Alphas are fitted in closed form, by least squares on the attention outputs of the running softmax
model. Shapes: B batch, S rows, H heads, D hidden, L layers.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from components.adapters.attention_mass import attention_changed, rows_before_text
from components.adapters.model import AdaptedModel
from components.backbones.longformer.hooks import Change
from components.backbones.longformer.parts import AttentionParts, attention_parts

Form = Literal["input_dependent", "normalised", "additive", "no_prefix"]
FORMS: tuple[Form, ...] = get_args(Form)
Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class AlphaFit:
    """`alpha_L`: the fitted factor of every layer; `explained_L`: share of the prefix's effect on
    the attention output that it reproduces, 1 - |softmax - form|^2 / |softmax - text|^2.
    """

    alpha_L: tuple[float, ...]
    explained_L: tuple[float, ...]


def fit_alphas(model: AdaptedModel, batches: Iterable[Batch]) -> dict[Form, AlphaFit]:
    """Fits of the forms with one alpha per layer, over all real rows of `batches` (input_ids,
    attention_mask).
    """
    before, layers = rows_before_text(model), len(model.family.layers(model.backbone))
    # Per layer: |softmax - text|^2, its product with the direction, and |direction|^2.
    sums: dict[Form, Tensor] = {
        form: torch.zeros(layers, 3, dtype=torch.float64) for form in ("normalised", "additive")
    }

    def observe(layer: int) -> Change:
        def change(module: Any, hidden_BSD: Tensor, mask_BS: Tensor, output_BSD: Tensor) -> Tensor:
            parts = attention_parts(module, hidden_BSD, mask_BS, before)
            real_BS = mask_BS >= 0
            real_BS[:, : model.adapter.rows.key_value] = False
            text, prefix = parts.text_BSD[real_BS].double(), parts.prefix_BSD[real_BS].double()
            effect = output_BSD[real_BS].double() - text
            for form, direction in (("normalised", prefix - text), ("additive", prefix)):
                products = [
                    (effect * effect).sum(),
                    (effect * direction).sum(),
                    (direction * direction).sum(),
                ]
                sums[form][layer] += torch.stack(products).cpu()  # type: ignore[index]
            return output_BSD

        return change

    model.eval()
    with torch.no_grad(), attention_changed(model, observe):
        for batch in batches:
            model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    return {form: _fit(form, total_L3) for form, total_L3 in sums.items()}


def _fit(form: Form, total_L3: Tensor) -> AlphaFit:
    """Least squares of the effect on the direction; the normalised form's coefficient is the
    prefix's share alpha / (1 + alpha).
    """
    effect_L, product_L, direction_L = total_L3.unbind(1)
    slope_L = product_L / direction_L
    alpha_L = slope_L / (1 - slope_L) if form == "normalised" else slope_L
    return AlphaFit(tuple(alpha_L.tolist()), tuple((slope_L * product_L / effect_L).tolist()))


def decomposed(
    model: AdaptedModel, form: Form, alpha_L: Iterable[float] = ()
) -> AbstractContextManager[None]:
    """Context in which the softmax model runs in another form, for evaluation. `alpha_L`: one
    factor per layer, for the forms that take it.
    """
    before, alphas = rows_before_text(model), tuple(alpha_L)

    def replace(layer: int) -> Change:
        def change(module: Any, hidden_BSD: Tensor, mask_BS: Tensor, output_BSD: Tensor) -> Tensor:
            parts = attention_parts(module, hidden_BSD, mask_BS, before)
            return put_together(parts, form, alphas[layer] if alphas else 0.0)

        return change

    return attention_changed(model, replace)


def put_together(parts: AttentionParts, form: Form, alpha: float) -> Tensor:
    """The attention output (B, S, D) of one layer in this form."""
    if form == "no_prefix":
        return parts.text_BSD
    if form == "additive":
        return parts.text_BSD + alpha * parts.prefix_BSD
    if form == "normalised":
        return (parts.text_BSD + alpha * parts.prefix_BSD) / (1 + alpha)
    heads = parts.log_alpha_BHS.shape[1]
    share_BSH1 = parts.log_alpha_BHS.sigmoid().transpose(1, 2)[..., None]
    text_BSHE, prefix_BSHE = (
        part.unflatten(-1, (heads, -1)) for part in (parts.text_BSD, parts.prefix_BSD)
    )
    return (text_BSHE + share_BSH1 * (prefix_BSHE - text_BSHE)).flatten(2)


def logits_of_forms(
    model: AdaptedModel, fits: Mapping[Form, AlphaFit], batches: Sequence[Batch]
) -> dict[str, Tensor]:
    """Logits (N, C) of the softmax model under `softmax`, and of every form under its name, for all
    documents of `batches` in order.
    """
    contexts: dict[str, Callable[[], AbstractContextManager[None]]] = {"softmax": nullcontext}
    for form in FORMS:
        contexts[form] = partial(
            decomposed, model, form, fits[form].alpha_L if form in fits else ()
        )
    model.eval()
    results = {}
    for name, context in contexts.items():
        with torch.no_grad(), context():
            logits = [
                model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
                .logits.float()
                .cpu()
                for batch in batches
            ]
        results[name] = torch.cat(logits)
    return results
