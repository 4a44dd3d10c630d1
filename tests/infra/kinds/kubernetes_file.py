"""Documents of Kubernetes and KubeRay."""

import copy
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.infra.kinds.file_kind import WAYS, FileKind
from tests.infra.kubernetes_documents import ENUMERATIONS, pod_templates, scalars
from tests.infra.kubernetes_documents import problems_of as problems_of_document
from tests.infra.references import INFRA, Documents, containers, unused
from tests.infra.references import problems_of as problems_of_references

FREE = {
    *("labels", "annotations", "matchLabels", "nodeSelector", "selector", "data", "stringData"),
    *("requests", "limits"),
}
"""Maps whose keys are their author's."""
REFERENCES = ("claimName", "priorityClassName", "redisAddress", "mountPath.name")
Path_ = tuple[str | int, ...]


def documents_of(text: str) -> list[dict[str, Any]]:
    """The documents of a file, in their order."""
    return [each for each in yaml.load_all(text, yaml.CSafeLoader) if each is not None]


def problems(path: Path, documents: Documents) -> list[str]:
    """Of each document, by itself and among those that are applied with it."""
    found = [problem for each in documents for problem in problems_of_document(each)]
    if found:
        return found
    together = [*documents, *documents_beside(path)]
    # those beside it too: a name that they ask for may be gone
    return [
        problem
        for each in together
        if "kind" in each
        for problem in (*problems_of_references(each, together), *unused(each, together))
    ]


@functools.cache
def documents_beside(path: Path) -> Documents:
    """The documents of the other files of the same application, with generated config maps."""
    application = next(each for each in path.parents if each.parent in (INFRA, INFRA / "mlflow"))
    found = []
    for file in sorted(application.rglob("*.yaml")):
        if file.name == "kustomization.yaml":
            found += _generated(yaml.safe_load(file.read_text(encoding="utf-8")))
        elif file != path:
            read = documents_of(file.read_text(encoding="utf-8"))
            found += [each for each in read if "apiVersion" in each]
    return found


def _generated(kustomization: dict[str, Any]) -> list[dict[str, Any]]:
    made = [
        {"kind": "ConfigMap", "metadata": {"name": each["name"]}}
        for each in kustomization.get("configMapGenerator", [])
    ]
    patches = [yaml.safe_load(each["patch"]) for each in kustomization.get("patches", [])]
    return made + [each for each in patches if isinstance(each, dict)]


def broken(path: Path, documents: Documents) -> dict[str, list[Any]]:
    """A key at a time, a value at a time, a name at a time."""
    changes = dict(zip(WAYS, (_wrong_keys, _wrong_values, _wrong_names), strict=True))
    return {
        way: [
            [*documents[:index], changed, *documents[index + 1 :]]
            for index, document in enumerate(documents)
            for changed in change(document)
        ]
        for way, change in changes.items()
    }


def _wrong_keys(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in _maps(document):
        for key in _at(document, path):
            changed = copy.deepcopy(document)
            place = _at(changed, path)
            place[f"{key}x"] = place.pop(key)
            yield changed


def _maps(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    if isinstance(value, dict):
        yield path
        for key, each in value.items():
            if key not in FREE:
                yield from _maps(each, (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _maps(each, (*path, index))


def _wrong_values(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    governed = {end.split(".")[-1] for end in ENUMERATIONS}
    governed |= {"kind", "apiVersion", "schedule", "timeZone", "sizeLimit"}
    for path, value in scalars(document):
        keys = [key for key in path if isinstance(key, str)]
        if keys[-1] in governed or set(keys[-2:-1]) & {"requests", "limits"}:
            if keys[-1] == "type" and keys[-2] not in ("seccompProfile", "onPodConditions", "spec"):
                continue
            yield _with(document, path, "61 * * * *" if keys[-1] == "schedule" else f"{value}x")


def _wrong_names(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path, value in scalars(document):
        keys = [key for key in path if isinstance(key, str)]
        mount = keys[-2:] == ["volumeMounts", "name"]
        secret = keys[-1] == "name" and keys[-2:-1] in (
            ["secretRef"],
            ["secretKeyRef"],
            ["configMap"],
        )
        variable = keys[-2:] == ["env", "name"]
        label = "matchLabels" in keys[:-1] and "podSelector" in keys
        selector = keys[-2:-1] == ["selector"] and document["kind"] == "Service"
        named = keys == ["metadata", "name"] and document["kind"] in (
            *("PersistentVolumeClaim", "PriorityClass"),
            *(("Service",) if "redis" in value else ()),
        )
        if mount or secret or variable or label or selector or named or keys[-1] in REFERENCES:
            yield _with(document, path, f"{value}x")
    if document["kind"] == "RayJob":
        command = document["spec"]["entrypoint"]
        for wrong in (f"{command} --no-such-option", command.replace("search", "serach", 1)):
            yield _with(document, ("spec", "entrypoint"), wrong)
    yield from _wrong_commands(document)


def _wrong_commands(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    changed = copy.deepcopy(document)
    for template in pod_templates(changed):
        for container in containers(template):
            for part in ("args", "command"):
                if not container.get(part) or container[part][0].startswith("/bin/"):
                    continue
                kept = list(container[part])
                container[part] = ["no-such-program; " + kept[0], *kept[1:]]
                if part == "command":
                    container[part] = ["no-such-program", *kept]
                yield copy.deepcopy(changed)
                container[part] = kept


def _with(document: dict[str, Any], path: Path_, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    _at(changed, path[:-1])[path[-1]] = value
    return changed


def _at(value: Any, path: Path_) -> Any:
    for each in path:
        value = value[each]
    return value


KIND = FileKind(
    ("kuberay/base/*.yaml", "kuberay/search/*.yaml", "mlflow/kubernetes/*.yaml"),
    documents_of,
    problems,
    broken,
)
