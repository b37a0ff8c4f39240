"""Decisions in one SQLite file: durable before they are answered."""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar

from service.decisions import entry
from service.decisions.chain import Event, Sealer
from service.decisions.claim import Begun, Claim, Standing
from service.decisions.entry import NoteKind
from service.decisions.outcome import OutcomeReport
from service.decisions.ruling import waits
from service.decisions.schema import VERSION, version
from service.decisions.tables import Tables
from service.decisions.vault import Vault
from service.decisions.watch import Watch
from service.errors import LedgerUnavailable
from service.vocabulary.decision import Decision, Override

T = TypeVar("T")


Job = tuple[Callable[[Tables], Any], "Future[Any]"]
"""A write that waits for its turn, and its answer."""


class SqliteLedger:
    """One connection on one thread of its own; WAL, `synchronous=FULL`: a commit is on the disk when it returns.

    Writes that wait while another commits are committed together: an fsync takes some 4 ms, whatever it carries.
    """

    name = "sqlite"

    def __init__(
        self, path: Path, patience_s: float = 2.0, sealer: Sealer | None = None, vault: Vault | None = None
    ) -> None:
        self._path, self._patience, self._sealer, self._vault = path, patience_s, sealer, vault
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._tables: Tables | None = None
        self._jobs: deque[Job] = deque()
        self._watch = Watch(self._free)
        self._closed = False

    async def append(self, decision: Decision, tenant: str, supersede: Override | None = None) -> None:
        await self._write(lambda tables: tables.append(decision, tenant, supersede))

    async def find(self, decision_id: str, tenant: str) -> Decision | None:
        return await self._read(lambda tables: tables.find(decision_id, tenant))

    async def override(self, override: Override, tenant: str) -> Decision:
        return await self._write(lambda tables: tables.override(override, tenant))

    async def pending(self, tenant: str, limit: int, after: str = "") -> tuple[Decision, ...]:
        return await self._read(lambda tables: tables.pending(tenant, limit, after))

    async def waiting(self) -> int:
        return await self._read(lambda tables: tables.waiting())

    async def expire(self, now: datetime) -> tuple[Decision, ...]:
        return await self._write(lambda tables: tables.expire(now))

    async def wait(self, decision_id: str, tenant: str, timeout_s: float) -> Decision:
        decision = entry.present(decision_id, await self.find(decision_id, tenant))
        due = entry.due(decision)
        if due is None or not waits(decision):
            return decision
        await self._watch.settled(due, timeout_s)
        return entry.present(decision_id, await self.find(decision_id, tenant))

    async def report(self, report: OutcomeReport, tenant: str) -> None:
        await self._write(lambda tables: tables.report(report, tenant))

    async def reports(self, decision_id: str, tenant: str) -> tuple[OutcomeReport, ...]:
        return await self._read(lambda tables: tables.reports(decision_id, tenant))

    async def history(self, decision_id: str, tenant: str) -> tuple[Event, ...]:
        return await self._read(lambda tables: tables.history(decision_id, tenant))

    async def note(self, kind: NoteKind, subject: str, body: Mapping[str, Any], at: datetime, tenant: str) -> None:
        await self._write(lambda tables: tables.note(entry.noted(kind, subject, body, at, tenant)))

    async def noted(self, kind: NoteKind) -> tuple[Event, ...]:
        return await self._read(lambda tables: tables.noted(kind))

    async def events(self, after: int, limit: int) -> tuple[Event, ...]:
        return await self._read(lambda tables: tables.events(after, limit))

    async def erase(self, decision_id: str, tenant: str, at: datetime, by: str) -> None:
        """Answers kept under an `Idempotency-Key` are not touched: they are forgotten a day after they were asked for."""
        await self._write(lambda tables: tables.erase(decision_id, tenant, at, by))
        await self._read(lambda tables: tables.scrub(monotonic() + self._patience))

    async def begin(self, claim: Claim, now: datetime) -> Standing:
        return await self._write(lambda tables: tables.begin(claim, now))

    async def finish(self, begun: Begun, status: int, body: bytes) -> None:
        await self._write(lambda tables: tables.finish(begun, status, body))

    async def abandon(self, begun: Begun) -> None:
        await self._write(lambda tables: tables.abandon(begun))

    async def healthy(self) -> bool:
        try:
            await self._write(lambda tables: tables.beat())
        except LedgerUnavailable:
            return False
        return True

    async def aclose(self) -> None:
        def close() -> None:
            if self._tables is not None:
                self._tables.db.close()

        if not self._closed:
            self._closed = True
            await self._watch.aclose()
            await asyncio.get_running_loop().run_in_executor(self._thread, close)
            self._thread.shutdown()

    async def _free(self, dues: Collection[str]) -> Collection[str]:
        return await self._read(lambda tables: tables.free(dues))

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._read(lambda tables: work(tables.db))

    async def _read(self, work: Callable[[Tables], T]) -> T:
        self._refuse_if_closed()
        return await self._answer(self._thread.submit(lambda: work(self._open())))

    async def _write(self, work: Callable[[Tables], T]) -> T:
        self._refuse_if_closed()
        answer: Future[T] = Future()
        self._jobs.append((work, answer))
        self._thread.submit(self._commit)
        return await self._answer(answer)

    async def _answer(self, answer: "Future[T]") -> T:
        """What was begun is finished even if the caller leaves: a half-known write would be worse than a late one."""
        waited = asyncio.wrap_future(answer)
        waited.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            return await asyncio.wait_for(asyncio.shield(waited), self._patience)
        except TimeoutError as error:
            raise LedgerUnavailable(f"the ledger did not answer within {self._patience} s") from error
        except (sqlite3.Error, OSError, ValueError) as error:
            raise LedgerUnavailable(f"the ledger cannot be used: {error}") from error

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise LedgerUnavailable("the ledger is closed")

    def _commit(self) -> None:
        """All writes that wait, in one transaction; one that is refused takes back its own part alone."""
        jobs = [self._jobs.popleft() for _ in range(len(self._jobs))]
        try:
            outcomes = _together(self._open(), jobs) if jobs else []
        except Exception as error:
            outcomes = [error] * len(jobs)
        for (_, answer), outcome in zip(jobs, outcomes, strict=True):
            _settle(answer, outcome)

    def _open(self) -> Tables:
        if self._tables is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._tables = _connect(self._path, self._patience, self._sealer, self._vault)
        return self._tables


def _together(tables: Tables, jobs: Iterable[Job]) -> list[Any]:
    """What each job came to, once all of it is on the disk."""
    outcomes: list[Any] = []
    with _transaction(tables.db):
        for work, _ in jobs:
            tables.db.execute("SAVEPOINT job")
            try:
                outcomes.append(work(tables))
            except Exception as refusal:
                if isinstance(refusal, sqlite3.Error) and not isinstance(refusal, sqlite3.IntegrityError):
                    raise
                outcomes.append(refusal)
                tables.db.execute("ROLLBACK TO job")
            tables.db.execute("RELEASE job")
    return outcomes


def _settle(answer: "Future[Any]", outcome: Any) -> None:
    if isinstance(outcome, BaseException):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise


def _connect(path: Path, patience_s: float, sealer: Sealer | None, vault: Vault | None) -> Tables:
    db = sqlite3.connect(path, check_same_thread=False, timeout=patience_s, isolation_level=None)
    try:
        _use_wal(db, monotonic() + patience_s)
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA foreign_keys=ON")
        db.execute("PRAGMA secure_delete=ON")
        tables = Tables(db, sealer, vault)
        if version(db) != VERSION:
            with _transaction(db):
                tables.found()
    except BaseException:
        db.close()
        raise
    return tables


def _use_wal(db: sqlite3.Connection, until: float) -> None:
    """SQLite does not wait, as it does elsewhere, where another process changes a new file's mode in the same moment."""
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or monotonic() > until:
                raise
            sleep(0.01)
