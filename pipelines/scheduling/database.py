"""The database that everybody shares who schedules, retrains or promotes: leases, records, states.

What goes wrong in it is one ClusterError that shows no password; only IntegrityError comes through,
because it is an answer: somebody else was faster.
"""

from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Table, create_engine, inspect
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from components.errors import ClusterError


def shared_engine(tracking_uri: str | None, state: Path) -> Engine:
    """The database behind MLflow where the tracking address names it, else sqlite in the state
    folder of this machine.
    """
    uri = tracking_uri or ""
    if uri.split("+")[0].split(":")[0] in ("postgresql", "mysql"):
        return create_engine(uri, pool_pre_ping=True)
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
