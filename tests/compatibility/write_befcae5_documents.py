"""The documents of tests/compatibility/befcae5: part of write_befcae5.py, kept to be read."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.compatibility.befcae5_workplace import (
    BACKBONES,
    DATA,
    made_with,
    uniform,
    weights_sha256,
)

LABELS = ("alpha", "beta", "gamma")


WORDS = [f"w{index}" for index in range(25)]


class Draw:
    """Choices that follow from a name, the same under any Python."""

    def __init__(self, name: str) -> None:
        self.numbers = iter(uniform(name, 100_000, width=1.0))

    def below(self, count: int) -> int:
        return int((next(self.numbers) + 0.5) * count)

    def words(self, count: int) -> list[str]:
        return [WORDS[self.below(len(WORDS))] for _ in range(count)]


def write_tokenizer(folder: Path) -> None:
    """Word-level, 32 ids: <s> ... </s>, <pad> has id 1."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<s>", "<pad>", "</s>", "<unk>", *LABELS, *WORDS]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    special = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"}
    special |= {"pad_token": "<pad>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=core, **special).save_pretrained(folder)


def texts(name: str, count: int) -> list[dict[str, str]]:
    """Documents of 5 to 27 words, their label's own word three times among them."""
    draw, rows = Draw(name), []
    for index in range(count):
        label = LABELS[index % len(LABELS)]
        words = draw.words(2 + draw.below(23))
        for _ in range(3):
            words.insert(draw.below(len(words)), label)
        rows.append({"id": f"{name}-{index}", "text": " ".join(words), "label": label})
    return rows


def asked(name: str, count: int) -> list[dict[str, Any]]:
    """Questions of 2 to 4 candidates and 1 to 3 supports; the answer follows the word asked for."""
    draw, rows = Draw(name), []
    for index in range(count):
        start = draw.below(len(WORDS))
        named = [WORDS[(start + 7 * step) % len(WORDS)] for step in range(3 + draw.below(3))]
        subject, *candidates = named
        answer = candidates[draw.below(len(candidates))]
        supports = [draw.words(5 + draw.below(10)) for _ in range(1 + draw.below(3))]
        place = supports[draw.below(len(supports))]
        place[2:2] = [subject, answer]
        row = {"id": f"{name}-{index}", "query": f"follows {subject}", "answer": answer}
        row |= {"candidates": candidates, "supports": [" ".join(words) for words in supports]}
        rows.append(row)
    return rows


def write_documents() -> None:
    write_tokenizer(DATA / "tokenizer")
    (DATA / "documents").mkdir()
    (DATA / "questions").mkdir()
    for split, count in (("train", 12), ("validation", 6), ("test", 6)):
        lines = [json.dumps(row) + "\n" for row in texts(split, count)]
        (DATA / "documents" / f"{split}.jsonl").write_text("".join(lines))
        write_json(f"questions/{split}.json", asked(split, count))
    write_json(
        "backbones.json",
        {
            "made_with": made_with() | {"mlflow": version("mlflow")},
            "sha256": {family: weights_sha256(make()) for family, make in BACKBONES.items()},
        },
    )


def write_json(name: str, content: Any) -> None:
    (DATA / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
