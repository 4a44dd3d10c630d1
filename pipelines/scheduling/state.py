"""What schedules have started, in the database of the leases: one row per schedule."""

import contextlib
from dataclasses import dataclass

from sqlalchemy import (
    Boolean,
    Column,
    Engine,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from pipelines.scheduling.database import changes, ensure_table, rows_of

SCHEDULES = Table(
    "prefixprop_schedules",
    MetaData(),
    Column("name", String(250), primary_key=True),
    Column("paused", Boolean, nullable=False),
    Column("since", Float(53), nullable=False),
    Column("occasion", String(250), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("submission_id", String(250), nullable=False),
    Column("retry_at", Float(53)),
)


@dataclass(frozen=True)
class State:
    """One schedule. Times up to `since` (seconds since 1970) are dealt with; `occasion`, `attempt`
    and `submission_id` are those of the latest job ("" and 0: none yet); `retry_at`: when it is
    started again.
    """

    name: str
    paused: bool
    since: float
    occasion: str = ""
    attempt: int = 0
    submission_id: str = ""
    retry_at: float | None = None


class States:
    """The table. Raises ClusterError where the database cannot be used."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        ensure_table(engine, SCHEDULES)

    def of(self, name: str, *, now: float) -> State:
        """The schedule's state; a new schedule starts `now`: nothing before it was missed."""
        found = rows_of(self.engine, select(SCHEDULES).where(SCHEDULES.c.name == name))
        if found:
            return State(**found[0])
        with contextlib.suppress(IntegrityError):  # another scheduler was faster
            changes(self.engine, insert(SCHEDULES).values(**vars(State(name, False, now))))
        return self.of(name, now=now)

    def change(self, before: State, after: State) -> bool:
        """Compare and set: False where somebody else has changed the row meanwhile."""
        statement = (
            update(SCHEDULES)
            .where(
                SCHEDULES.c.name == before.name,
                SCHEDULES.c.since == before.since,
                SCHEDULES.c.occasion == before.occasion,
                SCHEDULES.c.attempt == before.attempt,
                SCHEDULES.c.paused == before.paused,
            )
            .values(**vars(after))
        )
        return changes(self.engine, statement)
