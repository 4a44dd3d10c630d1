"""One holder at a time, by the database's clock; a holder that lost its lease knows."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, update

from components.errors import ClusterError, ConfigError
from pipelines.scheduling.database import shared_engine
from pipelines.scheduling.lease import LEASES, LeaseHeld, LeaseLost, held, take


@pytest.fixture
def engine(shared_database: str | None, tmp_path: Path) -> Engine:
    return shared_engine(shared_database or "http://127.0.0.1:1", tmp_path)


def expire(engine: Engine) -> None:
    """As if the holder had given no sign for long."""
    with engine.begin() as connection:
        connection.execute(update(LEASES).values(expires_at=1.0))


def test_one_holds_it_and_the_others_are_told_who(engine: Engine) -> None:
    lease = take(engine, "promote demo", holder="first")
    with pytest.raises(LeaseHeld, match=r"held by first, for another (59|60) s"):
        take(engine, "promote demo", holder="second")
    take(engine, "promote other", holder="second")
    lease.check()
    lease.release()
    assert take(engine, "promote demo", holder="second").fencing == lease.fencing + 1


def test_a_dead_holders_lease_is_taken_over_and_it_changes_nothing_when_it_comes_back(
    engine: Engine,
) -> None:
    first = take(engine, "demo", holder="first")
    expire(engine)
    with pytest.raises(LeaseLost, match="Nothing more is changed"):
        first.check()  # though nobody took it: it could have been
    second = take(engine, "demo", holder="second")
    assert second.fencing == first.fencing + 1
    with pytest.raises(LeaseLost):
        first.check()
    first.release()
    second.check()  # the release of one that lost it is nobody's business


def test_it_is_renewed_while_it_is_held_and_free_afterwards(engine: Engine) -> None:
    with held(engine, "demo", seconds=3.0) as lease:  # a busy machine stands still for a second
        time.sleep(5.0)
        lease.check()
        with pytest.raises(LeaseHeld):
            take(engine, "demo")
    take(engine, "demo")


def test_of_many_at_once_one_has_it(shared_database: str | None, tmp_path: Path) -> None:
    def attempt(number: int) -> bool:
        try:
            take(shared_engine(shared_database, tmp_path), "demo", holder=f"h{number}")
        except LeaseHeld:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(attempt, range(20))) == 1


def test_an_unusable_database_is_named_without_its_password(tmp_path: Path) -> None:
    (tmp_path / "leases.db").write_bytes(b"no database at all, but long enough to be read as one")
    with pytest.raises(ClusterError, match="database of leases at"):
        take(shared_engine(None, tmp_path), "demo")
    with pytest.raises(ClusterError) as refused:
        take(shared_engine("postgresql://user:s3cr3t@127.0.0.1:1/x", tmp_path), "demo")
    assert "s3cr3t" not in str(refused.value) and "Connection refused" in str(refused.value)


def test_the_longest_names_of_models_and_hosts_have_room(engine: Engine) -> None:
    name, holder = f"promote {'m' * 256}", f"{'h' * 253}:4194304:01234567"
    assert take(engine, name, holder=holder).holder == holder


def test_the_environment_names_the_database_where_mlflow_is_reached_over_http(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFIXPROP_DATABASE", "postgresql://user:s3cr3t@host/x")
    found = shared_engine("http://mlflow:5000", tmp_path).url
    assert (found.host, found.database) == ("host", "x")
    for wrong in ("oracle://user:s3cr3t@host/x", "postgresql+absent://user:s3cr3t@host/x"):
        monkeypatch.setenv("PREFIXPROP_DATABASE", wrong)
        with pytest.raises(ConfigError) as refused:
            shared_engine("http://mlflow:5000", tmp_path)
        assert "s3cr3t" not in str(refused.value)


HOLDER = """
import sys, time
from pathlib import Path
from pipelines.scheduling.database import shared_engine
from pipelines.scheduling.lease import LeaseLost, held
engine = shared_engine(sys.argv[2] or None, Path(sys.argv[1]))
with held(engine, "demo", holder="paused", seconds=1.0) as lease:
    print("held", flush=True)
    sys.stdin.readline()
    try:
        lease.check()
        print("changed", flush=True)
    except LeaseLost:
        print("lost", flush=True)
"""


def test_a_holder_that_was_paused_past_its_lease_changes_nothing(
    tmp_path: Path, engine: Engine, shared_database: str | None
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path), shared_database or ""],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])},
    )
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == "held\n"
    process.send_signal(signal.SIGSTOP)
    started, taken = time.monotonic(), None
    while taken is None and time.monotonic() - started < 30:
        try:
            taken = take(engine, "demo", holder="next")
        except LeaseHeld:
            time.sleep(0.1)
    process.send_signal(signal.SIGCONT)
    out, _ = process.communicate("\n", timeout=30)
    assert out == "lost\n"
    assert taken is not None
    taken.check()
