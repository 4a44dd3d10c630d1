"""What is wrong with one document of Kubernetes or KubeRay, found offline.

The schemas that Kubernetes publishes hold no enumerations: `concurrencyPolicy: Forbidden` passes
them, and so does any text as a cron expression. These are looked up here.
"""

import functools
import re
import zoneinfo
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from cronsim import CronSim, CronSimError

from pipelines.scheduling.cron_job import FIVE_FIELDS

CRDS = Path(__file__).resolve().parents[3] / "shared" / "crds"
CRD_FILES = {
    "RayCluster": "crd_rayclusters.yaml",
    "RayJob": "crd_rayjobs.yaml",
    "RayCronJob": "crd_raycronjobs.yaml",
}
ENUMERATIONS = {
    "accessModes": "ReadWriteOnce ReadWriteMany ReadOnlyMany ReadWriteOncePod",
    "action": "FailJob Ignore Count FailIndex",
    "concurrencyPolicy": "Allow Forbid Replace",
    "effect": "NoSchedule PreferNoSchedule NoExecute",
    "fsGroupChangePolicy": "OnRootMismatch Always",
    "imagePullPolicy": "Always IfNotPresent Never",
    "medium": "Memory HugePages",
    "operator": "In NotIn Exists DoesNotExist Equal",
    "policyTypes": "Ingress Egress",
    "preemptionPolicy": "Never PreemptLowerPriority",
    "protocol": "TCP UDP SCTP",
    "restartPolicy": "Always OnFailure Never",
    "seccompProfile.type": "RuntimeDefault Localhost Unconfined",
    "onPodConditions.type": "DisruptionTarget PodScheduled Ready Initialized ContainersReady",
    "strategy.type": "Recreate RollingUpdate",
    "spec.type": "ClusterIP NodePort LoadBalancer ExternalName",
}
"""End of a path of keys -> the values that Kubernetes takes there."""
QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?")
QUANTITIES = ("requests", "limits", "sizeLimit")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")


def problems_of(document: dict[str, Any]) -> list[str]:
    """What Kubernetes, or KubeRay's operator, would not take; skips the test at a kind of KubeRay
    where its schemas are not at hand.
    """
    kind = document.get("kind")
    if kind is None or "apiVersion" not in document:
        return [f"a document without apiVersion or kind: {sorted(document)}"]
    found = [wrong for path, value in scalars(document) for wrong in _wrong_value(path, value)]
    if str(document["apiVersion"]).startswith("ray.io/"):
        found += _against_crd(document)
        # the operator's schemas leave metadata and pods to Kubernetes
        metadata = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": document.get("metadata")}
        found = found or _against_kubernetes(metadata) or _against_pods(document)
    else:
        found += _against_kubernetes(document)
    return [f"{kind}: {each}" for each in found]


def _against_pods(document: dict[str, Any]) -> list[str]:
    found = []
    for template in pod_templates(document):
        pod = {"apiVersion": "v1", "kind": "Pod", **template}
        pod["metadata"] = {"name": "pod", **template.get("metadata", {})}
        found += _against_kubernetes(pod)
    return found


def scalars(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every leaf with the keys and indices that lead to it."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from scalars(each, (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from scalars(each, (*path, index))
    else:
        yield path, value


def pod_templates(value: Any) -> Iterator[dict[str, Any]]:
    """Everything below that has containers, with its metadata."""
    if isinstance(value, dict):
        if isinstance(value.get("spec"), dict) and "containers" in value["spec"]:
            yield {name: value[name] for name in ("metadata", "spec") if name in value}
        for each in value.values():
            yield from pod_templates(each)
    elif isinstance(value, list):
        for each in value:
            yield from pod_templates(each)


def _against_kubernetes(document: dict[str, Any]) -> list[str]:
    try:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message}"]
    except (
        kubernetes_validate.SchemaNotFoundError,
        kubernetes_validate.InvalidSchemaError,
    ) as error:
        return [str(error)]
    return []


def _against_crd(document: dict[str, Any]) -> list[str]:
    if not CRDS.is_dir():
        pytest.skip("KubeRay's schemas (../shared/crds) are not here")
    version = str(document["apiVersion"]).partition("/")[2]
    validator = _strict_validators(str(document["kind"])).get(version)
    if validator is None:
        return [f"no kind {document['kind']} of {document['apiVersion']}"]
    found = validator.iter_errors(document)
    return [f"{error.json_path}: {error.message[:200]}" for error in found]


@functools.cache
def _strict_validators(kind: str) -> dict[str, Any]:
    """Version -> what refuses unknown keys."""
    if kind not in CRD_FILES:
        return {}
    crd = yaml.safe_load((CRDS / CRD_FILES[kind]).read_text(encoding="utf-8"))
    return {
        each["name"]: jsonschema.Draft7Validator(_strict(each["schema"]["openAPIV3Schema"]))
        for each in crd["spec"]["versions"]
    }


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict):
        strict["properties"] = {
            name: _strict(value) for name, value in schema["properties"].items()
        }
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            strict.setdefault("additionalProperties", False)
    return strict


def _wrong_value(path: tuple[Any, ...], value: Any) -> list[str]:
    keys = [key for key in path if isinstance(key, str)]
    at = ".".join(map(str, path))
    for end, known in ENUMERATIONS.items():
        wanted = end.split(".")
        if keys[-len(wanted) :] == wanted and value not in known.split():
            return [f"{at}: '{value}' is none of {known}"]
    if (keys[-1] in QUANTITIES or set(keys[-2:-1]) & set(QUANTITIES)) and (
        not QUANTITY.fullmatch(str(value))
    ):
        return [f"{at}: '{value}' is no quantity"]
    if set(keys[-2:-1]) & {"labels", "matchLabels", "nodeSelector"} and (
        not isinstance(value, str) or not LABEL_VALUE.fullmatch(value)
    ):
        return [f"{at}: '{value}' is no value of a label"]
    if keys[-2:] == ["spec", "schedule"] and not _is_cron(value):
        return [f"{at}: '{value}' is no cron expression of Kubernetes"]
    if keys[-1] == "timeZone" and value not in zoneinfo.available_timezones():
        return [f"{at}: '{value}' is no time zone"]
    return []


def _is_cron(value: Any) -> bool:
    import datetime

    if not FIVE_FIELDS.fullmatch(str(value)):
        return False
    try:
        CronSim(str(value), datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))
    except CronSimError:
        return False
    return True
