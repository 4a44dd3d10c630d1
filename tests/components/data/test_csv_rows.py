import csv
import re

import pytest

from components.data.documents import Problem, Row
from components.data.files import read_rows
from components.errors import DataError

COLUMNS = ("text", "label", "id")


def read(path, content, columns=COLUMNS):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_rows(str(path), "data.files.train", columns))


def table(rows, header="text,label"):
    return header + "\n" + "".join(f"{row}\n" for row in rows)


ROWS = [f"boat {number} calls at dawn,{'in' if number % 2 else 'out'}" for number in range(8)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "boats.csv"


def test_a_quote_that_is_never_closed_names_the_row_it_stands_in(path):
    rows = [*ROWS[:3], f'"{ROWS[3]}', *ROWS[4:]]
    with pytest.raises(
        DataError, match=r"boats\.csv row 5: a quoted field opens here and is not closed .* line 9"
    ):
        read(path, table(rows))


def test_the_row_counts_records_and_the_line_is_named_where_it_differs(path):
    rows = ['"two\nlines",in', *ROWS[:2], f'"{ROWS[2]}', ROWS[3], f'"{ROWS[4]}', *ROWS[5:]]
    with pytest.raises(
        DataError,
        match=r"row 5 \(line 6\): a quoted field opens here and goes on to line 8, where text "
        r"follows",
    ):
        read(path, table(rows))


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("text,label", [f"{text},{label}" for text, label in (row.split(",") for row in ROWS)]),
        ("label,text", [f"{label},{text}" for text, label in (row.split(",") for row in ROWS)]),
        ("id,text", [f"boat-{place},{row.split(',')[0]}" for place, row in enumerate(ROWS)]),
    ],
)
@pytest.mark.parametrize(("opened", "closed"), [(1, 4), (2, 3), (0, 7)])
def test_two_stray_quotes_that_make_one_legal_record_of_several_rows_are_found(
    path, header, rows, opened, closed
):
    place = header.split(",").index("text")
    fields = [row.split(",") for row in rows]
    fields[opened][place] = '"' + fields[opened][place]
    fields[closed][place] += '"'
    found = read(path, table([",".join(each) for each in fields], header))
    (problem,) = [each for each in found if isinstance(each, Problem)]
    assert problem.row == opened + 2
    assert f"holds {closed - opened + 1} lines that each read as a row" in problem.found
    assert len(found) == len(rows) - (closed - opened)


def test_the_text_is_not_told_from_rows_by_numbers_that_do_not_count_unless_there_are_many(path):
    ids = [503, 77, 9120, 15, 664, 2, 88, 41]
    rows = [f"{number},calls at {number}" for number in ids]
    two = [*rows[:2], '15,"calls at 15', '664,calls at 664"', *rows[5:]]
    assert all(isinstance(row, Row) for row in read(path, table(two, "id,text")))
    six = ['503,"calls at 503', *rows[1:5], '2,calls at 2"', *rows[6:]]
    problem = read(path, table(six, "id,text"))[0]
    assert isinstance(problem, Problem) and "holds 6 lines" in problem.found


@pytest.mark.parametrize("text", ["eggs\n2, 3 or 4", "1990\n1991, by Bob", "a\nin, out"])
@pytest.mark.parametrize("header", ["id,text", "text,label", "label,text"])
def test_a_text_that_only_resembles_rows_is_a_text(path, text, header):
    names, lines = header.split(","), []
    for number, row in enumerate(2 * ROWS):
        values = dict(zip(["text", "label", "id"], [*row.split(","), str(number)], strict=True))
        lines.append(",".join(values[name] for name in names))
    lines.append(",".join({"text": f'"{text}"', "label": "in", "id": "90"}[name] for name in names))
    found = read(path, table(lines, header))
    assert [row.values["text"] for row in found if isinstance(row, Row)][-1] == text


@pytest.mark.parametrize(
    "text",
    [
        "Dear Ann,\nmany thanks\nBob",
        "Dear Ann, good\nday, Bob",
        "a,b\nc,d\ne,f",
        'says "stop", and\n""goes""',
        "\n\n,\n",
        "ends\r\nwith CR LF\r\n",
        "word " * 2_000_000,
    ],
)
def test_texts_with_line_ends_commas_and_quotes_are_read_as_they_are(path, text):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([[text, "in"], ["short", "out"], [text, "out"]])
    found = read(path, path.read_bytes())
    assert [row.values["text"] for row in found] == [text, "short", text]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\r\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("quoted", [True, False])
def test_a_mark_quoted_names_and_every_kind_of_line_end_are_read(path, end, mark, quoted):
    rows = [["text", "label"], *(row.split(",") for row in ROWS)]
    lines = [",".join(f'"{field}"' if quoted else field for field in row) for row in rows]
    found = read(path, mark + end.join(lines) + end)
    assert [(row.values["text"], row.values["label"]) for row in found] == [
        tuple(row.split(",")) for row in ROWS
    ]


def test_spaces_after_the_commas_belong_to_no_value(path):
    found = read(path, 'text, label, id\n"at dawn, or so", "in", 1\nlater,  out, 2\n')
    assert [dict(row.values) for row in found] == [
        {"text": "at dawn, or so", "label": "in", "id": "1"},
        {"text": "later", "label": "out", "id": "2"},
    ]


def test_a_name_is_found_by_what_is_seen_of_it(path):
    (row,) = read(path, " text\u200b,la\u00adbel\ncalls,in\n")
    assert dict(row.values) == {"text": "calls", "label": "in"}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("text,label,label", "columns 2 and 3 are both named 'label'"),
        ("text,text,label", "columns 1 and 2 are both named 'text'"),
        ("text,label,label ", "columns 2 and 3"),
        ("text,label,\u200blabel", r"columns 2 and 3, 'label' and '\\u200blabel', look the same"),
    ],
)
def test_two_columns_of_a_mapped_name_are_refused(path, header, message):
    with pytest.raises(DataError, match=f"row 1: {message}.*keep one of them"):
        read(path, table(["a,b,c"], header))


def test_columns_that_nobody_mapped_may_repeat_or_have_no_name(path):
    (row,) = read(path, ",note,text,note,label,\n0,a,calls,b,in,\n")
    assert (row.values["text"], row.values["label"]) == ("calls", "in")


@pytest.mark.parametrize(
    ("line", "reason", "message"),
    [
        ("calls at dawn, in port,in", "broken_row", "3 fields .*between double quotes"),
        ("calls at dawn,in,,", "broken_row", "4 fields .*delete the commas at its end"),
        ("calls at dawn", "broken_row", "1 fields .*add what is missing"),
        ("text,label", "broken_row", "the header stands here again; delete the row"),
        ("\ufefftext,label", "broken_row", "the header stands here again"),
        ("calls\0,in", "bad_encoding", "NUL bytes"),
    ],
)
def test_a_broken_row_is_named_and_the_others_are_read(path, line, reason, message):
    found = read(path, table([*ROWS, line, *ROWS]))
    (problem,) = [each for each in found if isinstance(each, Problem)]
    assert (problem.reason, problem.row) == (reason, len(ROWS) + 2)
    assert re.search(message, str(problem))
    assert len(found) == 2 * len(ROWS) + 1


def test_an_empty_line_of_a_single_column_is_an_empty_text_but_at_the_end(path):
    found = read(path, "text\na\n\nb\n\n\n")
    assert [(row.number, row.values["text"]) for row in found] == [(2, "a"), (3, ""), (4, "b")]
    several = read(path, "text,label\na,x\n\nb,y\n")
    assert [row.number for row in several] == [2, 4]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no header in the first line"),
        ("\n\n", "no header in the first line"),
        ("sep=,\ntext,label\ncalls,in\n", "row 1: 'sep=' is a note for Excel.*delete the line"),
        ("text;label\ncalls, at dawn;in\n", "separated by ';'; write the file with commas"),
        ("text\tlabel\ncalls\tin\n", r"separated by '\\t'"),
        ('{"text": "a", "label": "b"}\n', r"JSON, not CSV; .*name it \.jsonl"),
        ('text,label\n"a "word" here",in\n', "row 2: text follows the closing quote of a field"),
        ('text,label\n"a \\"word\\" here",in\n', "row 2: text follows the closing quote"),
    ],
)
def test_a_file_that_is_no_table_with_commas_is_refused(path, content, message):
    with pytest.raises(DataError, match=message):
        read(path, content)


def test_rows_with_every_kind_of_text_stay_rows(path):
    assert all(isinstance(row, Row) for row in read(path, table(ROWS)))
