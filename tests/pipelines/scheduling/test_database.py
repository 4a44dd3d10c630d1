"""The tables of leases, states and records: on sqlite, on PostgreSQL, and there beside MLflow's."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from components.errors import ConfigError
from components.inference.package import adapter_package
from components.registry import open_tracker
from pipelines.promote import history, promote
from pipelines.retraining.records import Record, Records
from pipelines.scheduling.database import shared_engine
from pipelines.scheduling.lease import take
from pipelines.scheduling.state import States
from tests.postgres import NewDatabase

OURS = {"prefixprop_leases", "prefixprop_retrainings", "prefixprop_schedules"}
RECORD = Record(
    key="k" * 64,
    name="weekly",
    status="running",
    started_at=1.5,
    ended_at=None,
    data_fingerprint="d" * 64,
    config_sha256="c" * 64,
    snapshot="/storage/" + "s" * 4000,
    report={},
)


def test_a_record_is_kept_as_it_was_written(shared_database: str | None, tmp_path: Path) -> None:
    records = Records(shared_engine(shared_database, tmp_path))
    records.begin(RECORD)
    assert records.find(RECORD.key) == RECORD and records.last_done("weekly") is None
    report = {"version": 2, "reason": "a\0b \N{GRINNING FACE} " + "long " * 5000}
    records.end(RECORD.key, "done", report)
    found = records.last_done("weekly")
    assert found is not None and found.report == report
    assert found.ended_at == pytest.approx(time.time(), abs=60)
    records.begin(replace(RECORD, report={"version": 2}))
    assert records.last_done("weekly") is None, "a new try takes the place of the former one"


def test_of_two_changes_of_a_schedule_one_counts(
    shared_database: str | None, tmp_path: Path
) -> None:
    states = States(shared_engine(shared_database, tmp_path))
    before = states.of("weekly", now=1764489600.123456)
    assert before.since == 1764489600.123456
    assert states.change(before, replace(before, since=before.since + 1))
    assert not states.change(before, replace(before, since=before.since + 2))


def test_many_make_the_tables_of_a_new_database_at_once(
    shared_database: str | None, tmp_path: Path
) -> None:
    def first_use(number: int) -> float:
        engine = shared_engine(shared_database, tmp_path)
        Records(engine)
        take(engine, f"lease {number}")
        return States(engine).of("weekly", now=float(number)).since

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(first_use, range(8)))) == 1


def test_a_missing_driver_is_named_with_the_fix(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from pathlib import Path\n"
        "from components.errors import ConfigError\n"
        "from pipelines.scheduling.database import shared_engine\n"
        "try: shared_engine('postgresql://host/x', Path())\n"
        "except ConfigError as error: print(error)"
    )
    root = Path(__file__).resolve().parents[3]
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert "pip install 'prefixprop[postgres]'" in answer.stdout


@pytest.mark.slow
@pytest.mark.parametrize("first", ["ours", "mlflow"])
def test_mlflow_migrates_and_registers_beside_our_tables(
    first: str,
    new_postgres_database: NewDatabase,
    plain_adapter: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # MLflow keeps artifacts here where a database alone is named
    address = new_postgres_database()
    engine = shared_engine(address, tmp_path)

    def make_ours() -> None:
        Records(engine).begin(RECORD)
        States(engine).of("weekly", now=1.0)
        take(engine, "retrain weekly", seconds=600)

    if first == "ours":
        make_ours()
    tracker = open_tracker("mlflow", address)
    tracker.ensure_experiment("toy", "")
    for version in (1, 2):
        run = tracker.start_run("toy", run_name="s", config={}, params={}, tags={})
        tracker.register_adapter(
            run,
            adapter_folder=plain_adapter,
            package=adapter_package(plain_adapter),
            model_name="toy",
            metrics={"test/accuracy": 0.5},
            params={},
            description="",
            tags={},
        )
        assert tracker.resolve(f"models:/toy/{version}").run_id == run
    if first == "mlflow":
        make_ours()
    report = promote(
        "toy", tracking_uri=address, force=True, reason="measured elsewhere", state_path=tmp_path
    )
    assert (report.version, report.previous) == (2, 1)
    assert [each.action for each in history("toy", tracking_uri=address).entries][-1] == "forced"
    tables = set(inspect(engine).get_table_names())
    assert tables >= OURS and {"alembic_version", "registered_models"} <= tables
    assert Records(engine).find(RECORD.key) == RECORD
    assert not (tmp_path / "leases.db").exists(), "the leases are in PostgreSQL too"
    with engine.begin() as connection:
        held = connection.execute(text("SELECT name, fencing FROM prefixprop_leases ORDER BY name"))
        assert list(held) == [("promote toy", 1), ("retrain weekly", 1)]


def test_an_address_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none that can be read"):
        shared_engine("postgresql://host:port:more/x", tmp_path)
