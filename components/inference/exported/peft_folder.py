"""A decoder's adapter as a folder that plain PEFT loads: its prefix as PREFIX_TUNING, the tokenizer
and a classifier's head beside it, and a loader of a few lines.

The fact a newcomer gets wrong: PEFT keeps the keys and values of all layers in one matrix, a row
per virtual token, of each layer the keys before the values; with grouped queries its heads are
those of keys and values. The head is no part of PEFT's adapter, which knows none of D x D.
Shapes: P prefix, L layers, H key/value heads, E head size, K = H x E.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import ConfigError
from components.inference.exported.beside import write_beside, write_json

if TYPE_CHECKING:
    from torch import Tensor

    from components.adapters import AdaptedModel
    from components.adapters.folding import KeysAndValues
    from components.inference.classifier import Classifier

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
README = """# {name} as a static prefix

A classifier on `{backbone}`: {positions} keys and values a layer that stand before every text
(PEFT's PREFIX_TUNING), and a head on the {pooling} row. It was trained by {method}; in a causal
decoder its rows cannot see the text, so that they are the same for every text, and this is all of
it: verification.json says how far its logits are from those of the adapter.

```python
from classifier import Classifier        # the file beside this one: torch, transformers and peft

classifier = Classifier("this folder")   # a copy of the backbone: Classifier(folder, "path")
logits = classifier.logits(["a document ...", "another ..."])
probabilities = (logits / classifier.told["temperature"]).softmax(dim=-1)
```

Classes, in the order of the logits: {labels}.

The prefix alone, by PEFT; for a language model, say so before it is loaded:

```python
from peft import PeftConfig, PeftModel

config = PeftConfig.from_pretrained("this folder")
config.task_type = "CAUSAL_LM"           # as it is stored: FEATURE_EXTRACTION, for AutoModel
model = PeftModel.from_pretrained(language_model, "this folder", config=config)
```

In a plain forward pass padding goes behind the text (`padding_side="right"`): in front of it, it
would move the text away from the prefix. `generate` counts positions by the mask: there it goes in
front, as for every decoder.
"""

OF_A_WRITER = """# {method} as a static prefix

A language model on `{backbone}`: {positions} keys and values a layer that stand before every prompt
(PEFT's PREFIX_TUNING). verification.json says how far its logits are from those of the adapter that
was trained; what it writes is the same.

```python
from writer import Writer                # the file beside this one: torch, transformers and peft

writer = Writer("this folder")           # a copy of the backbone: Writer(folder, "path")
completions = writer.complete(["a prompt ...", "another ..."])
```

Or by PEFT alone: `PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(...), "this
folder").generate(...)`. Prompts are padded in front there, as for every decoder.
"""


def write_peft(classifier: "Classifier", folder: Path) -> None:
    """Write the export into a folder that is there. Raises ConfigError for an adapter that is no
    static prefix (components/adapters/folding.py), or whose head reads a row of it.
    """
    from safetensors.torch import save_file

    from components.adapters.folding import folded

    model = classifier.model
    prefix = folded(model)
    if getattr(model.head_config, "pooling", None) == "prefix" and model.adapter.rows.prefix:
        raise ConfigError(
            "head.pooling prefix reads a prefix row, of which a static prefix keeps no last state; "
            "use last, mean or cls. Nothing was written."
        )
    here, writes = Path(__file__), classifier.task.generates
    if writes:
        told = writer_settings(classifier)
        write_beside(classifier, folder, loader=here.with_name("peft_writer.py"), more=told)
    else:
        write_beside(classifier, folder, loader=here.with_name("peft_classifier.py"))
    config = peft_config(model, prefix, classifier.backbone.model_dump(), writes=writes)
    write_json(folder / CONFIG, config)
    save_file({"prompt_embeddings": as_peft(prefix)}, folder / TENSORS, metadata={"format": "pt"})
    (folder / "README.md").write_text(_readme(classifier, prefix), encoding="utf-8")


def writer_settings(classifier: "Classifier") -> dict[str, Any]:
    """What the loader of a language model is told beside the rest."""
    from components.data.template import leading_ids
    from components.tasks.language_modelling import new_tokens

    chat = bool(classifier.cutting.get("chat"))
    return {
        "max_new_tokens": new_tokens(classifier.cutting, classifier.max_tokens),
        "chat": chat,
        "lead": [] if chat else leading_ids(classifier.tokenizer),
    }


def peft_config(
    model: "AdaptedModel", prefix: "KeysAndValues", backbone: Any, *, writes: bool
) -> dict[str, Any]:
    """adapter_config.json of a PrefixTuningConfig; `backbone`: its name_or_path and revision."""
    _, heads, length, size = prefix[0][0].shape
    return {
        "peft_type": "PREFIX_TUNING",
        "task_type": "CAUSAL_LM" if writes else "FEATURE_EXTRACTION",
        "base_model_name_or_path": backbone["name_or_path"],
        "revision": backbone["revision"],
        "inference_mode": True,
        "num_virtual_tokens": length,
        "token_dim": heads * size,
        "num_transformer_submodules": 1,
        "num_attention_heads": heads,
        "num_layers": len(prefix),
        "encoder_hidden_size": heads * size,
        "prefix_projection": False,
    }


def as_peft(prefix: "KeysAndValues") -> "Tensor":
    """PEFT's `prompt_embeddings` (P, 2 L K), float32 on the CPU."""
    import torch

    rows = [each_1HPE[0].transpose(0, 1).flatten(1) for layer in prefix for each_1HPE in layer]
    return torch.cat(rows, dim=1).to("cpu", torch.float32).contiguous()


def _readme(classifier: "Classifier", prefix: "KeysAndValues") -> str:
    readme = OF_A_WRITER if classifier.task.generates else README
    return readme.format(
        name=classifier.model.adapter_config.method,
        method=classifier.model.adapter_config.method,
        backbone=classifier.backbone.name_or_path,
        positions=prefix[0][0].shape[2],
        pooling=getattr(classifier.model.head_config, "pooling", None),
        labels=", ".join(f"`{label}`" for label in classifier.labels),
    )
