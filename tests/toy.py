"""A tiny experiment made on the spot: word-level tokenizer, random backbone folder, documents whose
class is told by one word.
"""

import json
import random
from pathlib import Path
from typing import Any

WORDS = [f"w{index}" for index in range(80)]
LABELS = ("alpha", "beta", "gamma")


def make_tokenizer(folder: Path) -> Any:
    """Word-level tokenizer with <s> ... </s>, saved into `folder`; <pad> has id 1."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {
        word: index for index, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *LABELS, *WORDS])
    }
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {
        "bos_token": "<s>",
        "cls_token": "<s>",
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "sep_token": "</s>",
        "unk_token": "<unk>",
    }
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **names)
    tokenizer.save_pretrained(folder)
    return tokenizer


def make_documents(
    path: Path, count: int, *, seed: int, min_words: int = 8, max_words: int = 60
) -> None:
    """JSON Lines with id, text, label; so many words, and three times the label's own."""
    draw = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for index in range(count):
            label = LABELS[index % len(LABELS)]
            words = draw.choices(WORDS, k=draw.randint(min_words, max_words))
            for _ in range(3):
                words.insert(draw.randrange(len(words)), label)
            file.write(
                json.dumps({"id": f"{path.stem}-{index}", "text": " ".join(words), "label": label})
                + "\n"
            )


def make_questions(path: Path, count: int, *, seed: int) -> list[dict[str, Any]]:
    """Questions in WikiHop's own form, a JSON list: 2 to 5 candidates, 1 to 4 supports of 5 to 25
    words; in one of the supports the answer follows the word that is asked for.
    """
    draw = random.Random(seed)
    records = []
    for index in range(count):
        asked, *candidates = draw.sample(WORDS, draw.randint(3, 6))
        answer = draw.choice(candidates)
        supports = [draw.choices(WORDS, k=draw.randint(5, 25)) for _ in range(draw.randint(1, 4))]
        place = draw.choice(supports)
        place[len(place) // 2 : len(place) // 2] = [asked, answer]
        records.append(
            {
                "id": f"WH_{path.stem}_{index}",
                "query": f"follows {asked}",
                "answer": answer,
                "candidates": candidates,
                "supports": [" ".join(words) + " ." for words in supports],
            }
        )
    path.write_text(json.dumps(records), encoding="utf-8")
    return records


def make_question_experiment(folder: Path, backbone: Any, **changes: Any) -> dict[str, Any]:
    """`make_experiment` for multiple choice: 14, 6 and 6 questions in chunks of at most 48
    tokens.
    """
    files = {split: str(folder / f"{split}.json") for split in ("train", "validation", "test")}
    values = make_experiment(
        folder, backbone, **{"data": {"qangaroo": files, "max_tokens": 48}, **changes}
    )
    for split, count, seed in (("train", 14, 1), ("validation", 6, 2), ("test", 6, 3)):
        make_questions(Path(files[split]), count, seed=seed)
    return values


def make_experiment(folder: Path, backbone: Any, **changes: Any) -> dict[str, Any]:
    """Save backbone, tokenizer and documents under `folder`; the experiment as plain values
    (dropout 0 everywhere).
    """
    from components.settings import set_path

    backbone.save_pretrained(folder / "backbone")
    make_tokenizer(folder / "backbone")
    for split, count, seed in (("train", 21, 1), ("validation", 9, 2), ("test", 9, 3)):
        make_documents(folder / f"{split}.jsonl", count, seed=seed)
    values: dict[str, Any] = {
        "name": "toy",
        "backbone": {
            "source": "local",
            "name_or_path": str(folder / "backbone"),
            "family": "longformer" if "ongformer" in type(backbone).__name__ else "decoder",
        },
        "adapter": {"method": "prefix_propagation", "prefix_length": 4, "dropout": 0.0},
        "head": {"pooling": "mean", "dropout": 0.0},
        "data": {
            "files": {
                split: str(folder / f"{split}.jsonl") for split in ("train", "validation", "test")
            },
            "max_tokens": 64,
        },
        "optimizer": {"learning_rate": 1e-2},
        "training": {"epochs": 2, "micro_batch_size": 4},
        "zero": {"stage": 0, "param_persistence_threshold": 0},
        "cluster": {"storage_path": str(folder / "storage"), "cache_path": str(folder / "cache")},
    }
    for path, value in changes.items():
        set_path(values, path, value)
    return values
