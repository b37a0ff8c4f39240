"""Decisions in one SQLite file: durable before they are answered."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from service.errors import LedgerUnavailable, OverrideRefused, UnknownDecision
from service.vocabulary.decision import Decision, Override

T = TypeVar("T")

SCHEMA = """
CREATE TABLE IF NOT EXISTS decisions (
    id TEXT PRIMARY KEY, at TEXT NOT NULL, domain TEXT NOT NULL, ruling TEXT NOT NULL, decision TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS overrides (
    decision_id TEXT PRIMARY KEY REFERENCES decisions (id), override TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS pulse (id INTEGER PRIMARY KEY CHECK (id = 1), beats INTEGER NOT NULL) STRICT;
INSERT OR IGNORE INTO pulse VALUES (1, 0);
"""


class SqliteLedger:
    """One connection on one thread of its own; WAL, `synchronous=FULL`: a commit is on the disk when it returns."""

    name = "sqlite"

    def __init__(self, path: Path, patience_s: float = 2.0) -> None:
        self._path, self._patience = path, patience_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    async def append(self, decision: Decision) -> None:
        await self._do(lambda db: _append(db, decision))

    async def find(self, decision_id: str) -> Decision | None:
        return await self._do(lambda db: _find(db, decision_id))

    async def override(self, override: Override) -> Decision:
        return await self._do(lambda db: _override(db, override))

    async def healthy(self) -> bool:
        try:
            await self._do(lambda db: _commit(db, "UPDATE pulse SET beats = beats + 1 WHERE id = ?", (1,)))
        except LedgerUnavailable:
            return False
        return True

    async def aclose(self) -> None:
        def close() -> None:
            if self._connection is not None:
                self._connection.close()

        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, close)
            self._thread.shutdown()

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What was begun is finished even if the caller leaves: a half-known write would be worse than a late one."""
        if self._closed:
            raise LedgerUnavailable("the ledger is closed")
        task = asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(self._open()))
        try:
            return await asyncio.wait_for(asyncio.shield(task), self._patience)
        except TimeoutError as error:
            raise LedgerUnavailable(f"the ledger did not answer within {self._patience} s") from error
        except (sqlite3.Error, OSError, ValueError) as error:
            raise LedgerUnavailable(f"the ledger cannot be used: {error}") from error

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = _connect(self._path, self._patience)
        return self._connection


def _connect(path: Path, patience_s: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, timeout=patience_s)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.executescript(SCHEMA)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _commit(db: sqlite3.Connection, statement: str, values: tuple[object, ...]) -> None:
    with db:
        db.execute(statement, values)


def _append(db: sqlite3.Connection, decision: Decision) -> None:
    told = decision.model_dump_json()
    row = (decision.decision_id, decision.at.isoformat(), decision.domain, decision.ruling, told)
    try:
        _commit(db, "INSERT INTO decisions VALUES (?, ?, ?, ?, ?)", row)
    except sqlite3.IntegrityError as error:
        kept = db.execute("SELECT decision FROM decisions WHERE id = ?", (decision.decision_id,)).fetchone()
        if kept != (told,):
            raise LedgerUnavailable(f"another decision is kept as {decision.decision_id}") from error


def _find(db: sqlite3.Connection, decision_id: str) -> Decision | None:
    row = db.execute(
        "SELECT decision, override FROM decisions LEFT JOIN overrides ON decision_id = id WHERE id = ?", (decision_id,)
    ).fetchone()
    if row is None:
        return None
    decision = Decision.model_validate_json(row[0])
    kept = Override.model_validate_json(row[1]) if row[1] else None
    return decision.model_copy(update={"overridden": kept})


def _override(db: sqlite3.Connection, override: Override) -> Decision:
    decision = _find(db, override.decision_id)
    if decision is None:
        raise UnknownDecision(f"there is no decision {override.decision_id}")
    try:
        _commit(db, "INSERT INTO overrides VALUES (?, ?)", (override.decision_id, override.model_dump_json()))
    except sqlite3.IntegrityError as error:
        raise OverrideRefused("this decision has been ruled on already") from error
    return decision.model_copy(update={"overridden": override})
