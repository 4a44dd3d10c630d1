"""The database that everybody shares who schedules, retrains or promotes: leases, records, states.

What goes wrong in it is one ClusterError that shows no password; only IntegrityError comes through,
because it is an answer: somebody else was faster.
"""

import os
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Table, create_engine, inspect
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from components.errors import ClusterError, ConfigError
from pipelines.local_cluster.addresses import DATABASE, database_address, lasting_folder

EXTRAS = {"postgresql": "postgres"}
"""Dialect -> the extra of this project that installs its driver."""
CONNECT_SECONDS = 10
WANTED = "give postgresql://<user>:<password>@<host>/<database>"


def shared_engine(tracking_uri: str | None, state: Path) -> Engine:
    """The database that the environment names (PREFIXPROP_DATABASE), else the one behind MLflow
    where the tracking address names it, else sqlite in the state folder of this machine. Raises
    ConfigError where the address is none or its driver is not installed.
    """
    uri = database_address(os.environ) or tracking_uri or ""
    dialect = uri.split("+")[0].split(":")[0]
    if dialect in ("postgresql", "mysql"):
        waits = {"connect_timeout": CONNECT_SECONDS}
        try:
            return create_engine(uri, pool_pre_ping=True, connect_args=waits)
        except ImportError as error:
            extra = EXTRAS.get(dialect)
            fix = f"pip install 'prefixprop[{extra}]'" if extra else f"Install {error.name}"
            raise ConfigError(f"The database needs the driver {error.name}. {fix}.") from error
        except (SQLAlchemyError, ValueError) as error:
            raise ConfigError(
                f"The address of the database of leases is none that can be read: {WANTED}."
            ) from error
    if database_address(os.environ):
        raise ConfigError(f"{DATABASE} names no PostgreSQL or MySQL: {WANTED}.")
    state = lasting_folder(state, os.environ)
    state.mkdir(parents=True, exist_ok=True)
    return create_engine(f"sqlite:///{state / 'leases.db'}", connect_args={"timeout": 30})


def ensure_table(engine: Engine, table: Table) -> None:
    """Make the table where it is not there; two may call at once."""
    try:
        table.create(engine, checkfirst=True)
    except SQLAlchemyError as error:
        if not _exists(engine, table):
            raise _unusable(engine, error) from error


def rows_of(engine: Engine, statement: Any) -> list[Any]:
    """The rows that a query finds, as mappings."""
    result: list[Any] = _executed(engine, statement)[0]
    return result


def changes(engine: Engine, statement: Any) -> bool:
    """Whether an insert or update changed a row."""
    return bool(_executed(engine, statement)[1])


def _executed(engine: Engine, statement: Any) -> tuple[list[Any], int]:
    try:
        with engine.begin() as connection:
            result = connection.execute(statement)
            return (list(result.mappings()), 0) if result.returns_rows else ([], result.rowcount)
    except IntegrityError:
        raise
    except SQLAlchemyError as error:
        raise _unusable(engine, error) from error


def _exists(engine: Engine, table: Table) -> bool:
    try:
        return inspect(engine).has_table(table.name)
    except SQLAlchemyError:
        return False


def _unusable(engine: Engine, error: SQLAlchemyError) -> ClusterError:
    where = engine.url.render_as_string(hide_password=True)
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return ClusterError(f"The database of leases at {where} cannot be used ({first}).")
