"""A ledger's rows in SQLite. What writes here runs inside a transaction that its caller began and will commit."""

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from time import monotonic, sleep
from typing import Any

from service.decisions import entry, schema
from service.decisions.chain import Draft, Event, Head, Kind, Sealer, extend, spelt
from service.decisions.claim import KEPT, Answered, Begun, Claim, Kept, Standing, overtaken, stand
from service.decisions.dossier import Dossier, Seal
from service.decisions.entry import NoteKind
from service.decisions.outcome import OutcomeReport
from service.decisions.ruling import waits
from service.decisions.vault import Vault
from service.errors import LedgerUnavailable
from service.vocabulary.decision import Decision, Override
from service.vocabulary.proposal import HOUSE

EVENTS = """
SELECT seq, events.at, tenant, kind, subject, coalesce(body, decision, ''), previous, hash FROM events
LEFT JOIN decisions ON body IS NULL AND kind IN ('decision', 'adopted_decision') AND id = subject
"""
"""What a decision's row says, the chain does not say again: the row that is served is the one that was signed for."""
KEPT_ROW = """
SELECT tenant, decision, salt, EXISTS (SELECT 1 FROM events WHERE subject = id AND kind = 'erasure') FROM events AS made
JOIN decisions ON id = subject WHERE subject = ? AND kind IN ('decision', 'adopted_decision')
"""
"""A row that no event speaks of was put in by somebody else, and is not served."""
NOTED = """
WHERE seq IN (
    SELECT max(seq) FROM events WHERE kind = ? AND kind IN ('policy', 'model', 'key', 'switch') GROUP BY tenant, subject
) ORDER BY seq
"""
ADOPTED = (
    "SELECT id, at, decision, override FROM decisions LEFT JOIN overrides ON decision_id = id ORDER BY decisions.rowid"
)
DECISIONS, RULINGS = (Kind.decision, Kind.adopted_decision), (Kind.override, Kind.adopted_override)
HISTORY = (*DECISIONS, *RULINGS, Kind.outcome, Kind.erasure)


class Tables:
    def __init__(self, db: sqlite3.Connection, sealer: Sealer | None, vault: Vault | None) -> None:
        self.db, self._sealer, self._vault = db, sealer, vault

    def found(self) -> None:
        schema.upgrade(self.db, self._adopt)

    def beat(self) -> None:
        self.db.execute("UPDATE pulse SET beats = beats + 1 WHERE id = ?", (1,))

    def append(self, decision: Decision, tenant: str, supersede: Override | None) -> None:
        id = decision.decision_id
        if not entry.is_new(decision, self._dossier(id), tenant):
            return
        replaced = self._ruling(supersede, tenant) if supersede else None
        seal = Seal.fresh(self._vault)
        draft = seal.close(entry.decided(decision, tenant))
        row = (id, decision.at.isoformat(), decision.domain, decision.ruling, draft.body, seal.salt)
        self.db.execute("INSERT INTO decisions VALUES (?, ?, ?, ?, ?, ?)", row)
        self._wait(decision, tenant)
        self._chain([draft])
        if replaced:
            self._rule(*replaced)

    def find(self, decision_id: str, tenant: str) -> Decision | None:
        dossier = entry.own(self._dossier(decision_id), tenant)
        return dossier.standing() if dossier else None

    def override(self, override: Override, tenant: str) -> Decision:
        standing, draft = self._ruling(override, tenant)
        self._rule(standing, draft)
        return standing

    def pending(self, tenant: str, limit: int, after: str) -> tuple[Decision, ...]:
        bound = entry.due(self._known(after, tenant).made()) if after else None
        asked = "SELECT decision_id FROM waiting WHERE tenant = ? AND due > ? ORDER BY due LIMIT ?"
        rows = self.db.execute(asked, (tenant, bound or "", limit)).fetchall()
        return tuple(self._known(id, tenant).standing() for (id,) in rows)

    def waiting(self) -> int:
        return int(self.db.execute("SELECT count(*) FROM waiting").fetchone()[0])

    def expire(self, now: datetime) -> tuple[Decision, ...]:
        asked = "SELECT decision_id, tenant FROM waiting WHERE due < ? ORDER BY due"
        late = self.db.execute(asked, (entry.due_before(now),)).fetchall()
        return tuple(self.override(entry.ran_out(id, now), tenant) for id, tenant in late)

    def free(self, dues: Collection[str]) -> set[str]:
        asked = "SELECT due FROM waiting WHERE due IN (SELECT value FROM json_each(?))"
        return set(dues) - {due for (due,) in self.db.execute(asked, (json.dumps(list(dues)),))}

    def report(self, report: OutcomeReport, tenant: str) -> None:
        dossier = self._known(report.decision_id, tenant)
        if dossier.is_news(report, self._bodies(report.decision_id, Kind.outcome)):
            self._chain([dossier.seal.close(entry.reported(report, tenant))])

    def reports(self, decision_id: str, tenant: str) -> tuple[OutcomeReport, ...]:
        dossier = entry.own(self._dossier(decision_id), tenant)
        return dossier.reports(self._bodies(decision_id, Kind.outcome)) if dossier else ()

    def history(self, decision_id: str, tenant: str) -> tuple[Event, ...]:
        dossier = self._known(decision_id, tenant)
        which = "WHERE subject = ? AND kind IN (SELECT value FROM json_each(?)) ORDER BY seq"
        return tuple(dossier.opened(event) for event in self._events(which, decision_id, json.dumps(HISTORY)))

    def note(self, draft: Draft) -> None:
        asked = "SELECT body FROM events WHERE (subject, kind, tenant) = (?, ?, ?) ORDER BY seq DESC LIMIT 1"
        if self.db.execute(asked, (draft.subject, draft.kind, draft.tenant)).fetchone() != (draft.body,):
            self._chain([draft])

    def noted(self, kind: NoteKind) -> tuple[Event, ...]:
        return self._events(NOTED, kind)

    def events(self, after: int, limit: int) -> tuple[Event, ...]:
        return self._events("WHERE seq > ? ORDER BY seq LIMIT ?", after, limit)

    def erase(self, decision_id: str, tenant: str, at: datetime, by: str) -> None:
        if entry.is_erasable(decision_id, self._known(decision_id, tenant)):
            self.db.execute("UPDATE decisions SET salt = NULL WHERE id = ?", (decision_id,))
            self._chain([entry.erased(decision_id, tenant, at, by)])

    def scrub(self, until: float) -> None:
        """Out of the log as well: outside of any transaction. SQLite does not wait where another process does the same.

        Raises `LedgerUnavailable` if another still reads the log at the end, on the monotonic clock.
        """
        while self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            if monotonic() > until:
                raise LedgerUnavailable(
                    "it is erased, but another process reads SQLite's log, which holds it: ask again"
                )
            sleep(0.01)

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

    def _dossier(self, decision_id: str) -> Dossier | None:
        row = self.db.execute(KEPT_ROW, (decision_id,)).fetchone()
        if row is None:
            return None
        tenant, signed, salt, erased = row
        return Dossier(tenant, signed, self._bodies(decision_id, *RULINGS), Seal(self._vault, salt, bool(erased)))

    def _known(self, decision_id: str, tenant: str) -> Dossier:
        return entry.known(decision_id, self._dossier(decision_id), tenant)

    def _ruling(self, override: Override, tenant: str) -> tuple[Decision, Draft]:
        """How the decision would stand, and what would be written."""
        dossier = self._known(override.decision_id, tenant)
        return dossier.admit(override), dossier.seal.close(entry.ruled(override, tenant))

    def _rule(self, standing: Decision, draft: Draft) -> None:
        if not waits(standing):
            self.db.execute("DELETE FROM waiting WHERE decision_id = ?", (draft.subject,))
        self._chain([draft])

    def _wait(self, decision: Decision, tenant: str) -> None:
        if due := entry.due(decision):
            self.db.execute("INSERT INTO waiting VALUES (?, ?, ?)", (due, decision.decision_id, tenant))

    def _bodies(self, subject: str, *kinds: Kind) -> list[str]:
        asked = "SELECT coalesce(body, '') FROM events WHERE subject = ? AND kind IN (SELECT value FROM json_each(?)) ORDER BY seq"
        return [body for (body,) in self.db.execute(asked, (subject, json.dumps(kinds)))]

    def _events(self, which: str, *values: object) -> tuple[Event, ...]:
        names = ("seq", "at", "tenant", "kind", "subject", "body", "previous", "hash")
        rows = self.db.execute(f"{EVENTS} {which}", values)
        return tuple(Event.model_validate(dict(zip(names, row, strict=True))) for row in rows)

    def _chain(self, drafts: Iterable[Draft]) -> None:
        row = self.db.execute("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        for event in extend(Head(*row) if row else Head(), drafts, self._sealer):
            told: Mapping[str, Any] = event.model_dump(mode="json")
            body = None if event.kind in DECISIONS else event.body
            row = (event.seq, told["at"], event.tenant, event.kind, event.subject, body, event.previous, event.hash)
            self.db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def _adopt(self) -> None:
        for id, told_at, decision, ruling in self.db.execute(ADOPTED).fetchall():
            at = datetime.fromisoformat(told_at)
            drafts = [Draft(at, HOUSE, Kind.adopted_decision, id, decision)]
            drafts += [Draft(at, HOUSE, Kind.adopted_override, id, ruling)] if ruling else []
            self._chain(drafts)
            if not ruling:
                self._wait(Decision.model_validate_json(decision), HOUSE)
