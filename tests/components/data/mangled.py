"""Files of documents as they come, and as they come when something went wrong on the way: seeded.

Every document holds one mark, <12>, in its first line. So what became of each can be told of any
bytes: a mark that is in the file is in a document of its own, or the file was refused.
"""

import csv
import gzip
import io
import json
import random
import re
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

MARK = re.compile(r"<\d+>")
WORDS = ["harbour", "ledger", '"vessel"', "tariff,", "caf\u00e9", "na\u0301ive", '12"', "it's"]
INSERTED = ['"', ",", "\n", "\r", "\0", '""', "\ufeff", "{", "}", "[", "\\", ";", "\u200b", "\x1b"]
ENCODINGS = ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "utf-8-sig"]


@dataclass(frozen=True)
class Mangled:
    """A file: its name, its bytes, and what was done to it."""

    name: str
    content: bytes
    done: tuple[str, ...]


def mangled(seed: int) -> Mangled:
    """One file, whole in one of eight and mangled once or twice in the others."""
    draw = random.Random(seed)
    kind = draw.choice(["csv", "csv", "jsonl", "jsonl", "parquet"])
    name, content, done = f"documents.{kind}", MAKERS[kind](draw, documents(draw)), []
    for _ in range(draw.choice([0, 1, 1, 1, 1, 1, 2, 2])):
        change = draw.choice(BYTES if kind == "parquet" else [*BYTES, *TEXTS, *TEXTS])
        content = change(draw, content)
        done.append(change.__name__)
    if kind != "parquet" and draw.random() < 0.3:
        name, content = f"{name}.gz", gzip.compress(content, mtime=0)
        if draw.random() < 0.5:
            change = draw.choice(BYTES)
            content = change(draw, content)
            done.append(f"{change.__name__} of gzip")
    if draw.random() < 0.05:
        name = draw.choice(["documents.csv", "documents.jsonl", "d.parquet", "d.csv.gz", "D.CSV"])
        done.append(f"as {name}")
    return Mangled(name, content, tuple(done))


def documents(draw):
    """Rows of a few columns in any order; with lines in some texts."""
    lines = draw.random() < 0.4
    rows = []
    for number in range(draw.randint(2, 30)):
        words = [draw.choice(WORDS) for _ in range(draw.randint(1, 12))]
        text = f"<{number}> " + " ".join(words)
        if lines and draw.random() < 0.3:
            text += "\n" + " ".join(words) + draw.choice(["\n", "\r\n", "", "\n\n"]) + "end"
        rows.append({"text": text, "label": draw.choice(["neg", "pos", "m\u00fcd"])})
    names = ["text", "label"]
    if draw.random() < 0.5:
        names.append("id")
    if draw.random() < 0.3:
        names.append("note")
    draw.shuffle(names)
    for number, row in enumerate(rows):
        row |= {"id": f"d{number}", "note": draw.choice(["", "a", "b, c"])}
    return [{name: row[name] for name in names} for row in rows]


def as_csv(draw, rows):
    file = io.StringIO(newline="")
    end = draw.choice(["\n", "\r\n", "\r"])
    # the writer itself puts LF between quotes only where it ends lines
    quoting = csv.QUOTE_ALL if end == "\r" else draw.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    writer = csv.DictWriter(file, list(rows[0]), quoting=quoting, lineterminator=end)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode(draw.choice(["utf-8", "utf-8-sig"]))


def as_jsonl(draw, rows):
    ascii_only, end = draw.random() < 0.5, draw.choice(["\n", "\r\n"])
    lines = [json.dumps(row, ensure_ascii=ascii_only) + end for row in rows]
    return "".join(lines).encode(draw.choice(["utf-8", "utf-8-sig"]))


def as_parquet(draw, rows):
    table = pa.Table.from_pylist(rows)
    for name in table.column_names:
        kind = draw.choice([None, None, "dictionary", pa.binary(), pa.large_string()])
        place, column = table.column_names.index(name), table[name]
        if kind == "dictionary":
            column = column.dictionary_encode()
        elif kind is not None:
            column = column.cast(kind)
        table = table.set_column(place, name, column)
    file = io.BytesIO()
    options = {
        "compression": draw.choice(["none", "snappy", "gzip", "zstd"]),
        "row_group_size": draw.choice([3, 10, 1000]),
        "write_page_checksum": draw.random() < 0.3,
        "use_dictionary": draw.random() < 0.5,
        "data_page_version": draw.choice(["1.0", "2.0"]),
    }
    pq.write_table(table, file, **options)
    return file.getvalue()


MAKERS = {"csv": as_csv, "jsonl": as_jsonl, "parquet": as_parquet}


def cut(draw, content):
    return content[: draw.randint(0, len(content))]


def without_a_piece(draw, content):
    start = draw.randint(0, len(content))
    return content[:start] + content[start + draw.choice([1, 2, 10, 100]) :]


def with_a_piece_twice(draw, content):
    start = draw.randint(0, len(content))
    end = start + draw.choice([1, 10, 100, 1000])
    return content[:end] + content[start:]


def flipped(draw, content):
    changed = bytearray(content)
    for _ in range(min(len(content), draw.choice([1, 1, 3, 20]))):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def overwritten(draw, content):
    start, length = draw.randint(0, len(content)), draw.choice([1, 4, 40])
    value = draw.choice([b"\0", b"\xff", b"="])
    return content[:start] + value * length + content[start + length :]


def with_characters(draw, content):
    for _ in range(draw.choice([1, 1, 2, 2, 5])):
        start = draw.randint(0, len(content))
        content = content[:start] + draw.choice(INSERTED).encode() + content[start:]
    return content


def with_quotes_at_fields(draw, content):
    """As somebody types them: where a field begins, where one ends."""
    ends = [found.start() for found in re.finditer(rb"[,\n]", content)]
    for place in sorted(draw.sample(ends, min(len(ends), draw.choice([1, 2, 2, 3]))), reverse=True):
        place += draw.choice([0, 1])
        content = content[:place] + b'"' + content[place:]
    return content


def encoded_otherwise(draw, content):
    text = content.decode("utf-8", "surrogateescape")
    if draw.random() < 0.3:
        return text.encode("latin-1", "replace")
    return text.encode(draw.choice(ENCODINGS), "replace")


def with_other_line_ends(draw, content):
    return content.replace(b"\r\n", b"\n").replace(b"\n", draw.choice([b"\r", b"\r\n", b"\r\r\n"]))


def twice(draw, content):
    return content + content


def with_lines_in_other_order(draw, content):
    lines = content.splitlines(keepends=True)
    draw.shuffle(lines)
    return b"".join(lines)


def with_columns_renamed(draw, content):
    old = draw.choice([b"text", b"label", b"id", b"note"])
    new = draw.choice(["text", "label", " label", "", "id", "te\u0301xt", "\u200blabel"])
    return content.replace(old, new.encode(), draw.choice([1, 10**6]))


def with_values_of_another_kind(draw, content):
    old = draw.choice([b'"neg"', b'"pos"', b"neg", b'": "'])
    values = [b"NaN", b"9" * 5000, b"-Infinity", b"[" * 3000 + b"]" * 3000, b'"\\ud800"', b"null"]
    values += [b"1e999", b"{}", b'{"a": 1, "a": 2}', b"true", b'"\\udc80"', b'""']
    return content.replace(old, draw.choice(values), draw.choice([1, 10**6]))


BYTES = [cut, without_a_piece, with_a_piece_twice, flipped, overwritten]
TEXTS = [
    with_characters,
    with_quotes_at_fields,
    encoded_otherwise,
    with_other_line_ends,
    twice,
    with_lines_in_other_order,
    with_columns_renamed,
    with_values_of_another_kind,
]
