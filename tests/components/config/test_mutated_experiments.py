"""2,000 experiment files with something wrong: a plan, or one line that starts with a path of the
file or the schema. What gets a plan can be trained.
"""

import json
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from components.backbones import inspect_backbone
from components.config import load_experiment, resolved
from components.errors import BackboneError, ConfigError, UserError
from components.planning import make_plan, search_wanted, trainings_of
from components.tuning.searchers import check_searcher
from tests.components.config.mutated_experiments import SCHEMA, mutated, paths_of, whole_experiment

FILES, SAMPLED = 2_000, 8
RIGHT_ENDS = (
    "completed",
    "DataError",
    "No adapter was trained: diverged",
    "ConfigError: data.max_tokens: ",
)
OF_THE_FILE = re.compile(
    r".* is not readable as YAML: |Repeated key '|.* holds \w+, expected a mapping|"
    r"The file: the key|.* is a comparison of methods"
)
FIRST = re.compile(r"^(?:Unknown config path '|Set )?'?([^\s:'=]*)")


def named(message: str, values: Any, text: str) -> bool:
    """Whether the line starts with a path that the file or the schema has, or is about the file."""
    if OF_THE_FILE.match(message):
        return True
    path = FIRST.match(message)
    assert path is not None
    known = {*SCHEMA, *paths_of(values), "search.space"}
    # Places in lists and below what should be a mapping end the path.
    parts = path[1].rstrip(",").split(".")
    told = any(".".join(parts[:count]) in known for count in range(len(parts), 0, -1))
    return told or (message.startswith("Unknown") and path[1] in text)


def planned(file: Path) -> Any:
    """As `prefixprop plan` does."""
    config = load_experiment(file)
    check_searcher(config)
    return config, make_plan(search_wanted(config), inspect_backbone(config.backbone))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any], Counter[str]]:
    """The folder, what got a plan, and how many files ended how."""
    folder, draw = tmp_path_factory.mktemp("mutated"), random.Random(20261128)
    whole, file = whole_experiment(folder), folder / "experiment.yaml"
    passed, ended = [], Counter[str]()
    for _ in range(FILES):
        text, values = mutated(whole, draw)
        file.write_text(text, encoding="utf-8", errors="surrogatepass")
        config, told = outcome(file)
        if config is not None:
            passed.append(config)
        else:
            check_line(told, text, values)
        ended["planned" if config is not None else type(told).__name__] += 1
    return folder, passed, ended


def outcome(file: Path) -> tuple[Any, UserError | None]:
    try:
        config, plan = planned(file)
    except UserError as error:
        return None, error
    assert plan.trials >= 1 and plan.points, file.read_text()
    return config, None


def check_line(error: UserError | None, text: str, values: Any) -> None:
    line = " ".join(str(error).split())
    assert isinstance(error, ConfigError | BackboneError), f"{text}\n{error!r}"
    about_backbone = isinstance(error, BackboneError) and "backbone" in line
    assert about_backbone or named(line, values, text), f"{text}\n{line}"
    assert len(line) < 4000, line


@pytest.mark.slow
def test_every_mutated_file_gets_a_plan_or_a_line_that_names_its_path(
    outcomes: tuple[Path, list[Any], Counter[str]],
) -> None:
    ended = outcomes[2]
    assert ended.total() == FILES
    # The mutations reach past the first check, and are no mere junk.
    assert ended["planned"] > 200 and ended["BackboneError"] > 0, ended


TRAIN = """
import json, sys
from pathlib import Path
from components.config import ExperimentConfig, validate
from components.errors import UserError
from pipelines.train import train
folder = Path(sys.argv[1])
for number, values in enumerate(json.loads((folder / "sampled.json").read_text())):
    config = validate(ExperimentConfig, {"name": "sampled"} | values)
    try:
        outcome = train(config, output=folder / f"out-{number}", say=lambda line: None).outcome
    except UserError as error:
        outcome = f"{type(error).__name__}: {error}"
    except RuntimeError as error:
        outcome = str(error)
    print(json.dumps([number, outcome]), flush=True)
"""


@pytest.mark.slow
def test_what_gets_a_plan_starts_training(
    outcomes: tuple[Path, list[Any], Counter[str]],
) -> None:
    """The first trial of a sample, one step each; values that a search replaces need not be right.
    Documents and tokenizer are looked at only then: a DataError is a right end, and so is a line
    that names data.max_tokens.
    """
    folder, passed, _ = outcomes
    sample = random.Random(5).sample(passed, SAMPLED)
    firsts = [next(trainings_of(config))[1] for config in sample]
    small = [
        config.model_copy(
            update={"training": config.training.model_copy(update={"max_steps": 1, "epochs": 1})}
        )
        for config in firsts
    ]
    (folder / "sampled.json").write_text(json.dumps([resolved(config) for config in small]))
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(folder)],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(found) == SAMPLED, done.stdout[-2000:]
    for number, outcome in found:
        fine = outcome.startswith(RIGHT_ENDS)
        assert fine, (resolved(small[number]), outcome)
