"""PostgreSQL for tests: Debian's own server, started as an ordinary user in a folder of its own and
reached through a socket there. It refuses to run as root.
"""

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

NEW_CLUSTER = ("-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C.UTF-8")
SOCKET_ALONE = ("-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200")
NUMBERS = itertools.count()
NewDatabase = Callable[[], str]


def _programs() -> Path:
    """The folder of initdb and postgres; skips the test where there is none."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name)
    found = [folder for folder in folders if (folder / "postgres").is_file()]
    if not found:
        pytest.skip("no PostgreSQL server here (Debian: apt-get install postgresql)")
    return found[-1]


def _ordinary_user() -> str | None:
    """Who the server runs as; None: as this process."""
    if os.geteuid() != 0:
        return None
    users = {each.pw_name for each in pwd.getpwall()}
    return "postgres" if "postgres" in users else "nobody"


@pytest.fixture(scope="session")
def new_postgres_database() -> Iterator[NewDatabase]:
    """Makes a database that holds nothing and returns its address, as often as it is called."""
    programs, user = _programs(), _ordinary_user()
    folder = Path(tempfile.mkdtemp(prefix="pp-pg-", dir="/tmp"))  # sockets want a short path
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    try:
        subprocess.run(
            [programs / "initdb", "-D", folder / "data", *NEW_CLUSTER],
            user=user,
            cwd=folder,
            check=True,
            capture_output=True,
            timeout=120,
        )
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", folder / "data", "-k", folder, *SOCKET_ALONE],
                user=user,
                cwd=folder,
                stdout=log,
                stderr=log,
            )
        try:
            _wait_until_it_answers(folder, server)
            yield lambda: _create(folder)
        finally:
            server.send_signal(signal.SIGINT)  # ends connections, then itself
            server.wait(timeout=60)
    finally:
        shutil.rmtree(folder)


def _address(folder: Path, database: str) -> str:
    return f"postgresql://postgres@/{database}?host={folder}"


def _wait_until_it_answers(folder: Path, server: "subprocess.Popen[bytes]") -> None:
    import psycopg

    until = time.monotonic() + 60
    while time.monotonic() < until and server.poll() is None:
        try:
            psycopg.connect(_address(folder, "postgres")).close()
        except psycopg.OperationalError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"PostgreSQL did not come up: {(folder / 'log').read_text()[-2000:]}")


def _create(folder: Path) -> str:
    import psycopg

    name = f"test_{next(NUMBERS)}"
    with psycopg.connect(_address(folder, "postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return _address(folder, name)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def shared_database(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    """Where leases, records and states are kept: None for sqlite in the state folder `tmp_path`,
    else the address of an empty PostgreSQL database.
    """
    if request.param == "sqlite":
        return None
    new: NewDatabase = request.getfixturevalue("new_postgres_database")
    return new()
