"""Who may do it? A lease on a name: one row of an SQL database, taken and kept by single statements
that compare and set by the database's own clock.

A lease ends by itself when its holder no longer answers. Each holder gets a fencing number larger
than that of every holder before; one that lost its lease (a pause longer than the lease, a clock
that jumped, a network that was away) learns of it by `Lease.check` before it changes anything.
"""

import contextlib
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    Float,
    MetaData,
    String,
    Table,
    case,
    create_engine,
    insert,
    inspect,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from components.errors import ClusterError

LEASES = Table(
    "prefixprop_leases",
    MetaData(),
    Column("name", String(250), primary_key=True),
    Column("holder", String(250)),
    Column("fencing", BigInteger, nullable=False),
    Column("expires_at", Float(53), nullable=False),
)
"""`holder` is null where nobody holds it; `expires_at` in seconds since 1970."""
CLOCKS = {
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "extract(epoch from clock_timestamp())",
    "mysql": "unix_timestamp(sysdate(6))",
}
"""The database's clock in seconds since 1970, by dialect."""
SECONDS = 60.0
"""How long a lease outlives its holder's last sign."""


class LeaseHeld(ClusterError):
    """Somebody else holds it; the message says who, and for how long at most."""


class LeaseLost(ClusterError):
    """It was held and is no longer: nothing may be changed in its name."""


@dataclass(frozen=True)
class Lease:
    """A lease that was taken. `fencing` grows from holder to holder."""

    engine: Engine
    name: str
    holder: str
    fencing: int
    seconds: float

    def check(self) -> None:
        """Renew it. Raises LeaseLost where somebody else has it or could have had it."""
        renewed = _change(
            self.engine,
            update(LEASES)
            .where(
                LEASES.c.name == self.name,
                LEASES.c.holder == self.holder,
                LEASES.c.fencing == self.fencing,
                LEASES.c.expires_at >= _now(self.engine),
            )
            .values(expires_at=_now(self.engine) + self.seconds),
        )
        if not renewed:
            raise LeaseLost(
                f"The lease on {self.name} was lost: no sign of this process reached the database "
                f"for {self.seconds:g} s. Nothing more is changed by it; run the command again."
            )

    def release(self) -> None:
        """Let the next one have it at once; does nothing where it was lost."""
        _change(
            self.engine,
            update(LEASES)
            .where(
                LEASES.c.name == self.name,
                LEASES.c.holder == self.holder,
                LEASES.c.fencing == self.fencing,
            )
            .values(holder=None, expires_at=0.0),
        )


def lease_engine(tracking_uri: str | None, state: Path) -> Engine:
    """The database that everybody who could take a lease shares: the one behind MLflow where the
    tracking address names it, else sqlite in the state folder of this machine.
    """
    uri = tracking_uri or ""
    if uri.split("+")[0].split(":")[0] in ("postgresql", "mysql"):
        return create_engine(uri, pool_pre_ping=True)
    state.mkdir(parents=True, exist_ok=True)
    return create_engine(f"sqlite:///{state / 'leases.db'}", connect_args={"timeout": 30})


def take(engine: Engine, name: str, *, holder: str = "", seconds: float = SECONDS) -> Lease:
    """Take the lease `name` for `seconds`. Raises LeaseHeld where somebody has it, ClusterError
    where the database cannot be used.
    """
    holder = holder or f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    now = _now(engine)
    try:
        LEASES.create(engine, checkfirst=True)
    except SQLAlchemyError as error:
        # Two at once: the other one made it.
        if not _exists(engine):
            raise _unusable(engine, error) from error
    with contextlib.suppress(IntegrityError):
        # suppressed: the row is there already, which is what is wanted
        _change(engine, insert(LEASES).values(name=name, holder=None, fencing=0, expires_at=0.0))
    taken = _change(
        engine,
        update(LEASES)
        .where(
            LEASES.c.name == name,
            or_(LEASES.c.holder.is_(None), LEASES.c.expires_at < now),
        )
        .values(holder=holder, fencing=LEASES.c.fencing + 1, expires_at=now + seconds),
    )
    row = _row(engine, name)
    if not taken or row is None or row.holder != holder:
        by = "somebody" if row is None or row.holder is None else row.holder
        left = 0.0 if row is None else max(0.0, float(row.left))
        raise LeaseHeld(
            f"{name} is held by {by}, for another {left:.0f} s unless it renews; try again later."
        )
    return Lease(engine, name, holder, int(row.fencing), seconds)


@contextlib.contextmanager
def held(
    engine: Engine, name: str, *, holder: str = "", seconds: float = SECONDS
) -> Iterator[Lease]:
    """Hold the lease while the block runs, renewed every third of its time by a thread that ends
    with it. Before anything is changed for others, call `Lease.check`.
    """
    lease, ended = take(engine, name, holder=holder, seconds=seconds), threading.Event()

    def renew() -> None:
        while not ended.wait(seconds / 3):
            try:
                lease.check()
            except LeaseLost:
                return
            except ClusterError:
                continue  # away for a while: it is tried again until the lease runs out

    thread = threading.Thread(target=renew, name=f"lease {name}", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        ended.set()
        thread.join()
        with contextlib.suppress(ClusterError):
            lease.release()


def _exists(engine: Engine) -> bool:
    try:
        return inspect(engine).has_table(LEASES.name)
    except SQLAlchemyError:
        return False


def _row(engine: Engine, name: str) -> Any:
    left = case((LEASES.c.holder.is_(None), 0.0), else_=LEASES.c.expires_at - _now(engine)).label(
        "left"
    )
    try:
        with engine.connect() as connection:
            return connection.execute(
                select(LEASES.c.holder, LEASES.c.fencing, left).where(LEASES.c.name == name)
            ).one_or_none()
    except SQLAlchemyError as error:
        raise _unusable(engine, error) from error


def _change(engine: Engine, statement: Any) -> bool:
    """Whether the statement changed its row."""
    try:
        with engine.begin() as connection:
            return bool(connection.execute(statement).rowcount)
    except IntegrityError:
        raise
    except SQLAlchemyError as error:
        raise _unusable(engine, error) from error


def _now(engine: Engine) -> Any:
    clock = CLOCKS.get(engine.dialect.name)
    if clock is None:
        raise ClusterError(
            f"Leases need one of {', '.join(CLOCKS)}; the database is {engine.dialect.name}."
        )
    return literal_column(clock, Float)


def _unusable(engine: Engine, error: SQLAlchemyError) -> ClusterError:
    where = engine.url.render_as_string(hide_password=True)
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return ClusterError(f"The database of leases at {where} cannot be used ({first}).")
