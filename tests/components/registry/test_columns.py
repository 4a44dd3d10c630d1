"""Every text that is written to MLflow fits its column: in PostgreSQL, and in a sqlite store that
refuses what does not fit as PostgreSQL and MySQL do.

Not covered: the column of a run's artifact address, which MLflow makes itself.
"""

import contextlib
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from components.errors import ConfigError
from components.inference.package import adapter_package
from components.registry import check_model_name, open_tracker, run_tags
from components.registry.describe import model_description
from components.registry.history import entry_now
from components.registry.mlflow_client import FittedClient, check_name, fitted

SLOW = pytest.mark.slow
NUMBERS = count()
LONG = "long text, "
HUGE = LONG * 3000
LABELS = tuple(f"{number:02d}" + "x" * 288 for number in range(24))


def strict(database: Path) -> int:
    """Let a database refuse a text that is longer than its column, or holds NUL; how many columns
    were made strict.
    """
    import mlflow.store.model_registry.dbmodels.models
    import mlflow.store.tracking.dbmodels.models  # noqa: F401
    from mlflow.store.db.base_sql_model import Base

    store, made = sqlite3.connect(database), 0
    for table in Base.metadata.tables.values():
        for column in table.columns:
            if column.type.python_type is not str:
                continue
            limit = getattr(column.type, "length", None)
            value, name = f'NEW."{column.name}"', f"{table.name}.{column.name}"
            wrong = f"instr(CAST({value} AS BLOB), x'00') > 0"
            wrong += f" OR length({value}) > {limit}" if limit else ""
            for event in ("INSERT", "UPDATE"):
                store.execute(
                    f"CREATE TRIGGER strict_{event}_{table.name}_{column.name} BEFORE {event} ON "
                    f"{table.name} WHEN {wrong} BEGIN SELECT RAISE(ABORT, '{name} refuses'); END"
                )
            made += 1
    store.commit()
    store.close()
    return made


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=SLOW)])
def strict_store(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[str]:
    """A strict copy of the session's database, under a short path as a server's would be; and a
    PostgreSQL database.
    """
    if request.param == "postgresql":
        # Artifacts go to the working folder where a database alone is named.
        with contextlib.chdir(tmp_path_factory.mktemp("artifacts")):
            address: str = request.getfixturevalue("new_postgres_database")()
            open_tracker("mlflow", address).ensure_experiment("columns", "")
            yield address
        return
    mlflow_uri: str = request.getfixturevalue("mlflow_uri")
    tracker = open_tracker("mlflow", mlflow_uri)
    tracker.ensure_experiment("columns", "")
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="pp-") as folder:
        database = Path(folder) / "mlflow.db"
        shutil.copy(mlflow_uri.removeprefix("sqlite:///"), database)
        assert strict(database) > 100
        yield f"sqlite:///{database}"


@pytest.fixture
def name() -> str:
    return f"columns-{next(NUMBERS)}"


def test_the_strict_store_refuses_what_is_too_long(strict_store: str) -> None:
    engine = create_engine(strict_store)
    insert = text("INSERT INTO registered_models (name) VALUES (:name)")
    said = r"registered_models\.name refuses|too long for type|cannot contain NUL"
    for value in ("n" * 257, "a\0b"):
        with pytest.raises((SQLAlchemyError, ValueError), match=said), engine.begin() as connection:
            connection.execute(insert, {"name": value})
    engine.dispose()


def test_every_text_of_a_search_fits_its_column(
    strict_store: str, plain_adapter: Path, name: str
) -> None:
    """With a description, settings, labels, a backbone and reasons that fit nowhere."""
    config = (plain_adapter / "adapter_config.json").read_text()
    config = config.replace('"politics", "space", "sports"', ", ".join(f'"{x}"' for x in LABELS))
    (plain_adapter / "adapter_config.json").write_text(config.replace('"tiny"', f'"/{HUGE}"'))
    tracker: Any = open_tracker("mlflow", strict_store)
    tracker.ensure_experiment(name, HUGE)
    tracker.ensure_experiment(name, HUGE + "changed")
    params = {"backbone": HUGE, "method": "m" * 7000, "learning_rate": 0.1, "space": HUGE}
    tags = run_tags(config_sha256="a" * 64, note=HUGE + "\0\ud800", kind="search")
    search = tracker.start_run(
        name, run_name=f"search-{HUGE}", config={"all": HUGE}, params=params, tags=tags
    )
    tracker.resume_run(search, {"resumed": HUGE})
    child = {"name": "t" * 250, "params": {"point": HUGE}, "tags": {"x": HUGE}}
    trial = tracker.start_child(search, **child)
    assert tracker.start_child(search, **child) == trial
    assert tracker.find_run(name, {"x": HUGE}) == trial
    tracker.log_metrics(trial, {"test/accuracy": 0.5, "loss": float("inf")}, step=1)
    tracker.log_params(trial, {"more": HUGE})
    tracker.log_dict(trial, {"labels": LABELS}, "labels.json")
    tracker.finish(trial, "failed", f"{HUGE}\0")
    versions = [
        tracker.register_adapter(
            trial,
            adapter_folder=plain_adapter,
            package=adapter_package(plain_adapter),
            model_name=name,
            metrics={"test/accuracy": 0.5},
            params=params,
            description=HUGE,
            tags=tags,
        ).version
        for _ in range(2)
    ]
    for version in tracker.versions(name):
        tracker.annotate(version, tags={"gate": HUGE}, line="the newest line")
    tracker.record(name, entry_now("first", 1, champion_before=None, champion_after=1, reason=HUGE))
    assert tracker.history(name)[0].reason.startswith(LONG)
    texts = [each.description for each in tracker.versions(name)]
    assert [text.split("\n\n")[1] for text in texts] == ["the newest line"] * 2
    tracker.promote(name, versions[1])
    tracker.rollback(name)
    found = tracker.client.get_run(trial)
    assert len(found.data.params["space"]) == 6000 and found.data.params["space"].endswith("...")
    assert found.data.tags["outcome_reason"].endswith("...")
    assert found.data.tags["outcome"] == "failed"
    model = tracker.client.get_registered_model(name)
    assert len(model.description) <= 5000
    assert f"models:/{name}@champion" in model.description


def test_a_history_of_many_champions_stays_readable(
    strict_store: str, plain_adapter: Path, name: str
) -> None:
    from components.registry.champions import Champions
    from components.registry.mlflow_models import _history

    champions = Champions(name, tuple(range(20_000)), 19_999, tuple(range(10_000, 19_999)))
    kept = _history(champions)
    assert len(kept) <= 5000
    assert kept.endswith("19997, 19998]")
    assert _history(replace(champions, before=(1, 2))) == "[1, 2]"


def test_a_text_keeps_its_beginning_and_loses_what_no_database_takes() -> None:
    assert fitted("a" * 10, 10) == "a" * 10
    assert fitted("a" * 11, 10) == "a" * 7 + "..."
    assert fitted("a\0b\ud800c\N{GRINNING FACE}", 10) == "a\ufffdb\ufffdc\N{GRINNING FACE}"
    assert fitted("at http://ann:s3cr3t@host", 100) == "at http://***@host"


def test_a_name_that_does_not_fit_is_refused_because_it_carries_meaning(mlflow_uri: str) -> None:
    tracker = open_tracker("mlflow", mlflow_uri)
    with pytest.raises(ConfigError, match="a name of 300 characters"):
        tracker.ensure_experiment("n" * 300, "")
    with pytest.raises(ConfigError, match=r"registry\.model_name"):
        check_model_name("n" * 300)
    with pytest.raises(ConfigError, match="a name of 251 characters"):
        tracker.start_child("run", name="n" * 251, params={}, tags={})
    with pytest.raises(ConfigError, match="key"):
        check_name("k" * 251, 250, "key")


@SLOW
def test_a_configuration_that_is_logged_holds_no_password(mlflow_uri: str, tmp_path: Path) -> None:
    tracker: Any = open_tracker("mlflow", mlflow_uri)
    tracker.ensure_experiment("secrets", "")
    given = {"source": "http://ann:s3cr3t-of-ann@host/x", "hf_token": "s3cr3t-of-ann", "rate": 0.1}
    run = tracker.start_run("secrets", run_name="s", config=given, params=given, tags=given)
    hidden = {"source": "http://***@host/x", "hf_token": "***", "rate": 0.1}
    assert tracker.read_dict(run, "config.json") == hidden
    assert "s3cr3t" not in str(tracker.client.get_run(run).data)


def test_a_description_of_a_model_keeps_its_instructions_beside_many_labels() -> None:
    class Usage:
        purpose, frame, file = "label documents", "{}", "documents.jsonl"

    long = model_description("toy", LABELS, "b", Usage())
    assert len(long) < 3000
    assert "and 4 more" in long and "prefixprop predict --model models:/toy@champion" in long
    assert "a, b;" in model_description("toy", ("a", "b"), "b", Usage())


def test_every_writing_call_of_the_registry_goes_through_the_fitted_client() -> None:
    """A call that sends a text and is not fitted would be found by a database alone."""
    folder = Path(__file__).parents[3] / "components" / "registry"
    source = "".join(
        (folder / name).read_text() for name in ("mlflow_tracker.py", "mlflow_models.py")
    )
    fits = {name for name in vars(FittedClient) if not name.startswith("_")}
    without_text = {
        "log_model_artifacts",
        "log_outputs",
        "log_artifacts",
        "log_figure",
        "set_terminated",
        "update_run",
        "finalize_logged_model",
        "set_registered_model_alias",
        "delete_registered_model_alias",
    }
    called = set(re.findall(r"client\.((?:create|set|log|update|delete|finalize)_\w+)\(", source))
    assert called <= fits | without_text
