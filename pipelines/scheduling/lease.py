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
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
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
    insert,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from components.errors import ClusterError
from pipelines.scheduling.database import changes, ensure_table, rows_of

LEASES = Table(
    "prefixprop_leases",
    MetaData(),
    Column("name", String(300), primary_key=True),
    Column("holder", String(300)),
    Column("fencing", BigInteger, nullable=False),
    Column("expires_at", Float(53), nullable=False),
)
"""`holder` is null where nobody holds it; `expires_at` in seconds since 1970. A model's name holds
256 characters, a host's 253.
"""
CLOCKS = {
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "extract(epoch from clock_timestamp())",
    "mysql": "unix_timestamp(sysdate(6))",
}
"""The database's clock in seconds since 1970, by dialect."""
SECONDS = 60.0
"""How long a lease outlives its holder's last sign."""
POLL_SECONDS = 1.0
"""How often one who waits looks again."""


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
        renewed = changes(
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
        changes(
            self.engine,
            update(LEASES)
            .where(
                LEASES.c.name == self.name,
                LEASES.c.holder == self.holder,
                LEASES.c.fencing == self.fencing,
            )
            .values(holder=None, expires_at=0.0),
        )


def take(engine: Engine, name: str, *, holder: str = "", seconds: float | None = None) -> Lease:
    """Take the lease `name` for `seconds` (None: SECONDS). Raises LeaseHeld where somebody has it,
    ClusterError where the database cannot be used.
    """
    seconds = SECONDS if seconds is None else seconds
    holder = holder or f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    now = _now(engine)
    ensure_table(engine, LEASES)
    with contextlib.suppress(IntegrityError):
        # suppressed: the row is there already, which is what is wanted
        changes(engine, insert(LEASES).values(name=name, holder=None, fencing=0, expires_at=0.0))
    taken = changes(
        engine,
        update(LEASES)
        .where(
            LEASES.c.name == name,
            or_(LEASES.c.holder.is_(None), LEASES.c.expires_at < now),
        )
        .values(holder=holder, fencing=LEASES.c.fencing + 1, expires_at=now + seconds),
    )
    row = _row(engine, name)
    if not taken or row is None or row["holder"] != holder:
        by = "somebody" if row is None or row["holder"] is None else row["holder"]
        left = 0.0 if row is None else max(0.0, float(row["left"]))
        raise LeaseHeld(
            f"{name} is held by {by}, for another {left:.0f} s unless it renews; try again later."
        )
    return Lease(engine, name, holder, int(row["fencing"]), seconds)


@contextlib.contextmanager
def held(
    engine: Engine,
    name: str,
    *,
    holder: str = "",
    seconds: float | None = None,
    patience: float = 0.0,
) -> Iterator[Lease]:
    """Hold the lease while the block runs, renewed every third of its time by a thread that ends
    with it. Before anything is changed for others, call `Lease.check`. `patience`: how long to wait
    for another holder to end, in seconds. Raises as `take`.
    """
    until = time.monotonic() + patience
    while True:
        try:
            lease = take(engine, name, holder=holder, seconds=seconds)
            break
        except LeaseHeld:
            if time.monotonic() >= until:
                raise
            time.sleep(min(POLL_SECONDS, patience))
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(lease.seconds / 3):
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


def _row(engine: Engine, name: str) -> Any:
    left = case((LEASES.c.holder.is_(None), 0.0), else_=LEASES.c.expires_at - _now(engine))
    columns = LEASES.c.holder, LEASES.c.fencing, left.label("left")
    found = rows_of(engine, select(*columns).where(LEASES.c.name == name))
    return found[0] if found else None


def _now(engine: Engine) -> Any:
    clock = CLOCKS.get(engine.dialect.name)
    if clock is None:
        raise ClusterError(
            f"Leases need one of {', '.join(CLOCKS)}; the database is {engine.dialect.name}."
        )
    return literal_column(clock, Float)
