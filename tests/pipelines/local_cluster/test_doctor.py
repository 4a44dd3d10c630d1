"""What the doctor finds, and that every problem says how to fix it."""

from pathlib import Path

import pytest

from pipelines.local_cluster import doctor
from pipelines.local_cluster.doctor import Finding


def test_every_version_of_the_constraints_is_compared(tmp_path: Path) -> None:
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("# a comment\npytest==0.0.1\nno-such-package==1.0\n")
    assert list(doctor.pinned(constraints)) == [("pytest", "0.0.1"), ("no-such-package", "1.0")]
    finding = doctor._versions(constraints)
    assert finding.level == "note"
    assert "instead of 0.0.1" in finding.found
    assert "no-such-package" in finding.found
    assert finding.fix


def test_a_missing_core_package_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("ray==1.0\n")

    def absent(name: str) -> str:
        raise doctor.PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", absent)
    assert doctor._versions(constraints).level == "problem"


def test_the_projects_own_constraints_pin_every_dependency() -> None:
    import tomllib

    project = Path(__file__).resolve().parents[3]
    names = {
        name.lower().replace("_", "-") for name, _ in doctor.pinned(project / "constraints.txt")
    }
    settings = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *settings["dependencies"],
        *(item for extra in settings["optional-dependencies"].values() for item in extra),
    ]
    bare = {
        item.split("[")[0].split(">")[0].split("=")[0].lower().replace("_", "-") for item in wanted
    }
    assert bare <= names, bare - names


def test_little_memory_and_little_shared_memory_are_problems(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "available_memory", lambda: 1024)
    monkeypatch.setattr(doctor, "OBJECT_STORE_BYTES", 2**60)
    findings = [doctor._memory(), doctor._shared_memory()]
    assert all(
        finding.level == "problem" and finding.fix
        for finding in findings
        if finding.found[0].isdigit()
    )


@pytest.mark.parametrize(
    ("memory", "torch_says", "level", "words"),
    [
        ((), "none 0", "ok", "CPU"),
        ((80 * 1024**3,), "none 0", "problem", "CPU build"),
        ((80 * 1024**3,), "13.0 0", "problem", "driver is too old"),
        ((80 * 1024**3,), "13.0 1", "ok", "CUDA 13.0"),
        ((), None, "problem", "make install"),
    ],
)
def test_gpu_driver_and_torch_must_fit(
    monkeypatch: pytest.MonkeyPatch,
    memory: tuple[int, ...],
    torch_says: str | None,
    level: str,
    words: str,
) -> None:
    monkeypatch.setattr(doctor, "gpu_memory", lambda: memory)
    monkeypatch.setattr(doctor, "_torch_says", lambda _: torch_says)
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    finding = doctor._gpu()
    assert finding.level == level
    assert words in f"{finding.found} {finding.fix}"


@pytest.mark.slow
def test_the_doctor_looks_at_everything_and_each_trouble_has_a_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    findings = doctor.doctor(Path(__file__).resolve().parents[3])
    assert [finding.what for finding in findings] == [
        *(
            "python",
            "versions",
            "memory",
            "shared memory",
            "disk",
            "ports",
            "local cluster",
            "ray on the cluster",
            "gpu",
            "offline backbone",
            "hub",
        ),
    ]
    assert all(
        isinstance(finding, Finding) and (finding.level == "ok" or finding.fix)
        for finding in findings
    )


def test_a_damaged_state_file_is_a_finding_among_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cluster.json").write_bytes(b"\x80")
    monkeypatch.setattr(doctor, "STATE_FOLDER", tmp_path)
    finding = doctor._cluster()
    assert (finding.level, finding.fix) == ("problem", "Run: prefixprop up")
    assert "cannot be read" in finding.found


def test_the_hub_is_asked_through_the_proxy_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    finding = doctor._hub()
    assert finding.level == "note"
    assert "Connection refused" in finding.found
