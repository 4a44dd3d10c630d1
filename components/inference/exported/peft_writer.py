"""A language model with an exported static prefix: Writer(folder).complete(prompts)."""

import json
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer


class Writer:
    def __init__(self, folder: str, backbone: str | None = None) -> None:
        self.told = told = json.loads(Path(folder, "writer.json").read_text("utf-8"))
        name, revision = backbone or told["backbone"], told["revision"] or "main"
        stock = AutoModelForCausalLM.from_pretrained(name, revision=revision, dtype=torch.float32)
        self.model = PeftModel.from_pretrained(stock, folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(f"{folder}/tokenizer")

    def ids(self, prompt: str) -> torch.Tensor:
        lead, room = self.told["lead"], self.told["max_tokens"] - self.told["max_new_tokens"]
        if self.told["chat"]:
            turns = [{"role": "user", "content": prompt}]
            start = {"tokenize": False, "add_generation_prompt": True}
            prompt = self.tokenizer.apply_chat_template(turns, **start)
        ids = self.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        return torch.tensor([lead + ids[max(0, len(ids) - (room - len(lead))) :]])

    @torch.inference_mode()
    def logits(self, prompts: list[str]) -> torch.Tensor:
        """Of the token that follows each prompt, float32 (B, V)."""
        return torch.cat([self.model(input_ids=self.ids(each)).logits[:, -1] for each in prompts])

    @torch.inference_mode()
    def complete(self, prompts: list[str]) -> list[str]:
        end, most = self.tokenizer.eos_token_id, self.told["max_new_tokens"]
        greedy = {"do_sample": False, "max_new_tokens": most, "eos_token_id": end}
        found = []
        for ids in map(self.ids, prompts):
            mask = torch.ones_like(ids)
            out = self.model.generate(input_ids=ids, attention_mask=mask, pad_token_id=0, **greedy)
            found.append(self.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
        return found
