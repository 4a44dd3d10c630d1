"""Kustomizations, merged by kubectl's own Kustomize: what they make is checked as other documents
are. Kustomize passes over a patch that finds nothing to change, so that is looked for here.
"""

import copy
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.config.loading import load_experiment
from components.config.retraining import load_retraining
from components.errors import UserError
from tests.infra.kinds.file_kind import FileKind, misspelt
from tests.infra.kubernetes_documents import problems_of as problems_of_document
from tests.infra.references import INFRA, unused
from tests.infra.references import problems_of as problems_of_references


def merged(folder: Path) -> list[dict[str, Any]]:
    """The documents that `kubectl apply -k` would send; skips the test without kubectl."""
    documents, error = _build(folder)
    assert documents is not None, error
    return documents


def problems(path: Path, content: dict[str, Any]) -> list[str]:
    """Of what the kustomization makes, and of its patches."""
    documents, error = _with(path, content)
    if documents is None:
        return [error]
    found = [wrong for each in documents for wrong in problems_of_document(each)]
    if not found:
        found = [
            problem
            for each in documents
            for problem in (*problems_of_references(each, documents), *unused(each, documents))
        ]
    found += [wrong for each in documents for wrong in _embedded(each)]
    return found + _without_effect(path, content, documents)


def _embedded(document: dict[str, Any]) -> list[str]:
    """Experiments and retrainings inside a config map, by our own loaders."""
    if document["kind"] != "ConfigMap":
        return []
    found = []
    files = {name: text for name, text in document["data"].items() if name.endswith(".yaml")}
    with tempfile.TemporaryDirectory() as name:
        for file, text in files.items():
            Path(name, file).write_text(text, encoding="utf-8")
        for file, text in files.items():
            try:
                if "experiment" in yaml.safe_load(text):
                    spec = load_retraining(Path(name, file))
                    load_experiment(Path(name, spec.experiment), spec.overrides)
                else:
                    load_experiment(Path(name, file))
            except UserError as error:
                found.append(f"{file}: {error}")
    return found


def _without_effect(path: Path, content: dict[str, Any], documents: Any) -> list[str]:
    found = []
    for part in ("patches", "images", "replacements"):
        for index in range(len(content.get(part, []))):
            less = copy.deepcopy(content)
            taken = less[part].pop(index)
            if _with(path, less)[0] == documents:
                found.append(f"{part}: nothing is changed by {taken}")
    return found


def broken(path: Path, content: dict[str, Any]) -> dict[str, list[Any]]:
    """Each key misspelt; the kind and what is done by a patch; each file and target."""
    keys = misspelt(content)
    values = [content | {"kind": "Kustomisation"}]
    names = [
        content | {part: ["no-such-file.yaml"]}
        for part in ("resources", "components")
        if part in content
    ]
    for index, patch in enumerate(content.get("patches", [])):
        names.append(_patched(content, index, patch | {"target": {"kind": "NoSuchKind"}}))
        if "- op:" in patch["patch"]:
            text = patch["patch"].replace("op: ", "op: no-", 1)
            values.append(_patched(content, index, patch | {"patch": text}))
    return {"a key": keys, "a value": values, "a name": names}


def _patched(content: dict[str, Any], index: int, patch: dict[str, Any]) -> dict[str, Any]:
    patches = list(content["patches"])
    patches[index] = patch
    return content | {"patches": patches}


def _with(path: Path, content: dict[str, Any]) -> tuple[list[dict[str, Any]] | None, str]:
    """What the kustomization of `path` makes with another content; for a component: what the first
    overlay that takes it makes.
    """
    application = next(each for each in path.parents if each.parent in (INFRA, INFRA / "mlflow"))
    with tempfile.TemporaryDirectory() as name:
        copied = Path(name) / application.name
        shutil.copytree(application, copied)
        file = copied / path.relative_to(application)
        file.write_text(yaml.safe_dump(content), encoding="utf-8")
        component = path.parent.name == "search"
        return _build(copied / "overlays" / "cpu-search" if component else file.parent)


def _build(folder: Path) -> tuple[list[dict[str, Any]] | None, str]:
    done = subprocess.run(
        [_kubectl(), "kustomize", folder], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        return None, done.stderr
    return list(yaml.load_all(done.stdout, yaml.CSafeLoader)), ""


@functools.cache
def _kubectl() -> str:
    found = shutil.which("kubectl")
    if found is None:
        pytest.skip("no kubectl here, whose Kustomize merges the overlays")
    return found


KIND = FileKind(
    ("kuberay/**/kustomization.yaml", "mlflow/kubernetes/kustomization.yaml"),
    yaml.safe_load,
    problems,
    broken,
)
