"""Experiments, retrainings and schedules, read by our own loaders."""

import tempfile
from pathlib import Path
from typing import Any

import yaml

from components.config.loading import load_experiment
from components.config.retraining import load_retraining
from components.errors import UserError
from pipelines.scheduling.schedules import load_schedules
from tests.infra.command_lines import INFRA
from tests.infra.command_lines import problems_of as problems_of_command
from tests.infra.kinds.file_kind import FileKind, misspelt


def problems(path: Path, content: dict[str, Any]) -> list[str]:
    """What the loader says; of a retraining also its experiment, of a schedule its commands."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name, path.name)
        file.write_text(yaml.safe_dump(content), encoding="utf-8")
        try:
            if "schedules" in content:
                commands = [["prefixprop", *each.command] for each in load_schedules(file)]
                return [wrong for words in commands for wrong in problems_of_command(words)]
            if "backbone" in content:
                load_experiment(file)
            else:
                spec = load_retraining(file)
                (experiment,) = INFRA.rglob(Path(spec.experiment).name)
                load_experiment(experiment, spec.overrides)
        except UserError as error:
            return [str(error)]
        except ValueError:
            return [f"no file {content.get('experiment')} in infra/"]
    return []


def broken(path: Path, content: dict[str, Any]) -> dict[str, list[Any]]:
    """Misspelt keys; values of a wrong kind; a name of something that is not there."""
    keys = misspelt(content)
    if "schedules" in content:
        (schedule, *others) = content["schedules"]
        values = [{"schedules": [schedule | {"cron": "61 3 * * 0"}, *others]}]
        values.append({"schedules": [schedule | {"timezone": "Europe/Nowhere"}, *others]})
        words = ["retrian", *schedule["command"][1:]]
        names = [{"schedules": [schedule | {"command": words}, *others]}]
    elif "backbone" in content:
        values = [content | {"search": content["search"] | {"num_trials": -1}}]
        values.append(content | {"backbone": content["backbone"] | {"source": "hubb"}})
        names = [content | {"backbone": content["backbone"] | {"family": "no_such_family"}}]
    else:
        values = [content | {"min_new_documents": "many"}]
        names = [content | {"experiment": "no-such.yaml"}]
        names.append(content | {"overrides": ["cluster.no_such_setting=1"]})
    return {"a key": keys, "a value": values, "a name": names}


KIND = FileKind(
    (
        "kuberay/base/schedules.yaml",
        "kuberay/base/experiments/*.yaml",
        "kuberay/overlays/*/w*.yaml",
    ),
    yaml.safe_load,
    problems,
    broken,
)
