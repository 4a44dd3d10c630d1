"""A classifier on an encoder: Classifier(folder).logits(texts), float32 (B, C)."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.nn.functional import linear, pad
from transformers import AutoModel, AutoTokenizer, masking_utils


class Classifier:
    def __init__(self, folder: str, backbone: str | None = None) -> None:
        self.told = told = json.loads(Path(folder, "classifier.json").read_text("utf-8"))
        name = backbone or told["backbone"] or f"{folder}/backbone"
        revision = told["revision"] or "main"
        stock = AutoModel.from_pretrained(name, revision=revision, dtype=torch.float32)
        self.model, self.head = stock.eval(), load_file(f"{folder}/head.safetensors")
        self.tokenizer = AutoTokenizer.from_pretrained(f"{folder}/tokenizer", padding_side="right")
        adapter = load_file(f"{folder}/adapter.safetensors")
        self.first_PD = adapter["rows"]
        layers = stock.encoder.layer if told["family"] == "longformer" else stock.layers
        for layer, prefix_PD in zip(layers, adapter["prefix"], strict=True):
            layer.register_forward_pre_hook(partial(add, prefix_PD))
        for name in told["trained_in_backbone"]:
            stock.get_parameter(name).data.copy_(adapter[f"backbone.{name}"])

    @torch.inference_mode()
    def logits(self, texts: list[str]) -> torch.Tensor:
        cut = {"truncation": True, "max_length": self.told["max_tokens"], "padding": True}
        given = self.tokenizer(texts, return_tensors="pt", return_token_type_ids=False, **cut)
        ids_BT, length = given["input_ids"], len(self.first_PD)
        text_BTD = self.model.get_input_embeddings()(ids_BT)
        rows_BSD = torch.cat([self.first_PD.expand(len(texts), -1, -1), text_BTD], dim=1)
        mask_BS = pad(given["attention_mask"], (length, 0), value=1)
        place_BS = mask_BS * mask_BS.cumsum(dim=1)  # 1 to P the prefix, then text; padding 0
        seen = longformer if self.told["family"] == "longformer" else rotary
        told = seen(self.model.config, ids_BT, rows_BSD, mask_BS)
        row_BSD = self.model(inputs_embeds=rows_BSD, **told).last_hidden_state
        last_B1 = place_BS.amax(dim=1, keepdim=True)
        read = {"prefix": place_BS == 1, "cls": place_BS == length + 1}
        read |= {"last": place_BS == last_B1, "mean": place_BS > length}
        read_BS = read[self.told["pooling"]].float()
        x_BD = torch.einsum("bsd,bs->bd", row_BSD, read_BS) / read_BS.sum(dim=1, keepdim=True)
        if "dense.weight" in self.head:
            x_BD = torch.tanh(linear(x_BD, self.head["dense.weight"], self.head["dense.bias"]))
        return linear(x_BD, self.head["out_proj.weight"], self.head["out_proj.bias"])


def add(prefix_PD: torch.Tensor, _layer: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """Before a layer: its prefix on top of the first rows."""
    behind = given[0].shape[1] - len(prefix_PD)
    return given[0] + pad(prefix_PD, (0, 0, 0, behind)), *given[1:]


def longformer(config: Any, ids_BT: Any, rows_BSD: Any, mask_BS: Any) -> dict[str, Any]:
    """Prefix rows and the first token are global; a text's positions begin behind the prefix."""
    length = mask_BS.shape[1] - ids_BT.shape[1]
    real_BS = pad(ids_BT.ne(config.pad_token_id).long(), (length, 0), value=1)
    place_BS = real_BS * real_BS.cumsum(dim=1) + config.pad_token_id
    place_BS[:, :length] = torch.arange(length)
    global_BS = torch.zeros_like(mask_BS)
    global_BS[:, : length + 1] = 1
    return {
        "attention_mask": mask_BS,
        "global_attention_mask": global_BS,
        "position_ids": place_BS,
    }


def rotary(config: Any, ids_BT: Any, rows_BSD: Any, mask_BS: Any) -> dict[str, Any]:
    """Local layers show the prefix rows to every row, and every row to them."""
    if "sliding_attention" not in (getattr(config, "layer_types", None) or ()):
        return {"attention_mask": mask_BS}
    length = mask_BS.shape[1] - ids_BT.shape[1]
    given = {"config": config, "inputs_embeds": rows_BSD, "attention_mask": mask_BS}
    local = masking_utils.create_bidirectional_sliding_window_mask(
        **given, or_mask_function=lambda b, h, query, key: (key < length) | (query < length)
    )
    whole = masking_utils.create_bidirectional_mask(**given)
    return {"attention_mask": {"full_attention": whole, "sliding_attention": local}}
