"""Which environment variables a program of infra/ reads: by its own registry or source, so that a
misspelt one, which every program passes over in silence, is found.
"""

import functools
import re
from importlib.util import find_spec
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
OF_OTHERS = {
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_REGION"),
    *("HF_TOKEN", "HF_HOME", "HF_HUB_OFFLINE"),
    *("MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"),
    *("NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"),
    *("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE"),
    *("POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD", "PGDATA"),
    *("PATH", "PYTHONPATH", "PYTHONUNBUFFERED", "TMPDIR"),
    *("RCLONE_CONFIG_STORE_TYPE", "RCLONE_CONFIG_STORE_PROVIDER", "RCLONE_CONFIG_STORE_ENV_AUTH"),
    *("RCLONE_CONFIG_STORE_ENDPOINT", "RCLONE_CONFIG_STORE_REGION"),
}
"""Of programs that are not installed with this project, from their manuals."""


def problems_of(names: list[str], script: str = "") -> list[str]:
    """The names that nobody reads, neither a program nor the command line itself."""
    return [
        f"environment variable {name}: no program here reads it"
        for name in names
        if not is_known(name) and not re.search(rf"\$\$?\{{?{name}\b", script)
    ]


@functools.cache
def is_known(name: str) -> bool:
    """Whether the program that its first letters name reads it."""
    if name.startswith("PREFIXPROP_"):
        return _in_source(PROJECT / "pipelines", name) or _in_source(PROJECT / "components", name)
    if name.startswith("RAY_"):
        parts = [_folder_of("ray") / part for part in ("_private", "_common", "dashboard")]
        found = any(_in_source(part, name) for part in parts)
        return found or _is_ray_config(name.removeprefix("RAY_"))
    if name.startswith("MLFLOW_"):
        registry = _folder_of("mlflow") / "environment_variables.py"
        return f'"{name}"' in registry.read_text(encoding="utf-8")
    return name in OF_OTHERS


def _folder_of(package: str) -> Path:
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


def _in_source(folder: Path, name: str) -> bool:
    return name in _quoted_names(folder)


@functools.cache
def _quoted_names(folder: Path) -> frozenset[str]:
    """Every text in quotes in Python files that could name a variable."""
    quoted = re.compile(r"""["']([A-Z][A-Z0-9]+_[A-Z0-9_]+)["']""")
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        found |= set(quoted.findall(path.read_text(encoding="utf-8", errors="ignore")))
    return frozenset(found)


def _is_ray_config(name: str) -> bool:
    """Whether Ray's node manager, which is compiled, has a setting of this name."""
    program, text = _node_manager(), name.encode()
    place = program.find(text)
    while place >= 0:
        around = program[place - 1 : place] + program[place + len(text) : place + len(text) + 1]
        if not re.search(rb"\w", around):
            return True
        place = program.find(text, place + 1)
    return False


@functools.cache
def _node_manager() -> bytes:
    return (_folder_of("ray") / "core" / "src" / "ray" / "raylet" / "raylet").read_bytes()
