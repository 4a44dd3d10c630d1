import shlex

import pytest

from components.config.loading import apply_override
from components.data.columns import RepeatedColumn, no_such_column, positions
from components.data.settings import ColumnsConfig

NAMES = """lable|Label|LABEL|label: 1|yes label|#label|label's|la"bel|labe\u0301l|label=1|*label|
- label|label\\n|[label|label$HOME"""


@pytest.mark.parametrize("name", NAMES.replace("\n", "").split("|"))
def test_the_advised_mapping_arrives_as_the_name_of_the_column(name):
    message = no_such_column("boats.csv", "label", "label", ["text", name])
    option, value = shlex.split(message[message.index("--set ") :])
    values = {}
    apply_override(values, value)
    assert option == "--set"
    columns = ColumnsConfig(**values["data"]["columns"])
    assert positions(["text", name], columns.mapped) == {"text": 0, columns.label: 1}


def test_without_a_near_name_no_name_is_advised():
    message = no_such_column("boats.csv", "label", "label", ["text", "port"])
    assert message.endswith("--set data.columns.label=NAME, or name it so in the file")


def test_many_columns_are_listed_on_one_bounded_line():
    message = no_such_column("boats.csv", "label", "label", [f"\x1b[{n}m" for n in range(5000)])
    assert message.isprintable() and len(message) < 500
    assert "and 4980 more" in message


def test_only_mapped_names_must_be_unique():
    assert positions(["a", "text", "a"], ("text", "label")) == {"text": 1}
    with pytest.raises(RepeatedColumn, match="columns 1 and 3 are both named 'a'"):
        positions(["a", "text", "a"], ("a",))
