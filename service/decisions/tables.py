"""A ledger's rows in SQLite. What writes here runs inside a transaction that its caller began and will commit."""

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from service.decisions import entry
from service.decisions.chain import Draft, Event, Head, Kind, Sealer, extend, spelt
from service.decisions.claim import KEPT, Answered, Begun, Claim, Kept, Standing, overtaken, stand
from service.decisions.outcome import OutcomeReport
from service.errors import LedgerUnavailable
from service.vocabulary.decision import Decision, Override

VERSION = 2
"""1 had no number, no chain, and the first two tables."""
SCHEMA = (
    """CREATE TABLE IF NOT EXISTS decisions (
        id TEXT PRIMARY KEY, at TEXT NOT NULL, domain TEXT NOT NULL, ruling TEXT NOT NULL, decision TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE IF NOT EXISTS overrides (
        decision_id TEXT PRIMARY KEY REFERENCES decisions (id), override TEXT NOT NULL
    ) STRICT""",
    "CREATE TABLE IF NOT EXISTS pulse (id INTEGER PRIMARY KEY CHECK (id = 1), beats INTEGER NOT NULL) STRICT",
    "INSERT OR IGNORE INTO pulse VALUES (1, 0)",
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
    f"PRAGMA user_version = {VERSION}",
)
EVENTS = """
SELECT seq, events.at, tenant, kind, subject, coalesce(body, decision, override, ''), previous, hash FROM events
LEFT JOIN decisions ON body IS NULL AND kind IN ('decision', 'adopted_decision') AND id = subject
LEFT JOIN overrides ON body IS NULL AND kind IN ('override', 'adopted_override') AND decision_id = subject
WHERE seq > ? ORDER BY seq LIMIT ?
"""
"""What a row of its own says, the chain does not say again: the row that is served is the one that was signed for."""
KEPT_ROWS = """
SELECT decision, override FROM events AS made JOIN decisions ON id = made.subject
LEFT JOIN events AS ruled ON ruled.subject = id AND ruled.kind IN ('override', 'adopted_override')
LEFT JOIN overrides ON decision_id = ruled.subject
WHERE made.subject = ? AND made.kind IN ('decision', 'adopted_decision')
"""
"""A row that no event speaks of was put in by somebody else, and is not served."""
ROWS = (Kind.decision, Kind.override, Kind.adopted_decision, Kind.adopted_override)


class Tables:
    def __init__(self, db: sqlite3.Connection, sealer: Sealer | None) -> None:
        self.db, self._sealer = db, sealer

    @property
    def version(self) -> int:
        return int(self.db.execute("PRAGMA user_version").fetchone()[0])

    def found(self) -> None:
        """Brings the tables to this version; what was kept without a chain is adopted into it, once."""
        if self.version > VERSION:
            raise LedgerUnavailable(f"the ledger was written by a later release: schema {self.version}, not {VERSION}")
        if self.version < VERSION:  # another process may have been faster
            for statement in SCHEMA:
                self.db.execute(statement)
            self._adopt()

    def beat(self) -> None:
        self.db.execute("UPDATE pulse SET beats = beats + 1 WHERE id = ?", (1,))

    def append(self, decision: Decision, tenant: str) -> None:
        id = decision.decision_id
        if not entry.is_new(decision, self._kept(id)[0]):
            return
        draft = entry.decided(decision, tenant)
        row = (id, decision.at.isoformat(), decision.domain, decision.ruling, draft.body)
        self.db.execute("INSERT INTO decisions VALUES (?, ?, ?, ?, ?)", row)
        if due := entry.due(decision):
            self.db.execute("INSERT INTO waiting VALUES (?, ?)", (due, id))
        self._chain([draft])

    def find(self, decision_id: str) -> Decision | None:
        decision, ruling = self._kept(decision_id)
        return None if decision is None else entry.whole(entry.known(decision_id, decision), ruling)

    def override(self, override: Override) -> Decision:
        kept, ruling = self._kept(override.decision_id)
        decision = entry.known(override.decision_id, kept)
        entry.unruled(ruling)
        draft = entry.ruled(override, self._tenant(override.decision_id))
        self.db.execute("INSERT INTO overrides VALUES (?, ?)", (override.decision_id, draft.body))
        self.db.execute("DELETE FROM waiting WHERE decision_id = ?", (override.decision_id,))
        self._chain([draft])
        return entry.whole(decision, draft.body)

    def pending(self, limit: int, after: str) -> tuple[Decision, ...]:
        bound = entry.due(entry.known(after, self._kept(after)[0])) if after else ""
        rows = self.db.execute(
            "SELECT decision FROM waiting JOIN decisions ON id = decision_id WHERE due > ? ORDER BY due LIMIT ?",
            (bound, limit),
        )
        return tuple(Decision.model_validate_json(decision) for (decision,) in rows)

    def expire(self, now: datetime) -> tuple[Decision, ...]:
        bound = entry.due_before(now)
        late = self.db.execute("SELECT decision_id FROM waiting WHERE due < ? ORDER BY due", (bound,)).fetchall()
        return tuple(self.override(entry.ran_out(id, now)) for (id,) in late)

    def ruled(self, ids: Collection[str]) -> list[str]:
        asked = "SELECT decision_id FROM overrides WHERE decision_id IN (SELECT value FROM json_each(?))"
        return [id for (id,) in self.db.execute(asked, (json.dumps(list(ids)),))]

    def report(self, report: OutcomeReport) -> None:
        entry.known(report.decision_id, self._kept(report.decision_id)[0])
        if report not in self.reports(report.decision_id):
            self._chain([entry.reported(report, self._tenant(report.decision_id))])

    def reports(self, decision_id: str) -> tuple[OutcomeReport, ...]:
        return tuple(OutcomeReport.model_validate_json(body) for body in self._bodies(Kind.outcome, decision_id))

    def note(self, draft: Draft) -> None:
        if [draft.body] != self._bodies(draft.kind, draft.subject)[-1:]:
            self._chain([draft])

    def events(self, after: int, limit: int) -> tuple[Event, ...]:
        names = ("seq", "at", "tenant", "kind", "subject", "body", "previous", "hash")
        rows = self.db.execute(EVENTS, (after, limit))
        return tuple(Event.model_validate(dict(zip(names, row, strict=True))) for row in rows)

    def begin(self, claim: Claim, now: datetime) -> Standing:
        self.db.execute("DELETE FROM claims WHERE began <= ?", (spelt(now - KEPT),))
        row = self.db.execute(
            "SELECT body_hash, turn, began, status, answer FROM claims WHERE (caller, route, key) = (?, ?, ?)",
            (claim.caller, claim.route, claim.key),
        ).fetchone()
        answer = Answered(row[3], row[4]) if row and row[3] is not None else None
        kept = Kept(row[0], row[1], datetime.fromisoformat(row[2]), answer) if row else None
        standing = stand(claim, kept, now)
        if isinstance(standing, Begun):
            told = (claim.caller, claim.route, claim.key, claim.body_hash, standing.turn, spelt(now))
            self.db.execute("INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?, ?, ?, NULL, NULL)", told)
        return standing

    def finish(self, begun: Begun, status: int, body: bytes) -> None:
        ours = self._own("UPDATE claims SET status = ?, answer = ?", (status, body), begun)
        if not ours:
            raise overtaken()

    def abandon(self, begun: Begun) -> None:
        self._own("DELETE FROM claims", (), begun)

    def _own(self, statement: str, values: tuple[object, ...], begun: Begun) -> int:
        claim = begun.claim
        mine = (claim.caller, claim.route, claim.key, begun.turn)
        where = "WHERE (caller, route, key, turn) = (?, ?, ?, ?) AND status IS NULL"
        return self.db.execute(f"{statement} {where}", (*values, *mine)).rowcount

    def _kept(self, decision_id: str) -> tuple[str | None, str | None]:
        """The decision's own text, and its ruling's."""
        row = self.db.execute(KEPT_ROWS, (decision_id,)).fetchone()
        return row or (None, None)

    def _tenant(self, decision_id: str) -> str:
        row = self.db.execute("SELECT tenant FROM events WHERE subject = ? ORDER BY seq LIMIT 1", (decision_id,))
        return str((row.fetchone() or (entry.HOUSE,))[0])

    def _bodies(self, kind: Kind, subject: str) -> list[str]:
        rows = self.db.execute("SELECT body FROM events WHERE (subject, kind) = (?, ?) ORDER BY seq", (subject, kind))
        return [body for (body,) in rows]

    def _chain(self, drafts: Iterable[Draft]) -> None:
        row = self.db.execute("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        for event in extend(Head(*row) if row else Head(), drafts, self._sealer):
            told: Mapping[str, Any] = event.model_dump(mode="json")
            body = None if event.kind in ROWS else event.body
            row = (event.seq, told["at"], event.tenant, event.kind, event.subject, body, event.previous, event.hash)
            self.db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def _adopt(self) -> None:
        rows = self.db.execute(
            "SELECT id, at, decision, override FROM decisions LEFT JOIN overrides ON decision_id = id ORDER BY decisions.rowid"
        ).fetchall()
        for id, told_at, decision, ruling in rows:
            at = datetime.fromisoformat(told_at)
            drafts = [Draft(at, entry.HOUSE, Kind.adopted_decision, id, decision)]
            drafts += [Draft(at, entry.HOUSE, Kind.adopted_override, id, ruling)] if ruling else []
            self._chain(drafts)
            due = None if ruling else entry.due(entry.known(id, decision))
            if due:
                self.db.execute("INSERT INTO waiting VALUES (?, ?)", (due, id))
