"""Rules, their tests and the configuration of Prometheus, by promtool; and that no rule is over a
metric that nobody emits.
"""

import functools
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.infra.kinds.file_kind import FileKind, misspelt
from tests.infra.references import INFRA

METRIC = re.compile(r"\bray_(prefixprop_\w+)")
EMITTED = re.compile(r"""["'](prefixprop_\w+)["']""")


def problems(path: Path, content: dict[str, Any]) -> list[str]:
    """By promtool, as what the file's keys say that it is."""
    check = ["check", "rules"] if "groups" in content else ["check", "config"]
    if "tests" in content:
        check = ["test", "rules"]
    if found := unknown_metrics(yaml.safe_dump(content, width=10_000)):
        return found
    with tempfile.TemporaryDirectory() as name:
        folder = shutil.copytree(INFRA / "monitoring", Path(name, "monitoring"))
        (folder / "ray-token").write_text("of-a-test", encoding="utf-8")
        (folder / path.name).write_text(yaml.safe_dump(content), encoding="utf-8")
        found = promtool(*check, str(folder / path.name))
        if not found and "groups" in content:  # each alert fires where its tests say so
            found = promtool("test", "rules", *map(str, sorted(folder.glob("*_test.yaml"))))
    return found


def unknown_metrics(text: str) -> list[str]:
    """The metrics of prefixprop that a text names and no line of our source emits."""
    asked = {name.removesuffix("_total") for name in METRIC.findall(text)}
    return [f"no metric {name}" for name in sorted(asked - emitted())]


@functools.cache
def emitted() -> frozenset[str]:
    """Texts in our source that look like a metric's name, with the champion's numbers, whose names
    are put together.
    """
    project, found = INFRA.parent, set()
    for folder in ("components", "pipelines"):
        for path in (project / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            found |= set(EMITTED.findall(text))
            if "prefixprop_champion_{" in text:
                found |= {
                    f"prefixprop_champion_{each}" for each in re.findall(r'"([a-z_]+)"', text)
                }
    return frozenset(found)


def promtool(*words: str) -> list[str]:
    """What promtool complains of; skips the test where there is none."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("no promtool here: apt-get install prometheus")
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    return [line for line in lines if line.strip()] if done.returncode != 0 else []


def broken(path: Path, content: dict[str, Any]) -> dict[str, list[Any]]:
    """Each key of the top and of a rule misspelt; durations and expressions; names of metrics."""
    text = yaml.safe_dump(content, width=10_000)
    keys = misspelt(content)
    if "groups" in content:
        keys += [yaml.safe_load(text.replace(f"{key}:", f"{key}x:")) for key in ("expr", "labels")]
        values = [("interval: 30s", "interval: often"), ("for: 1m", "for: long"), ("> 600)", "> )")]
        names = [(name, f"{name}x") for name in sorted(set(METRIC.findall(text)))]
        names += [("humanizeDuration", "humanizeTime"), ("alert: TrialFailed", "alert: TrialFails")]
    elif "tests" in content:
        values = [("interval: 1", "interval: q"), ("13m", "15m"), ("50d", "70d")]
        names = [(name, f"{name}x") for name in sorted(set(METRIC.findall(text)))]
        names.append(("rules.yaml", "rule.yaml"))
    else:
        values = [("scrape_interval: 10s", "scrape_interval: often")]
        names = [("rules.yaml", "rule-s.yaml"), ("http_sd_configs", "http_sd_config")]
    changes = {"a value": values, "a name": names}
    return {"a key": keys} | {
        way: [yaml.safe_load(text.replace(old, new)) for old, new in each if old in text]
        for way, each in changes.items()
    }


KIND = FileKind(("monitoring/*.yaml",), yaml.safe_load, problems, broken)
