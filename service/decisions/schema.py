"""The tables of a ledger in SQLite. An older file is brought up to this release, and loses nothing."""

import sqlite3
from collections.abc import Callable, Sequence

from service.errors import LedgerUnavailable

VERSION = 3
"""1 had no number and no chain, only the first three tables; 2 one ruling a decision, and one tenant."""
FIRST = (
    """CREATE TABLE IF NOT EXISTS decisions (
        id TEXT PRIMARY KEY, at TEXT NOT NULL, domain TEXT NOT NULL, ruling TEXT NOT NULL, decision TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE IF NOT EXISTS overrides (
        decision_id TEXT PRIMARY KEY REFERENCES decisions (id), override TEXT NOT NULL
    ) STRICT""",
    "CREATE TABLE IF NOT EXISTS pulse (id INTEGER PRIMARY KEY CHECK (id = 1), beats INTEGER NOT NULL) STRICT",
    "INSERT OR IGNORE INTO pulse VALUES (1, 0)",
)
SECOND = (
    """CREATE TABLE events (
        seq INTEGER PRIMARY KEY, at TEXT NOT NULL, tenant TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL,
        body TEXT, previous TEXT NOT NULL, hash TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX events_of ON events (subject, kind, seq)",
    "CREATE TABLE waiting (due TEXT PRIMARY KEY, decision_id TEXT NOT NULL UNIQUE) STRICT, WITHOUT ROWID",
    """CREATE TABLE claims (
        caller TEXT NOT NULL, route TEXT NOT NULL, key TEXT NOT NULL, body_hash TEXT NOT NULL,
        turn INTEGER NOT NULL, began TEXT NOT NULL, status INTEGER, answer BLOB, PRIMARY KEY (caller, route, key)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX claims_by_age ON claims (began)",
)
THIRD = (
    "ALTER TABLE decisions ADD COLUMN salt BLOB",
    "ALTER TABLE waiting ADD COLUMN tenant TEXT NOT NULL DEFAULT 'house'",
    "UPDATE waiting SET tenant = (SELECT tenant FROM events WHERE subject = decision_id ORDER BY seq LIMIT 1)",
    "CREATE INDEX waiting_of ON waiting (tenant, due)",
    "CREATE INDEX events_noted ON events (kind, tenant, subject, seq) WHERE kind IN ('policy', 'model', 'key', 'switch')",
    """UPDATE events SET body = (SELECT override FROM overrides WHERE decision_id = subject)
        WHERE body IS NULL AND kind IN ('override', 'adopted_override')""",
)
LAST = ("DROP TABLE overrides", f"PRAGMA user_version = {VERSION}")


def version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def upgrade(db: sqlite3.Connection, adopt: Callable[[], None]) -> None:
    """Inside a transaction. `adopt` takes what was kept without a chain into it."""
    kept = version(db)
    if kept > VERSION:
        raise LedgerUnavailable(f"the ledger was written by a later release: schema {kept}, not {VERSION}")
    if kept == VERSION:  # another process was faster
        return
    if kept < 2:
        _execute(db, [*FIRST, *SECOND])
    _execute(db, THIRD)
    if kept < 2:
        adopt()
    _execute(db, LAST)


def _execute(db: sqlite3.Connection, statements: Sequence[str]) -> None:
    for statement in statements:
        db.execute(statement)
