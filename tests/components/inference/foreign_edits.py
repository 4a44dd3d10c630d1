"""What may be wrong with an adapter folder that somebody else wrote, as edits of a whole one."""

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

GIGABYTE = 10**9
Edit = Callable[[Path], Any]
CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"


def config(**paths: Any) -> Edit:
    """Set `section__name` in adapter_config.json."""

    def edit(folder: Path) -> None:
        values = json.loads((folder / CONFIG).read_text())
        for path, value in paths.items():
            *sections, last = path.split("__")
            place = values
            for section in sections:
                place = place[section]
            place[last] = value
        (folder / CONFIG).write_text(json.dumps(values))

    return edit


def rewritten(folder: Path, changes: dict[str, Any]) -> None:
    """Not in place: the tensors that are read are mapped from the file."""
    save_file(load_file(folder / TENSORS) | changes, folder / "new")
    (folder / "new").replace(folder / TENSORS)


def tensors(**changes: Any) -> Edit:
    """Put `name__of__it` in place of a tensor, or beside them."""

    def edit(folder: Path) -> None:
        rewritten(folder, {name.replace("__", "."): value for name, value in changes.items()})

    return edit


def scaled(factor: float) -> Edit:
    def edit(folder: Path) -> None:
        found = load_file(folder / TENSORS)
        rewritten(folder, {name: tensor * factor for name, tensor in found.items()})

    return edit


def text(name: str, content: str | bytes) -> Edit:
    return lambda folder: (folder / name).write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )


def pipe(name: str) -> Edit:
    def edit(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return edit


def link(name: str, target: str) -> Edit:
    def edit(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return edit


def directory(name: str) -> Edit:
    def edit(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return edit


def sparse(name: str, shape: list[int]) -> Edit:
    """A float32 tensor of that shape, of which nothing is on the disk."""

    def edit(folder: Path) -> None:
        found = load_file(folder / TENSORS)
        found.pop(name, None)
        header, place = {}, 0
        for each, tensor in found.items():
            size = tensor.numel() * 4
            header[each] = {
                "dtype": "F32",
                "shape": list(tensor.shape),
                "data_offsets": [place, place + size],
            }
            place += size
        size = 4 * int(torch.tensor(shape, dtype=torch.int64).prod())
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [place, place + size]}
        encoded = json.dumps(header).encode()
        with (folder / "new").open("wb") as file:
            file.write(struct.pack("<Q", len(encoded)) + encoded)
            for tensor in found.values():
                file.write(tensor.numpy().tobytes())
            file.truncate(8 + len(encoded) + place + size)
        (folder / "new").replace(folder / TENSORS)

    return edit


def header(encoded: bytes, length: int | None = None) -> Edit:
    start = struct.pack("<Q", len(encoded) if length is None else length)
    return text(TENSORS, start + encoded)


def one_tensor(dtype: str, size: int) -> bytes:
    told = {"dtype": dtype, "shape": [2], "data_offsets": [0, size]}
    return json.dumps({"adapter.prefix": told}).encode()


def cut(folder: Path) -> None:
    os.truncate(folder / TENSORS, (folder / TENSORS).stat().st_size - 100)


class Exits:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> Any:
        return os._exit, (13,)


def backbone_inside(folder: Path) -> None:
    shutil.copytree(folder.parent / "backbone", folder / "backbone")
    config(backbone__load__name_or_path=str(folder / "backbone"))(folder)


def unhashed(edit: Edit) -> Edit:
    """As a folder of an older version, which recorded no hash of the weights."""

    def both(folder: Path) -> None:
        config(backbone__weights_sha256=None)(folder)
        edit(folder)

    return both


def elsewhere(name: str) -> Edit:
    """The backbone is said to be a folder beside the adapter."""
    return lambda folder: config(backbone__load__name_or_path=str(folder.parent / name))(folder)


def tokenizer_config(**changes: Any) -> Edit:
    def edit(folder: Path) -> None:
        path = folder / "tokenizer" / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def many_tokens(folder: Path) -> None:
    path = folder / "tokenizer" / "tokenizer.json"
    values = json.loads(path.read_text())
    values["model"]["vocab"] |= {f"more{index}": 200 + index for index in range(10)}
    path.write_text(json.dumps(values))


INSTALLED = {"source": "installed", "name_or_path": "all-MiniLM-L6-v2", "family": "longformer"}
LORA = {"method": "lora", "dropout": 0.0}
TYPES = "backbone__embeddings__token_type_embeddings__weight"
WORDS = "backbone__embeddings__word_embeddings__weight"

REFUSED: dict[str, tuple[Edit, str]] = {
    # adapter_config.json
    "no configuration": (lambda folder: (folder / CONFIG).unlink(), "holds no adapter_config"),
    "empty configuration": (text(CONFIG, ""), "is empty"),
    "configuration is a pipe": (pipe(CONFIG), "is no regular file"),
    "configuration is a folder": (directory(CONFIG), "is no regular file"),
    "configuration is endless": (link(CONFIG, "/dev/zero"), "is no regular file"),
    "configuration links to itself": (link(CONFIG, CONFIG), "cannot be read"),
    "configuration in UTF-16": (text(CONFIG, "{}".encode("utf-16")), "format null|not readable"),
    "nested deep": (text(CONFIG, "[" * 100_000), "nested too deep"),
    "a number of 5,000 digits": (text(CONFIG, '{"format": ' + "1" * 5000 + "}"), "not readable"),
    "NaN in the configuration": (config(init_std=float("nan")), "NaN is no number"),
    "a key twice": (text(CONFIG, '{"format": 1, "format": 1}'), "given twice"),
    "format is a list": (config(format=[1]), r"has format \[1\]"),
    # method and head
    "2,000,000,000 labels": (
        config(head__num_labels=2 * GIGABYTE, head__labels=None),
        "num_labels",
    ),
    "100,000 labels": (config(head__num_labels=100_000, head__labels=None), "asks for"),
    "a prefix of 2,000,000,000": (config(prefix_length=2 * GIGABYTE), "prefix_length|asks for"),
    "a rank of 2,000,000,000": (config(rank=2 * GIGABYTE), "rank|asks for"),
    "LoRA of a huge rank": (config(**LORA, rank=2 * GIGABYTE, targets=["dense"]), "rank"),
    "LoRA of no module": (config(**LORA, rank=2, targets=["nothing"]), "is no linear module"),
    "labels twice": (config(head__labels=["a", "b", "a"]), "'a' twice"),
    "labels are numbers": (config(head__labels=[1, 2, 3]), "labels"),
    "half a character": (config(head__labels=["a", "b", "\ud800"]), "adapter_config.json"),
    "for decoders alone": (config(placement="suffix"), "placement suffix"),
    # tensors
    "a tensor of 10 GB": (sparse("adapter.more", [GIGABYTE, 5, 1]), "do not belong together"),
    "a prefix of 10 GB": (
        sparse("adapter.prefix", [2, 4, 1_250_000_000]),
        "do not belong together",
    ),
    "a head of 10 GB": (
        sparse("head.out_proj.weight", [78_125_000, 32]),
        "do not belong together",
    ),
    "float64 beyond float32": (
        tensors(head__dense__bias=torch.full((32,), 1e300, dtype=torch.float64)),
        "not finite",
    ),
    "NaN": (tensors(head__dense__bias=torch.full((32,), torch.nan)), "not finite"),
    "integers": (tensors(head__dense__bias=torch.ones(32, dtype=torch.int64)), "bias is I64"),
    "truth values": (tensors(head__dense__bias=torch.ones(32, dtype=torch.bool)), "bias is BOOL"),
    "complex numbers": (
        tensors(head__dense__bias=torch.ones(32, dtype=torch.complex64)),
        "bias is C64",
    ),
    "8-bit floats": (header(one_tensor("F8_E4M3", 2) + b" " * 8), "cut off|F8_E4M3"),
    "an unknown dtype": (header(one_tensor("F7", 2)), "dtype F7"),
    "sizes that do not fit": (header(one_tensor("F32", 4)), "has not 4 bytes"),
    "a header of 1 EB": (header(b"{}", 10**18), "no such header"),
    "a header that is no JSON": (header(b"{{{{"), "not readable as JSON"),
    "a header that is a list": (header(b"[]"), "header is no object"),
    "a header of text": (header(b'{"a": "b"}'), "header is broken"),
    "cut tensors": (cut, "is cut off"),
    "tensors are a pipe": (pipe(TENSORS), "is no regular file"),
    "tensors are a folder": (directory(TENSORS), "is no regular file"),
    "words of the backbone": (tensors(**{WORDS: torch.ones(101, 32)}), "does not train"),
    "types of another size": (tensors(**{TYPES: torch.ones(9, 32)}), r"has shape \(9, 32\)"),
    "values without an answer": (scaled(1e38), "not finite|are no numbers"),
    # calibration.json
    "a temperature near zero": (text("calibration.json", '{"temperature": 1e-30}'), "1e-30"),
    "a huge temperature": (text("calibration.json", '{"temperature": 1e30}'), "1e\\+30"),
    "a true temperature": (text("calibration.json", '{"temperature": true}'), "temperature true"),
    "an endless temperature": (text("calibration.json", '{"temperature": Infinity}'), "no number"),
    "calibration is a pipe": (pipe("calibration.json"), "is no regular file"),
    # the backbone
    "other weights": (elsewhere("other"), "was trained on weights with sha256"),
    "other sizes": (unhashed(elsewhere("larger")), "intermediate_size: 48 then, 56 here"),
    "no such backbone": (unhashed(elsewhere("nowhere")), "not on this machine"),
    "a backbone of its own": (unhashed(backbone_inside), "brings a backbone of its own"),
    "a hub model": (
        config(backbone__load__source="hub", backbone__load__name_or_path="some/one"),
        "nothing is downloaded at an adapter's word",
    ),
    "no hub's name": (
        config(backbone__load__source="hub", backbone__load__name_or_path="../../etc"),
        "nothing is downloaded",
    ),
    "a backbone that is a pipe": (unhashed(elsewhere("pipe")), "not on this machine|no regular"),
    "load is a list": (config(backbone__load=[1]), "backbone.load is"),
    "load has code": (config(backbone__load__trust_remote_code=True), "trust_remote_code"),
    "load is elsewhere": (config(backbone__load__source="s3"), "backbone.load: source"),
    "positions without end": (
        unhashed(config(backbone__load=INSTALLED | {"lengthen_to": 10**12})),
        "lengthen_to",
    ),
    "a hash of numbers": (config(backbone__weights_sha256=17), "expected text"),
    # tokenizer
    "a tokenizer that is a pipe": (pipe("tokenizer/tokenizer.json"), "is no regular file"),
    "a setting that is a pipe": (pipe("tokenizer/added_tokens.json"), "is no regular file"),
    "no vocabulary": (
        lambda folder: (folder / "tokenizer" / "tokenizer.json").unlink(),
        "holds no tokenizer files",
    ),
    "broken vocabulary": (text("tokenizer/tokenizer.json", "{"), "cannot be read"),
    "more tokens than embeddings": (many_tokens, "more tokens than embeddings"),
    # training
    "tokens without end": (config(training__max_tokens=10**12), "at most the 134 positions"),
    "tokens as text": (config(training__max_tokens="all"), "training.max_tokens"),
    "true tokens": (config(training__max_tokens=True), "training.max_tokens is true"),
    "chunks as text": (config(training__max_chunks="all"), "training.max_chunks"),
    "an unknown precision": (config(training__precision="int4"), "training.precision"),
    "no room for a token": (
        config(training__max_tokens=2),
        "expected more than the tokenizer's 2 special",
    ),
    "training is a list": (config(training=[]), "training is"),
}
"""What is done to a whole folder, and what the one line says."""

HARMLESS: dict[str, Edit] = {
    "as it was saved": lambda folder: None,
    "as an older version saved it": unhashed(lambda folder: None),
    "labels that move the cursor": config(head__labels=["\x1b[2J\x1b]0;x\x07", "\u202eb", "\x9bc"]),
    "code for its tokenizer": tokenizer_config(auto_map={"AutoTokenizer": ["code.Its", None]}),
    "an unknown tokenizer": tokenizer_config(tokenizer_class="Unheard"),
    "half precision": tensors(head__dense__bias=torch.zeros(32, dtype=torch.float16)),
    "a link to its tensors": lambda folder: (folder / TENSORS).symlink_to(
        (folder / TENSORS).rename(folder / "blob").name
    ),
    "files beside": text("exploit.py", "raise SystemExit"),
    "a pickle beside": text("adapter_model.bin", pickle.dumps(Exits())),
}

AT_ITS_WORD = {
    "no such backbone",
    "a backbone of its own",
    "a hub model",
    "no hub's name",
    "a backbone that is a pipe",
}
"""Refused for a backbone that nobody here has allowed: a registered model's word is taken."""
