"""A checkpoint's tokenizer: its files, their hash, and whether it knows any words.

The fact a newcomer gets wrong: where the vocabulary is missing, transformers makes an empty one up
(five special tokens), and every document becomes the same two tokens.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.backbones.quiet import quiet_loading
from components.backbones.settings import BackboneConfig
from components.backbones.sources import checkpoint_folder, hub_files, read_backbone_config
from components.backbones.told import Refuse, told
from components.errors import BackboneError, UserError
from components.foreign_file import ForeignFileError, read_json, stand_in, start_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SETTINGS_FILES = ("tokenizer_config.json", "special_tokens_map.json")
VOCABULARY_NAMES = """
    tokenizer.json tokenizer.model* *vocab* *merges* *spiece* *sentencepiece* *bpe* *spm*
    tekken.json encoder.json dict.txt *.tiktoken *.model
""".split()
"""Names of files that hold the words themselves, of every kind of tokenizer."""

HUB_PATTERNS = (
    *("config.json", "added_tokens.json", "chat_template.jinja"),
    *SETTINGS_FILES,
    *VOCABULARY_NAMES,
)

AS_TOKENIZER_JSON = (
    "Save it as tokenizer.json, which needs no further library, where its own are installed: "
    "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)."
)
PROBED_WORDS = 64
PROBE = "The letter, written in 1998, did not arrive: Warum? Pourquoi? 为什么?"


def tokenizer_files(config: BackboneConfig) -> Path:
    """Folder that holds the tokenizer's files."""
    if config.source == "hub":
        return hub_files(config, *HUB_PATTERNS)
    return checkpoint_folder(config)


def vocabulary_files(folder: Path) -> list[Path]:
    """The files in a folder that hold a vocabulary, by their names."""
    return sorted(
        path
        for path in folder.iterdir()
        if any(fnmatchcase(path.name, pattern) for pattern in VOCABULARY_NAMES)
    )


def tokenizer_id(config: BackboneConfig) -> str:
    """Hash of the tokenizer's files: equal ids tokenise equally."""
    folder, digest = tokenizer_files(config), hashlib.sha256()
    settings = [folder / name for name in SETTINGS_FILES if (folder / name).is_file()]
    for path in sorted((*vocabulary_files(folder), *settings)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def id_beside(tokenizer: "PreTrainedTokenizerBase", config: BackboneConfig) -> str:
    """The same for a tokenizer that came with an adapter of this backbone: the backbone's own id
    where both cut alike, whatever their files are called.
    """
    cutting = _cutting_of(tokenizer)
    try:
        alike = _cutting_of(load_tokenizer(config)) == cutting
    except BackboneError:
        alike = False  # the backbone has none that can be read
    if alike:
        return tokenizer_id(config)
    return hashlib.sha256(json.dumps(cutting).encode()).hexdigest()


def _cutting_of(tokenizer: "PreTrainedTokenizerBase") -> list[Any]:
    """All that decides which tokens a text becomes, JSON-able."""
    core = json.loads(tokenizer.backend_tokenizer.to_str())
    return [
        {name: core[name] for name in sorted(core) if name not in ("truncation", "padding")},
        tokenizer.pad_token_id,
    ]


def load_tokenizer(config: BackboneConfig) -> "PreTrainedTokenizerBase":
    """The checkpoint's fast tokenizer, with a padding token (the end-of-text token where it has
    none). Raises BackboneError for one that cannot be read, knows no words, or has more tokens than
    the backbone has embeddings.
    """
    embeddings = read_backbone_config(config).get("vocab_size")
    return read_tokenizer(
        tokenizer_files(config), embeddings=embeddings, refuse=_refusal(config.name_or_path)
    )


def _refusal(name: str) -> Refuse:
    return lambda reason: BackboneError(f"backbone.name_or_path: '{name}' {reason}")


def check_tokenizer(config: BackboneConfig, embeddings: int) -> None:
    """As `load_tokenizer`, as far as it can be told without transformers. Raises BackboneError."""
    check_vocabulary(
        tokenizer_files(config), embeddings=embeddings, refuse=_refusal(config.name_or_path)
    )


def read_tokenizer(
    folder: Path, *, embeddings: int | None, refuse: Refuse
) -> "PreTrainedTokenizerBase":
    """The tokenizer in a folder, fit for a backbone with so many embeddings; a `refuse`d one raises
    that error.
    """
    check_vocabulary(folder, embeddings=embeddings, refuse=refuse)

    def unread(reason: str) -> UserError:
        advice = "" if (folder / "tokenizer.json").is_file() else f" {AS_TOKENIZER_JSON}"
        return refuse(f"has a tokenizer that cannot be read{reason}{advice}")

    with told(unread, ""), quiet_loading():
        from transformers import AutoTokenizer

        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False
        )
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        ids, special = tokenizer.get_vocab(), set(tokenizer.all_special_ids)
        has_padding = tokenizer.pad_token is not None
        answered = {
            token
            for text in (PROBE, *_sample(ids, tokenizer.convert_tokens_to_string))
            for token in tokenizer(text)["input_ids"]
        }
    _check_ids(ids, special, answered, embeddings, refuse)
    if not has_padding:
        raise refuse(
            "has a tokenizer with neither a padding nor an end-of-text token. Add pad_token to its "
            "tokenizer_config.json."
        )
    return tokenizer


def check_vocabulary(folder: Path, *, embeddings: int | None, refuse: Refuse) -> None:
    """Look at a tokenizer's files without transformers: there, whole, with words, and not with more
    tokens than embeddings.
    """
    if not (files := vocabulary_files(folder)):
        raise refuse(
            "holds no tokenizer files (tokenizer.json, or a vocabulary such as vocab.txt or "
            "tokenizer.model): every document would become the same tokens. Save its tokenizer "
            "there: tokenizer.save_pretrained(folder)."
        )
    for path in (*files, *(folder / name for name in SETTINGS_FILES)):
        try:
            _check_file(path)
        except FileNotFoundError:
            continue
        except ForeignFileError as error:
            raise refuse(f"has a tokenizer whose {path.name} {error}.") from error
    if (folder / "tokenizer.json").is_file():
        _check_fast(folder / "tokenizer.json", embeddings, refuse)


def _check_file(path: Path) -> None:
    if path in (path.parent / name for name in SETTINGS_FILES):
        if not isinstance(read_json(path), dict):
            raise ForeignFileError("is no JSON object")
    elif reason := stand_in(start_of(path), path):
        raise ForeignFileError(reason)


def _check_fast(path: Path, embeddings: int | None, refuse: Refuse) -> None:
    from tokenizers import Tokenizer

    with told(refuse, f"has a tokenizer that cannot be read, {path.name}"):
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_truncation()
        ids = tokenizer.get_vocab(with_added_tokens=True)
        special = {
            token for token, added in tokenizer.get_added_tokens_decoder().items() if added.special
        }
        words = _sample(ids, lambda tokens: str(tokenizer.decode([ids[tokens[0]]])))
        answered = {token for text in (PROBE, *words) for token in tokenizer.encode(text).ids}
    _check_ids(ids, special, answered, embeddings, refuse)


def _sample(ids: Mapping[str, int], text: Callable[[list[str]], str]) -> Iterator[str]:
    """Words of the vocabulary as they stand in a text: another language's would all be unknown."""
    tokens = sorted(ids, key=lambda token: ids[token])
    for token in tokens[:: max(1, len(tokens) // PROBED_WORDS)]:
        yield text([token])


def _check_ids(
    ids: Mapping[str, int],
    special: set[int],
    answered: set[int],
    embeddings: int | None,
    refuse: Refuse,
) -> None:
    if not set(ids.values()) - special:
        raise refuse(
            f"has a tokenizer of {len(ids)} special tokens and no words: its vocabulary is "
            "missing. Get the whole checkpoint."
        )
    if answered <= special:
        raise refuse(
            "has a tokenizer that turns every text into special tokens alone: its vocabulary does "
            "not fit its rules. Get the checkpoint's own tokenizer."
        )
    most = max(ids.values())
    if embeddings is not None and most >= embeddings:
        token = next(token for token, number in ids.items() if number == most)
        raise refuse(
            f"has a tokenizer with more tokens than embeddings: token {token[:50]!r} has id {most} "
            f"and vocab_size in config.json is {embeddings}. Give the model's own tokenizer, or "
            "resize the model's embeddings and save it again."
        )
