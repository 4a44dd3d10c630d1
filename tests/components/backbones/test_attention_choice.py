"""Which attention a decoder takes, asked with made-up facts: what a GPU would do is known without
one.
"""

from dataclasses import replace

import pytest

from components.backbones.attention_choice import (
    DecoderAttentionFacts,
    Implementation,
    decoder_attention,
    flex_obstacle,
)

GPU = DecoderAttentionFacts(device_type="cuda", dtype="bfloat16", head_size=128)
KINDS: dict[str, dict[str, bool]] = {
    "llama": {},
    "mistral with a window": {"local_layers": True},
    "gemma2": {"local_layers": True, "softcap": True},
    "gpt_oss": {"local_layers": True, "sinks": True},
    "softcap alone": {"softcap": True},
}
MACHINES: dict[str, dict[str, object]] = {
    "GPU": {},
    "GPU in float32": {"dtype": "float32"},
    "GPU without Triton": {"compiler": False},
    "GPU with dropout": {"dropout": 0.1},
    "GPU in float64": {"dtype": "float64"},
    "GPU with tiny heads": {"head_size": 8},
    "CPU": {"device_type": "cpu"},
    "another accelerator": {"device_type": "xpu"},
}
HAS_FLEX = ("GPU", "GPU in float32")


def expected(kind: str, machine: str) -> Implementation:
    if kind == "llama":
        return "sdpa"
    if machine in HAS_FLEX:
        return "flex_attention"
    return "sdpa" if kind == "mistral with a window" else "eager"


@pytest.mark.parametrize("machine", MACHINES, ids=lambda name: name.replace(" ", "-"))
@pytest.mark.parametrize("kind", KINDS, ids=lambda name: name.replace(" ", "-"))
def test_the_implementation_follows_from_the_facts(kind: str, machine: str) -> None:
    facts = replace(GPU, **KINDS[kind], **MACHINES[machine])
    choice = decoder_attention(facts)
    assert choice.implementation == expected(kind, machine)
    assert choice.quadratic == (choice.implementation != "flex_attention" and kind != "llama")
    if choice.quadratic:
        assert str(flex_obstacle(facts)) in choice.reason


@pytest.mark.parametrize("machine", MACHINES, ids=lambda name: name.replace(" ", "-"))
def test_full_causal_layers_take_the_causal_kernel_on_every_machine(machine: str) -> None:
    choice = decoder_attention(replace(GPU, **MACHINES[machine]))
    assert choice.implementation == "sdpa" and not choice.quadratic


def test_a_choice_is_one_that_transformers_knows() -> None:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    for changes in KINDS.values():
        for machine in MACHINES.values():
            chosen = decoder_attention(replace(GPU, **changes, **machine)).implementation
            assert chosen == "eager" or chosen in ALL_ATTENTION_FUNCTIONS
