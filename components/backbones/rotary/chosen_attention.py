"""Which attention implementation a rotary backbone runs on, where it stands now.

The fact a newcomer gets wrong: a backbone is loaded before it goes to its device, so the choice is
made when it is run, and made again where device, dtype or mode have changed.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from components.backbones.attention_choice import DecoderAttentionFacts, decoder_attention
from components.backbones.rotary.model_type import ModelType
from components.backbones.rotary.sizes import LOCAL, layer_kinds

if TYPE_CHECKING:
    from torch import nn

IS_CHOSEN, CHOSEN_FOR = "attention_is_chosen", "attention_chosen_for"
"""What a backbone object remembers: that it is to be done, and the facts of the last choice."""


def choose_from_now_on(backbone: "nn.Module") -> None:
    """Let `choose_attention` do its work on this backbone."""
    backbone.__dict__[IS_CHOSEN] = True


def choose_attention(kind: ModelType, backbone: Any) -> None:
    """Set the implementation that decoder_attention names, where that is wanted."""
    if not backbone.__dict__.get(IS_CHOSEN):
        return
    facts = attention_facts(kind, backbone)
    if backbone.__dict__.get(CHOSEN_FOR) == facts:
        return
    chosen = decoder_attention(facts).implementation
    if chosen != backbone.config._attn_implementation:
        backbone.set_attn_implementation(chosen)
    backbone.__dict__[CHOSEN_FOR] = facts


def attention_facts(kind: ModelType, backbone: Any) -> DecoderAttentionFacts:
    """What the choice depends on."""
    # Never quantised, as the first linear module's weight may be.
    from components.backbones.numbers import numbers_of

    weight, values = numbers_of(backbone), vars(backbone.config)
    return DecoderAttentionFacts(
        device_type=weight.device.type,
        dtype=str(weight.dtype).removeprefix("torch."),
        head_size=kind.heads(values).size,
        local_layers=any(each in LOCAL for each in layer_kinds(kind, values)),
        sinks=kind.has_sinks,
        softcap=values.get("attn_logit_softcapping") is not None,
        dropout=float(values.get("attention_dropout") or 0.0) if backbone.training else 0.0,
        compiler=find_spec("triton") is not None,
    )
