"""What documents of Kubernetes say of each other: claims, config maps, secrets, services, priority
classes, volumes, labels. A name that nothing bears leaves a pod waiting without an error.
"""

import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.infra.command_lines import problems_of as problems_of_command
from tests.infra.command_lines import problems_of_script
from tests.infra.environment_variables import problems_of as problems_of_variables
from tests.infra.kubernetes_documents import pod_templates

INFRA = Path(__file__).resolve().parents[2] / "infra"
Documents = Sequence[dict[str, Any]]
BY_OPERATORS = (
    {"ray.io/is-ray-node": "yes", "ray.io/node-type": "head"},
    {"app.kubernetes.io/name": "kuberay-operator"},
)
"""Labels of pods that no file here makes: KubeRay's on Ray's pods, and of its own pod."""
SECRETS_OF_OPERATORS = {"prefixprop"}
"""The token that KubeRay makes for the RayCluster of that name."""
NAMED = {
    "persistentVolumeClaim": ("claimName", "PersistentVolumeClaim"),
    "configMap": ("name", "ConfigMap"),
    "configMapKeyRef": ("name", "ConfigMap"),
    "configMapRef": ("name", "ConfigMap"),
}


def problems_of(document: dict[str, Any], all_documents: Documents) -> list[str]:
    """What one document refers to and neither `all_documents` nor a README's commands make, and
    what its containers run and read.
    """
    found = [
        *_unknown_names(document, all_documents),
        *_unknown_secrets(document),
        *_unknown_labels(document, all_documents),
        *_unknown_hosts(document, all_documents),
    ]
    for template in pod_templates(document):
        volumes = {each["name"] for each in template["spec"].get("volumes", [])}
        volumes |= {each["metadata"]["name"] for each in _find(document, "volumeClaimTemplates")}
        for container in containers(template):
            found += _of_container(container, volumes)
    for options in _find(document, "rayStartParams"):
        words = [f"--{name}={value}" for name, value in options.items()]
        found += problems_of_command(["ray", "start", *words])
    if document.get("kind") == "RayJob":
        found += problems_of_script(document["spec"]["entrypoint"])
    return [f"{document.get('kind')}: {each}" for each in found]


def unused(document: dict[str, Any], all_documents: Documents) -> list[str]:
    """Whether the document is one that others name, and none does."""
    kind, name = document.get("kind"), document["metadata"].get("name")
    if kind == "PriorityClass":
        users = {each for other in all_documents for each in _find(other, "priorityClassName")}
    elif kind in ("PersistentVolumeClaim", "ConfigMap"):
        users = {used for other in all_documents for used, of in _names(other) if of == kind}
    else:
        return []
    return [] if name in users else [f"{kind} {name} is not used"]


def containers(template: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of a pod, the ones that run before the others too."""
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


@functools.cache
def secrets_to_make() -> dict[str, set[str]]:
    """Name of a secret -> its keys, from the `kubectl create secret` commands of READMEs."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in INFRA.rglob("*.md"))
    text = re.sub(r"\\\n\s*", " ", text)
    made: dict[str, set[str]] = {}
    for name, rest in re.findall(r"create secret generic (\S+)(.*)", text):
        keys = re.findall(r"--from-(?:literal|file)=[\"']?([\w.-]+)=", rest)
        made.setdefault(name, set()).update(keys)
    return made


def _of_container(container: dict[str, Any], volumes: set[str]) -> list[str]:
    command = [*container.get("command", []), *container.get("args", [])]
    shell = command[:2] in (["/bin/sh", "-c"], ["/bin/bash", "-c"])
    script = "\n".join(command[2:]) if shell else " ".join(command)
    names = [each["name"] for each in container.get("env", [])]
    found = problems_of_variables(names, script)
    found += problems_of_script(script) if shell else problems_of_command(command)
    for mount in container.get("volumeMounts", []):
        if mount["name"] not in volumes:
            found.append(f"{container['name']}: no volume '{mount['name']}'")
    given = {*names, *_keys_of_secrets(container)}
    for name in set(re.findall(r"(?<!\$)\$\{?([A-Z][A-Z0-9_]+)", script)) - given:
        found.append(f"{container['name']}: ${name} is not set")
    return found


def _keys_of_secrets(container: dict[str, Any]) -> set[str]:
    made = secrets_to_make()
    names = [each["secretRef"]["name"] for each in container.get("envFrom", [])]
    return {key for name in names for key in made.get(name, set())}


def _names(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, kind) of every document that this one mounts or reads."""
    for key, (field, kind) in NAMED.items():
        for each in _find(document, key):
            yield each[field], kind


def _unknown_names(document: dict[str, Any], all_documents: Documents) -> list[str]:
    there = {(each["metadata"].get("name"), each["kind"]) for each in all_documents}
    classes = {(name, "PriorityClass") for name in _find(document, "priorityClassName")}
    asked = {*_names(document), *classes}
    return [f"no {kind} is named '{name}'" for name, kind in sorted(asked - there)]


def _unknown_secrets(document: dict[str, Any]) -> list[str]:
    made, found = secrets_to_make(), []
    for reference in [*_find(document, "secretRef"), *_find(document, "secretKeyRef")]:
        name, key = reference["name"], reference.get("key")
        if name in SECRETS_OF_OPERATORS:
            continue
        if name not in made or (key is not None and key not in made[name]):
            found.append(f"no README makes the secret '{name}' {key or ''}")
    return found


def _unknown_labels(document: dict[str, Any], all_documents: Documents) -> list[str]:
    """Selectors that select no pod."""
    pods = [template.get("metadata", {}) for each in all_documents for template in _pods(each)]
    labels = [pod.get("labels", {}) for pod in pods] + list(BY_OPERATORS)
    selectors = [each.get("matchLabels", {}) for each in _find(document, "podSelector")]
    if document["kind"] == "Service":
        selectors.append(document["spec"]["selector"])
    return [
        f"no pod has the labels {selector}"
        for selector in selectors
        if not any(selector.items() <= each.items() for each in labels)
    ]


def _pods(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from pod_templates(document.get("spec", {}))


def _unknown_hosts(document: dict[str, Any], all_documents: Documents) -> list[str]:
    there = {
        f"{each['metadata']['name']}:{port['port']}"
        for each in all_documents
        if each["kind"] == "Service"
        for port in each["spec"]["ports"]
    }
    return [f"no service {address}" for address in set(_find(document, "redisAddress")) - there]


def _find(value: Any, key: str) -> Iterator[Any]:
    """Every value of `key`, however deep; lists one by one."""
    if isinstance(value, dict):
        for name, each in value.items():
            if name == key:
                yield from each if isinstance(each, list) else [each]
            yield from _find(each, key)
    elif isinstance(value, list):
        for each in value:
            yield from _find(each, key)
