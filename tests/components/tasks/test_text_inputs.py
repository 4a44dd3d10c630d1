import json

import pytest

from components.errors import DataError
from components.tasks.text_inputs import text_inputs


def asked(path, content, **columns):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(text_inputs(path, **{"text_column": "text", "id_column": "id", **columns}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('id,text\n1,calls\n2,"at dawn\n3,leaves\n', "row 3: a quoted field opens here"),
        ('id,text\n1,"calls\n2,at dawn"\n3,leaves\n4,later\n', "row 2: .* 2 lines that each read"),
        ("id,text\n1,calls, and\n", "row 2: 3 fields where the header names 2"),
        ("id,text,text\n1,calls,leaves\n", "row 1: columns 2 and 3 are both named 'text'"),
        ("text\ncalls\n\nleaves\n", "row 3: column 'text' holds an empty text"),
        ("id,text\n1,\u200b\ufeff\n", "row 2: column 'text' holds an empty text"),
        (b"id,text\ncaf\xe9,calls\n", "row 2: column 'id' has bytes that are not UTF-8"),
        (
            "id,body\n1,calls\n",
            "row 2: no column 'text'; the columns are id, body. .*--text-c",
        ),
        ("", "no header in the first line"),
    ],
)
def test_no_row_is_left_out_without_a_word(tmp_path, content, message):
    with pytest.raises(DataError, match=rf"in\.csv.* ?{message}"):
        asked(tmp_path / "in.csv", content)


def test_half_a_character_is_named_with_what_mends_it(tmp_path):
    content = json.dumps({"text": "calls", "id": "\ud83d"})
    with pytest.raises(DataError, match=r"escape \\ud83d without its other half; .*both halves"):
        asked(tmp_path / "in.jsonl", content)


def test_a_mark_and_quoted_names_are_read_in_order(tmp_path):
    content = '\ufeff"id","text"\r\n"1","calls\r\nat dawn"\r\n"2","leaves"\r\n'
    assert asked(tmp_path / "in.csv", content) == [("1", "calls\r\nat dawn"), ("2", "leaves")]
    assert asked(tmp_path / "in.csv", content, text_column="id", id_column="none") == [
        ("in.csv:2", "1"),
        ("in.csv:3", "2"),
    ]
