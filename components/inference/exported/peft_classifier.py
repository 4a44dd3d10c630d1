"""A classifier exported as a static prefix: Classifier(folder).logits(texts), float32 (B, C)."""

import json
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch.nn.functional import linear
from transformers import AutoModel, AutoTokenizer


class Classifier:
    def __init__(self, folder: str, backbone: str | None = None) -> None:
        self.told = told = json.loads(Path(folder, "classifier.json").read_text("utf-8"))
        name, revision = backbone or told["backbone"], told["revision"] or "main"
        stock = AutoModel.from_pretrained(name, revision=revision, dtype=torch.float32)
        self.model = PeftModel.from_pretrained(stock, folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(f"{folder}/tokenizer", padding_side="right")
        self.head = load_file(f"{folder}/head.safetensors")

    @torch.inference_mode()
    def logits(self, texts: list[str]) -> torch.Tensor:
        cut = {"truncation": True, "max_length": self.told["max_tokens"], "padding": True}
        given = self.tokenizer(texts, return_tensors="pt", return_token_type_ids=False, **cut)
        row_BTD, mask_BT = self.model(**given).last_hidden_state, given["attention_mask"]
        place_BT = mask_BT * mask_BT.cumsum(dim=1)
        last_B1 = place_BT.amax(dim=1, keepdim=True)
        read = {"cls": place_BT == 1, "last": place_BT == last_B1, "mean": mask_BT == 1}
        read_BT = read[self.told["pooling"]].float()
        x_BD = torch.einsum("btd,bt->bd", row_BTD, read_BT) / read_BT.sum(dim=1, keepdim=True)
        if "dense.weight" in self.head:
            x_BD = torch.tanh(linear(x_BD, self.head["dense.weight"], self.head["dense.bias"]))
        return linear(x_BD, self.head["out_proj.weight"], self.head["out_proj.bias"])
