"""An adapter out of the registry and onto a disk: the plain artifact folder, or a complete MLflow
model.
"""

import shutil
from pathlib import Path
from typing import Literal

from components.atomic_folder import atomic_folder
from components.errors import ConfigError
from components.registry.adapter_source import adapter_source
from components.settings import writing
from pipelines.reports import ExportReport

Form = Literal["adapter", "pyfunc"]


def export(
    model: str, *, output: Path, tracking_uri: str | None, form: Form = "adapter"
) -> ExportReport:
    """Write the adapter named by `model` (folder or registry address) into the new folder `output`.

    `adapter`: artifact format 1 as it is, safetensors and JSON without code. `pyfunc`: an MLflow
    model folder with this project's code inside, for `mlflow models serve` or
    `mlflow.pyfunc.load_model(folder)` without a registry. Raises ConfigError where `output` is not
    empty, ArtifactError where the adapter cannot be read.
    """
    from components.adapters import read_adapter_config
    from components.inference.package import adapter_package
    from components.registry.packaging import save_pyfunc

    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(
            f"output: '{output}' exists and is not an empty folder. Give a new one: nothing was "
            "written."
        )
    with (
        adapter_source(model, tracking_uri=tracking_uri) as source,
        writing(output.parent, "output"),
        atomic_folder(output) as unfinished,
    ):
        read_adapter_config(source.folder)
        if form == "pyfunc":
            unfinished.rmdir()
            save_pyfunc(unfinished, source.folder, adapter_package(source.folder))
        else:
            shutil.copytree(source.folder, unfinished, dirs_exist_ok=True)
        address = source.address(model)
    files = {
        str(path.relative_to(output)): path.stat().st_size
        for path in sorted(output.rglob("*"))
        if path.is_file()
    }
    return ExportReport(model=address, form=form, folder=output, files=files)
