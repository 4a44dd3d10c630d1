"""An adapter out of the registry and onto a disk: the plain artifact folder, a complete MLflow
model, or a folder that answers by stock libraries alone and was seen to answer alike.
"""

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from components.atomic_folder import atomic_folder
from components.errors import ConfigError
from components.registry.adapter_source import AdapterSource, adapter_source, checked_tracker
from components.settings import writing
from pipelines.reports import ExportReport

if TYPE_CHECKING:
    from components.inference.exported.alike import Verification

Form = Literal["adapter", "pyfunc", "peft", "transformers"]
COMPARED = ("peft", "transformers")
"""Forms that answer by stock libraries, and are compared with the adapter."""


def export(
    model: str,
    *,
    output: Path,
    tracking_uri: str | None,
    form: Form = "adapter",
    backbone: str | None = None,
    tolerance: float | None = None,
) -> ExportReport:
    """Write the adapter named by `model` (folder or registry address) into the new folder `output`.

    `adapter`: artifact format 1 as it is, safetensors and JSON without code. `pyfunc`: an MLflow
    model folder with this project's code inside, for `mlflow models serve` or
    `mlflow.pyfunc.load_model(folder)` without a registry. `peft`: a decoder's prefix as PEFT's
    PREFIX_TUNING with the head beside it; `transformers`: an encoder's rows with a loader. Their
    logits are compared with the adapter's, in float32 and in a process without this project, and
    may differ by `tolerance` (left out: 1e-6, or twice what rounding does to the adapter's own);
    the difference becomes a tag of a registered version. `backbone`: as of `load_classifier`.

    Raises ConfigError where `output` is not empty and for an adapter that has no such form,
    ArtifactError where the adapter cannot be read, WorkFailed where the folder does not answer
    alike. Nothing is left behind then.
    """
    from components.adapters import read_adapter_config
    from components.inference.package import adapter_package
    from components.registry.packaging import save_pyfunc

    _check_asked(output, form, backbone, tolerance)
    verified: Verification | None = None
    with (
        adapter_source(model, tracking_uri=tracking_uri) as source,
        writing(output.parent, "output"),
        atomic_folder(output) as unfinished,
    ):
        read_adapter_config(source.folder)
        if form == "pyfunc":
            unfinished.rmdir()
            save_pyfunc(unfinished, source.folder, adapter_package(source.folder))
        elif form in COMPARED:
            verified = _write_compared(
                source, unfinished, form=form, backbone=backbone, tolerance=tolerance
            )
            _note(source, verified, form=form, tracking_uri=tracking_uri)
        else:
            shutil.copytree(source.folder, unfinished, dirs_exist_ok=True)
        address = source.address(model)
    files = {
        str(path.relative_to(output)): path.stat().st_size
        for path in sorted(output.rglob("*"))
        if path.is_file()
    }
    return ExportReport(
        model=address,
        form=form,
        folder=output,
        files=files,
        largest_difference=None if verified is None else verified.largest_difference,
        tolerance=None if verified is None else verified.tolerance,
    )


def _check_asked(output: Path, form: Form, backbone: str | None, tolerance: float | None) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(
            f"output: '{output}' exists and is not an empty folder. Give a new one: nothing was "
            "written."
        )
    if tolerance is not None and not 0 <= tolerance < math.inf:
        raise ConfigError(f"tolerance: {tolerance} is no distance of logits. Give 0 or more.")
    if form not in COMPARED and (backbone is not None or tolerance is not None):
        raise ConfigError(
            "--backbone and --tolerance are for an export that is compared with the adapter, and "
            f"the form {form} is not. Remove them, or give --form {' or '.join(COMPARED)}."
        )


def _write_compared(
    source: AdapterSource,
    folder: Path,
    *,
    form: Form,
    backbone: str | None,
    tolerance: float | None,
) -> "Verification":
    from components.inference.classifier import default_cache_path, load_classifier
    from components.inference.exported.alike import verify
    from components.inference.exported.encoder_folder import write_encoder
    from components.inference.exported.peft_folder import write_peft

    classifier = load_classifier(
        source.folder, backbone=backbone, trusted=source.registered, in_float32_on_cpu=True
    )
    if form == "peft":
        write_peft(classifier, folder)
    else:
        write_encoder(classifier, folder, cache_path=default_cache_path())
    return verify(classifier, folder, tolerance=tolerance)


def _note(
    source: AdapterSource, verified: "Verification", *, form: Form, tracking_uri: str | None
) -> None:
    """Say of the registered version how near its export is."""
    if source.version is None:
        return
    difference, tolerance = verified.largest_difference, verified.tolerance
    line = f"Exported for {form}: logits within {tolerance:g} of the adapter's."
    checked_tracker(tracking_uri).annotate(
        source.version,
        tags={f"{form}_largest_difference": f"{difference:.3g} (tolerance {tolerance:g})"},
        line="" if line in source.version.description else line,
    )
