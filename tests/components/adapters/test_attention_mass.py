"""The prefix's share of attention against the dense reference's weights, and the kernel
decomposition against softmax and against the kernel methods.
"""

from typing import Any

import pytest
import torch

from components.adapters import AdaptedModel, ClassificationHeadConfig, adapt
from components.adapters.attention_mass import attention_mass
from components.adapters.decomposition import decomposed, fit_alphas
from components.adapters.methods.kernel_prefix import KernelPrefixConfig
from components.adapters.methods.kernel_propagation import KernelPropagationConfig
from components.adapters.methods.prefix_propagation import PrefixPropagationConfig
from components.adapters.methods.prefix_tuning import PrefixTuningConfig
from components.errors import BackboneError, ConfigError
from tests.components.adapters.dense_longformer import Parts
from tests.components.adapters.harness import build, dense_logits, documents, randomise

CONFIGS = {"prefix_tuning": PrefixTuningConfig, "prefix_propagation": PrefixPropagationConfig}
KERNEL_CONFIGS = {
    "prefix_tuning": KernelPrefixConfig,
    "prefix_propagation": KernelPropagationConfig,
}
LENGTHS = (15, 6)


def softmax_model(method: str, *, attention: str = "fast", prefix_length: int = 3) -> AdaptedModel:
    head = ClassificationHeadConfig(num_labels=3, pooling="mean")
    model = adapt(build("longformer"), CONFIGS[method](prefix_length=prefix_length), head)
    randomise(model)
    if attention == "fast":
        model.family.accelerate(model.backbone)
    return model.eval()


def batch(lengths: tuple[int, ...] = LENGTHS) -> dict[str, Any]:
    _, ids, mask = documents(1, lengths)
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("attention", ["stock", "fast"])
@pytest.mark.parametrize("prefix_length", [3, 11])
@pytest.mark.parametrize("method", CONFIGS)
def test_shares_are_those_of_the_dense_reference(
    method: str, prefix_length: int, attention: str
) -> None:
    """Windows of 8, one document padded; 1e-5: float32 against float64."""
    model = softmax_model(method, attention=attention, prefix_length=prefix_length)
    texts, ids, mask = documents(1, LENGTHS)
    found = attention_mass(model, ids, mask)
    for place, text in enumerate(texts):
        shares: dict[tuple[int, int, int], float] = {}

        def parts_of(
            leaves: dict[str, Any], shares: dict[tuple[int, int, int], float] = shares
        ) -> Parts:
            key, value = leaves.get("adapter.prefix_key"), leaves.get("adapter.prefix_value")
            return Parts(
                offset=prefix_length,
                prefix_LPD=leaves.get("adapter.prefix"),
                key_LPD=key,
                value_LPD=value,
                prefix_shares=shares,
            )

        dense_logits(model, [text], parts_of)
        before = prefix_length if method == "prefix_propagation" else 0
        local = range(before + 1, before + len(text))
        for layer in range(2):
            for head in range(4):
                mean = sum(shares[layer, row, head] for row in local) / len(local)
                assert found.local_BLH[place, layer, head] == pytest.approx(mean, abs=1e-5)
                assert found.first_BLH[place, layer, head] == pytest.approx(
                    shares[layer, before, head], abs=1e-5
                )
                if found.prefix_BLH is not None:
                    own = sum(shares[layer, row, head] for row in range(before)) / before
                    assert found.prefix_BLH[place, layer, head] == pytest.approx(own, abs=1e-5)
            values = torch.tensor([shares[layer, row, head] for row in local for head in range(4)])
            assert found.spread_BL[place, layer] == pytest.approx(float(values.std()), abs=1e-5)
    assert (found.prefix_BLH is not None) == (method == "prefix_propagation")


def test_shares_do_not_depend_on_the_size_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    from components.backbones.longformer import parts

    model, inputs = softmax_model("prefix_propagation"), batch((40, 33))
    whole = attention_mass(model, **inputs)
    monkeypatch.setattr(parts, "BLOCK_ROWS", 5)
    blocks = attention_mass(model, **inputs)
    torch.testing.assert_close(blocks.local_BLH, whole.local_BLH, atol=1e-6, rtol=0)


@pytest.mark.parametrize("attention", ["stock", "fast"])
@pytest.mark.parametrize("method", CONFIGS)
def test_the_input_dependent_decomposition_is_the_softmax_model(
    method: str, attention: str
) -> None:
    model, inputs = softmax_model(method, attention=attention), batch()
    with torch.no_grad():
        softmax = model(**inputs).logits
        with decomposed(model, "input_dependent"):
            torch.testing.assert_close(model(**inputs).logits, softmax, atol=1e-5, rtol=0)
        with decomposed(model, "no_prefix"):
            assert (model(**inputs).logits - softmax).abs().max() > 1e-2
        assert torch.equal(model(**inputs).logits, softmax)


@pytest.mark.parametrize("method", CONFIGS)
def test_the_additive_form_is_the_kernel_method_with_the_same_prefix(method: str) -> None:
    model, inputs, alphas = softmax_model(method), batch(), (0.4, 0.1)
    kernel = adapt(
        build("longformer"), KERNEL_CONFIGS[method](prefix_length=3), model.head_config
    ).eval()
    values = {**model.trainable_parameters(), "adapter.alpha": torch.tensor(alphas)}
    with torch.no_grad():
        for name, parameter in kernel.trainable_parameters().items():
            parameter.copy_(values[name])
        with decomposed(model, "additive", alphas):
            torch.testing.assert_close(
                model(**inputs).logits, kernel(**inputs).logits, atol=1e-5, rtol=0
            )


@pytest.mark.parametrize("method", CONFIGS)
def test_fitted_alphas_are_the_best_ones(method: str) -> None:
    """Explained shares are below 1, and a copy of the softmax model's first layer is never closer
    with another alpha.
    """
    from components.backbones.longformer.hooks import changed_output
    from components.backbones.longformer.parts import attention_parts

    model, inputs = softmax_model(method), batch()
    fits = fit_alphas(model, [inputs])
    seen: list[Any] = []

    def keep(module: Any, hidden: Any, mask: Any, output: Any) -> Any:
        seen.append((attention_parts(module, hidden, mask, 3), output, mask >= 0))
        return output

    with torch.no_grad(), changed_output(model.backbone.encoder.layer[0].attention.self, keep):
        model(**inputs)
    parts, output, real = seen[0]
    real[:, : model.adapter.rows.key_value] = False

    def error(form: str, alpha: float) -> float:
        mixed = parts.text_BSD + alpha * parts.prefix_BSD
        mixed = mixed / (1 + alpha) if form == "normalised" else mixed
        return float((output - mixed)[real].square().sum())

    for form, fit in fits.items():
        best = error(form, fit.alpha_L[0])
        assert best < min(error(form, fit.alpha_L[0] * 0.9), error(form, fit.alpha_L[0] * 1.1))
        assert fit.explained_L[0] == pytest.approx(1 - best / error(form, 0.0), abs=1e-4)
        assert all(0 <= share <= 1 for share in fit.explained_L)


def test_methods_and_families_that_cannot_be_measured_are_named(tiny_decoder: Any) -> None:
    head = ClassificationHeadConfig(num_labels=3, pooling="mean")
    ids = torch.tensor([[5, 6, 7]])
    with pytest.raises(ConfigError, match="'kernel_prefix' has no prefix in its softmax"):
        attention_mass(adapt(build("longformer"), KernelPrefixConfig(prefix_length=2), head), ids)
    with pytest.raises(BackboneError, match="this one is decoder"):
        attention_mass(adapt(tiny_decoder(), PrefixTuningConfig(prefix_length=2), head), ids)
