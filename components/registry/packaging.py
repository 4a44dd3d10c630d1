"""Turns an adapter folder into an MLflow pyfunc folder: code, requirements, signature and the plain
artifact inside. What goes in is handed over as plain values (components/inference/package.py).
"""

import json
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from components.registry.environment import installed_version


class PackageSignature(Protocol):
    """Columns of what the model takes and answers, by type: `string`, `double`, `list of string`,
    `map of double`.
    """

    @property
    def inputs(self) -> Mapping[str, str]: ...

    @property
    def outputs(self) -> Mapping[str, str]: ...


class PackageUsage(Protocol):
    """How the model is described to somebody who finds it."""

    @property
    def purpose(self) -> str: ...

    @property
    def frame(self) -> str: ...

    @property
    def file(self) -> str: ...


class Package(Protocol):
    """What is needed beside the adapter folder."""

    @property
    def code_file(self) -> Path: ...

    @property
    def code_root(self) -> Path: ...

    @property
    def code_packages(self) -> tuple[str, ...]: ...

    @property
    def requirements(self) -> tuple[str, ...]: ...

    @property
    def signature(self) -> PackageSignature: ...

    @property
    def usage(self) -> PackageUsage: ...

    @property
    def model_config(self) -> Mapping[str, Any]: ...


def save_pyfunc(
    folder: Path,
    adapter_folder: Path,
    package: Package,
    *,
    run_id: str | None = None,
    model_id: str | None = None,
    artifact_location: str | None = None,
) -> None:
    """Write `folder` as an MLflow model (models-from-code) around an adapter folder of format 1.
    The backbone is neither loaded nor stored; no path of this machine stays in what MLflow writes.
    """
    import mlflow.pyfunc
    from mlflow.models import Model

    about = Model(artifact_path=_elsewhere(artifact_location), run_id=run_id, model_id=model_id)
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        # The signature is written by hand: an input example would load the backbone here.
        warnings.filterwarnings("ignore", message=".*[Ii]nput example.*")
        # MLflow keeps the folder's own name; download and format rely on `artifacts/adapter`.
        adapter = shutil.copytree(adapter_folder, Path(scratch) / "adapter")
        mlflow.pyfunc.save_model(
            path=str(folder),
            mlflow_model=about,
            python_model=str(package.code_file),
            artifacts={"adapter": str(adapter)},
            code_paths=[str(_copy_code(package, Path(scratch)))],
            pip_requirements=pip_requirements(package),
            signature=model_signature(package.signature),
            model_config=dict(package.model_config),
            metadata={"adapter_format": 1},
        )
    for cache in list(folder.rglob("__pycache__")):
        shutil.rmtree(cache)
    about.saved_input_example_info = _write_example(folder, package)
    _forget_build_paths(about.flavors["python_function"])
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "MLmodel")
    about.model_size_bytes = sum(path.stat().st_size for path in files)
    about.save(str(folder / "MLmodel"))


def _elsewhere(location: str | None) -> str | None:
    """Where the model is kept, unless that is a folder of this machine."""
    local = location is None or location.startswith(("/", "file:"))
    return None if local else location


def _write_example(folder: Path, package: Package) -> dict[str, str]:
    """An input that serves, as MLflow would store it; returns what MLmodel says of it. MLflow's own
    way to it loads the model, and with it the backbone.
    """
    frame: Mapping[str, list[Any]] = json.loads(package.usage.frame)
    rows = [list(row) for row in zip(*frame.values(), strict=True)]
    split = {"columns": list(frame), "data": rows}
    info = {
        "artifact_path": "input_example.json",
        "serving_input_path": "serving_input_example.json",
        "type": "dataframe",
        "pandas_orient": "split",
    }
    for name, content in (
        (info["artifact_path"], split),
        (info["serving_input_path"], {"dataframe_split": split}),
    ):
        (folder / name).write_text(json.dumps(content) + "\n", encoding="utf-8")
    return info


def _forget_build_paths(flavor: dict[str, Any]) -> None:
    """MLflow keeps where it copied artifacts and code from, and reads neither."""
    flavor["model_code_path"] = Path(flavor["model_code_path"]).name
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = artifact["path"]


def _copy_code(package: Package, scratch: Path) -> Path:
    target = scratch / package.code_root.name
    target.mkdir()
    for path in package.code_root.glob("*.py"):
        shutil.copy(path, target)
    for name in package.code_packages:
        shutil.copytree(
            package.code_root / name,
            target / name,
            ignore=shutil.ignore_patterns("__pycache__", "*.pyc"),
        )
    return target


def pip_requirements(package: Package) -> list[str]:
    """Pinned to what is installed here."""
    # A local build (2.13.0+cpu) is on no index: the public part of the version is what can be
    # installed.
    return [
        f"{name}=={version.split('+')[0]}"
        for name in package.requirements
        if (version := installed_version(name)) is not None
    ]


def model_signature(signature: PackageSignature) -> Any:
    """MLflow's form of it; `batch_size` and `with_version` may be given at prediction time."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Array, ColSpec, DataType, Map, ParamSchema, ParamSpec, Schema

    types = {
        "string": DataType.string,
        "double": DataType.double,
        "list of string": Array(DataType.string),
        "map of double": Map(DataType.double),
    }
    return ModelSignature(
        inputs=Schema([ColSpec(types[kind], name) for name, kind in signature.inputs.items()]),
        outputs=Schema([ColSpec(types[kind], name) for name, kind in signature.outputs.items()]),
        params=ParamSchema(
            [
                ParamSpec("batch_size", DataType.integer, 8),
                ParamSpec("with_version", DataType.boolean, False),
            ]
        ),
    )
