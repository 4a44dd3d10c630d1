"""What was retrained when, on what, and how it ended: one row per retraining in the database that
holds the leases.
"""

import json
import time
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Column, Engine, Float, MetaData, String, Table, Text, insert, select, update

from pipelines.scheduling.database import changes, ensure_table, rows_of

Status = Literal["running", "done", "stopped", "failed"]
RECORDS = Table(
    "prefixprop_retrainings",
    MetaData(),
    Column("key", String(64), primary_key=True),
    Column("name", String(250), nullable=False),
    Column("status", String(20), nullable=False),
    Column("started_at", Float(53), nullable=False),
    Column("ended_at", Float(53)),
    Column("data_fingerprint", String(64), nullable=False),
    Column("config_sha256", String(64), nullable=False),
    Column("snapshot", Text, nullable=False),
    Column("report", Text, nullable=False),
)
"""`key` is a hash of name, documents and configuration; times in seconds since 1970."""


@dataclass(frozen=True)
class Record:
    """One retraining. `snapshot` is the folder of the documents it used."""

    key: str
    name: str
    status: Status
    started_at: float
    ended_at: float | None
    data_fingerprint: str
    config_sha256: str
    snapshot: str
    report: dict[str, Any]


class Records:
    """The table. Raises ClusterError where the database cannot be used."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        ensure_table(engine, RECORDS)

    def begin(self, record: Record) -> None:
        """Write a retraining down as it starts, over a former try of the same one."""
        values = {**vars(record), "report": json.dumps(record.report)}
        if self.find(record.key) is None:
            changes(self.engine, insert(RECORDS).values(**values))
        else:
            changes(
                self.engine, update(RECORDS).where(RECORDS.c.key == record.key).values(**values)
            )

    def end(self, key: str, status: Status, report: dict[str, Any]) -> None:
        changes(
            self.engine,
            update(RECORDS)
            .where(RECORDS.c.key == key)
            .values(status=status, ended_at=time.time(), report=json.dumps(report)),
        )

    def find(self, key: str) -> Record | None:
        rows = rows_of(self.engine, select(RECORDS).where(RECORDS.c.key == key))
        return _record(rows[0]) if rows else None

    def count_done(self, name: str) -> int:
        """How many ended well."""
        chosen = RECORDS.c.name == name, RECORDS.c.status == "done"
        return len(rows_of(self.engine, select(RECORDS.c.key).where(*chosen)))

    def last_done(self, name: str) -> Record | None:
        """The latest one that ended well."""
        rows = rows_of(
            self.engine,
            select(RECORDS)
            .where(RECORDS.c.name == name, RECORDS.c.status == "done")
            .order_by(RECORDS.c.ended_at.desc())
            .limit(1),
        )
        return _record(rows[0]) if rows else None


def _record(row: Any) -> Record:
    return Record(**{**row, "report": json.loads(row["report"])})
