"""Turns an adapter folder into an MLflow pyfunc folder: code, requirements, signature and the plain
artifact inside.
"""

import json
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

from components.registry.environment import SOURCE_ROOT, installed_version

# What a fresh environment needs to answer; training's dependencies are not among them.
REQUIRED = (
    "mlflow",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
    "pandas",
    "pydantic",
    "pyyaml",
    "filelock",
)
CODE_PACKAGES = ("config", "backbones", "data", "tasks", "adapters", "registry", "inference")
PYFUNC_FILE = SOURCE_ROOT / "components" / "inference" / "pyfunc_model.py"


def save_pyfunc(
    folder: Path,
    adapter_folder: Path,
    *,
    run_id: str | None = None,
    model_id: str | None = None,
    artifact_location: str | None = None,
) -> None:
    """Write `folder` as an MLflow model (models-from-code) around an adapter folder of format 1.
    The backbone is neither loaded nor stored.
    """
    import mlflow.pyfunc
    from mlflow.models import Model

    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        # The signature is written by hand: an input example would load the backbone here.
        warnings.filterwarnings("ignore", message=".*[Ii]nput example.*")
        # MLflow keeps the folder's own name; download and format rely on `artifacts/adapter`.
        adapter = shutil.copytree(adapter_folder, Path(scratch) / "adapter")
        mlflow.pyfunc.save_model(
            path=str(folder),
            mlflow_model=Model(artifact_path=artifact_location, run_id=run_id, model_id=model_id),
            python_model=str(PYFUNC_FILE),
            artifacts={"adapter": str(adapter)},
            code_paths=[str(_copy_code(Path(scratch)))],
            pip_requirements=pip_requirements(adapter_folder),
            signature=signature(task_of(adapter_folder)),
            metadata={"adapter_format": 1},
        )
    for cache in list(folder.rglob("__pycache__")):
        shutil.rmtree(cache)


def _copy_code(scratch: Path) -> Path:
    target = scratch / "components"
    target.mkdir()
    for path in (SOURCE_ROOT / "components").glob("*.py"):
        shutil.copy(path, target)
    for package in CODE_PACKAGES:
        shutil.copytree(
            SOURCE_ROOT / "components" / package,
            target / package,
            ignore=shutil.ignore_patterns("__pycache__", "*.pyc"),
        )
    return target


def pip_requirements(adapter_folder: Path) -> list[str]:
    """Pinned to what is installed here, plus the package that carries the backbone where there is
    one, and peft for LoRA.
    """
    from components.backbones.sources import INSTALLED_MODELS

    config: dict[str, Any] = json.loads(
        (adapter_folder / "adapter_config.json").read_text(encoding="utf-8")
    )
    load = (config.get("backbone") or {}).get("load") or {}
    names = [*REQUIRED]
    if load.get("source") == "installed" and load.get("name_or_path") in INSTALLED_MODELS:
        names.append(INSTALLED_MODELS[load["name_or_path"]].distribution)
    if config.get("method") == "lora":
        names.append("peft")
    # A local build (2.13.0+cpu) is on no index: the public part of the version is what can be
    # installed.
    return [
        f"{name}=={version.split('+')[0]}"
        for name in names
        if (version := installed_version(name)) is not None
    ]


def task_of(adapter_folder: Path) -> str:
    """The task in adapter_config.json."""
    config: dict[str, Any] = json.loads(
        (adapter_folder / "adapter_config.json").read_text(encoding="utf-8")
    )
    return str((config.get("head") or {}).get("task", "classification"))


def signature(task: str) -> Any:
    """text, or for multiple choice query, candidates and supports -> label, probabilities (label or
    candidate -> probability); `batch_size` may be given at prediction time.
    """
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Array, ColSpec, DataType, Map, ParamSchema, ParamSpec, Schema

    question = [
        ColSpec(DataType.string, "query"),
        *(ColSpec(Array(DataType.string), name) for name in ("candidates", "supports")),
    ]
    return ModelSignature(
        inputs=Schema(
            question if task == "multiple_choice" else [ColSpec(DataType.string, "text")]
        ),
        outputs=Schema(
            [ColSpec(DataType.string, "label"), ColSpec(Map(DataType.double), "probabilities")]
        ),
        params=ParamSchema([ParamSpec("batch_size", DataType.integer, 8)]),
    )
