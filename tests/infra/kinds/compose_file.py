"""Compose files, read by the strict parser of the compose-spec package."""

import copy
import re
from pathlib import Path
from typing import Any

import yaml
from compose_spec import PyCompose

from tests.infra.command_lines import problems_of_script
from tests.infra.environment_variables import problems_of as problems_of_variables
from tests.infra.kinds.file_kind import FileKind

VARIABLE = re.compile(r"(?<!\$)\$\{(\w+):([-?])([^}]*)\}")


def problems(path: Path, content: dict[str, Any]) -> list[str]:
    """Of the file as `docker compose` reads it, and of what its services run and read."""
    text = VARIABLE.sub(lambda found: found[3] if found[2] == "-" else "x", yaml.safe_dump(content))
    try:
        PyCompose.from_yaml(text).validate()
    except Exception as error:  # noqa: BLE001  (what the parser raises has no name of its own)
        return [str(error)]
    found = []
    for name, service in content["services"].items():
        script = "\n".join(service["command"]) if _runs_a_shell(service) else ""
        for wrong in (
            *problems_of_script(script.replace("$$", "$")),
            *problems_of_variables(list(service.get("environment", {})), script),
            *_unset(service, script),
            *_not_there(path, service, content),
        ):
            found.append(f"{name}: {wrong}")
    return found


def _runs_a_shell(service: dict[str, Any]) -> bool:
    return "/bin/sh" in (*service.get("entrypoint", []), *service.get("command", [])[:1])


def _unset(service: dict[str, Any], script: str) -> list[str]:
    used = set(re.findall(r"\$\$([A-Z_]+)", script)) - set(service.get("environment", {}))
    return [f"${name} is not set" for name in sorted(used)]


def _not_there(path: Path, service: dict[str, Any], content: dict[str, Any]) -> list[str]:
    """Services and volumes that are named, and the target of an image that is built."""
    found = [
        f"no service {each}" for each in set(service.get("depends_on", {})) - _services(content)
    ]
    for volume in service.get("volumes", []):
        if volume.partition(":")[0] not in content["volumes"]:
            found.append(f"no volume {volume}")
    if build := service.get("build"):
        dockerfile = path.parent / build["context"] / build["dockerfile"]
        if not dockerfile.is_file():
            found.append(f"no file {build['dockerfile']}")
        elif f" AS {build['target']}\n" not in dockerfile.read_text(encoding="utf-8"):
            found.append(f"no target {build['target']}")
    return found


def _services(content: dict[str, Any]) -> set[str]:
    return set(content["services"])


def broken(path: Path, content: dict[str, Any]) -> dict[str, list[Any]]:
    """Keys of services misspelt; conditions; options of commands, variables and names."""
    keys, values, names = [], [], []
    for service in content["services"]:
        for key in content["services"][service]:
            changed = copy.deepcopy(content)
            place = changed["services"][service]
            place[f"{key}x"] = place.pop(key)
            keys.append(changed)
        for other in content["services"][service].get("depends_on", {}):
            if isinstance(content["services"][service]["depends_on"], dict):
                changed = copy.deepcopy(content)
                changed["services"][service]["depends_on"][other]["condition"] = "service_well"
                values.append(changed)
        for variable in content["services"][service].get("environment", {}):
            changed = copy.deepcopy(content)
            environment = changed["services"][service]["environment"]
            environment[f"{variable}X"] = environment.pop(variable)
            names.append(changed)
    for old, new in (
        ("mlflow server", "mlflow serve"),
        ("--allowed-hosts", "--allowed-host"),
        ("target: mlflow", "target: mlflows"),
    ):
        text = yaml.safe_dump(content, width=10_000)
        assert old in text
        names.append(yaml.safe_load(text.replace(old, new)))
    return {"a key": keys, "a value": values, "a name": names}


KIND = FileKind(("mlflow/compose.yaml",), yaml.safe_load, problems, broken)
