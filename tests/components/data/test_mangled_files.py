"""Whatever happened to a file of documents: every document that is in it, or one line that says
where it is broken.
"""

import gzip
import re
from collections import Counter, defaultdict

import pyarrow.parquet as pq

from components.data.settings import ColumnsConfig, DataConfig, FilesConfig
from components.data.sources import source_of
from components.errors import DataError
from components.tasks.labelled_text import labelled_texts
from tests.components.data.mangled import MARK, Mangled, mangled

INPUTS = 2000
LINE_ENDS = re.compile(r"\r\n|\r|\n")


def test_mangled_files_give_all_their_documents_or_one_line_that_names_the_place(tmp_path):
    outcomes: Counter[str] = Counter()
    for seed in range(INPUTS):
        file = mangled(seed)
        try:
            outcome = _outcome(file, tmp_path)
            assert outcome == "documents" or file.done, "a whole file was refused"
        except Exception as error:
            raise AssertionError(f"seed {seed}, {file.name}: {', '.join(file.done)}") from error
        outcomes[outcome] += 1
    assert set(outcomes) == {"refused", "invalid rows", "documents"}
    assert min(outcomes.values()) > INPUTS / 10


def _outcome(file: Mangled, folder) -> str:
    path = folder / file.name
    path.write_bytes(file.content)
    config = DataConfig(files=FilesConfig(train=str(path)))
    try:
        rows = source_of(config).read(config, None)["train"]
        documents, problems = labelled_texts(rows, ColumnsConfig())
    except DataError as error:
        _check_line(str(error), str(path))
        return "refused"
    for problem in problems:
        _check_line(str(problem), f"{path} row ")
    if file.name.endswith(".parquet"):
        assert len(documents) + len(problems) == pq.ParquetFile(path).metadata.num_rows
    else:
        _check_marks(file, documents, complete=not problems)
    return "invalid rows" if problems else "documents"


def _check_line(message: str, place: str) -> None:
    assert place in message
    assert message.isprintable() and len(message) < 1000


def _check_marks(file: Mangled, documents, *, complete: bool) -> None:
    """Marks of different lines are in different documents; all of them, unless rows were named."""
    packed = file.name.endswith(".gz")
    content = gzip.decompress(file.content) if packed else file.content
    lines = defaultdict(list)
    for number, line in enumerate(LINE_ENDS.split(content.decode("utf-8", "surrogateescape"))):
        for mark in MARK.findall(line):
            lines[mark].append(number)
    found: Counter[str] = Counter()
    for document in documents:
        marks = MARK.findall(f"{document.text} {document.label} {document.id}")
        assert len({tuple(lines[mark]) for mark in marks}) <= 1, f"joined in row {document.row}"
        found.update(marks)
    if complete:
        assert all(found[mark] >= len(numbers) for mark, numbers in lines.items()), "lost"
