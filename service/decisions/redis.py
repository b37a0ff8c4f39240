"""Decisions in a Redis that writes every command to its disk before it answers: one ledger for many processes."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from service.decisions import entry
from service.decisions.chain import Event, Sealer, sorted_json
from service.decisions.claim import Begun, Claim, Standing
from service.decisions.dossier import Dossier, Seal
from service.decisions.entry import NoteKind
from service.decisions.outcome import OutcomeReport
from service.decisions.patience import Patience
from service.decisions.redis_chain import (
    DECISIONS,
    ERASURES,
    NOTES,
    QUEUES,
    REPORTS,
    RULINGS,
    WAITING,
    Entry,
    Kept,
    Plan,
    RedisChain,
    queue_of,
)
from service.decisions.redis_claims import RedisClaims
from service.decisions.ruling import waits
from service.decisions.vault import Vault
from service.decisions.watch import Watch
from service.errors import LedgerUnavailable
from service.vocabulary.decision import Decision, Override

EXPIRED_AT_ONCE = 100
LAST = "~"
"""Sorts after every time."""


class RedisLedger:
    """Refuses a server that is not set to keep what it acknowledges, unless `vouched`: its operator says that it is.

    Commands it needs: PING, HELLO, AUTH, CONFIG GET, BGREWRITEAOF, EVAL, EVALSHA, and on keys `premortem:*` GET, HGET,
    HMGET, HEXISTS, HSETNX, ZADD, ZREM, ZCARD, ZMSCORE, ZRANGEBYLEX; SET on `head`, HSET and HGETALL on `notes`, HDEL on `salts`,
    INCRBY on `pulse`; on `claim:*` HGETALL, HGET, HSET, DEL, EXPIRE. Nothing else: none of them can change or remove an
    event. A server that is vouched for is not told to BGREWRITEAOF: when its files forget what was erased is its operator's.
    """

    name = "redis"

    def __init__(
        self,
        url: str,
        patience_s: float = 2.0,
        sealer: Sealer | None = None,
        vouched: bool = False,
        vault: Vault | None = None,
    ) -> None:
        self._chain = RedisChain(url, patience_s, sealer, vouched)
        self._claims = RedisClaims(self._chain)
        self._patience, self._vault = Patience(patience_s), vault
        self._watch = Watch(self._free)

    async def append(self, decision: Decision, tenant: str, supersede: Override | None = None) -> None:
        async def plan() -> Plan[None]:
            id, replaced = decision.decision_id, [supersede] if supersede else []
            found = await self._chain.read(id, *[each.decision_id for each in replaced])
            if not entry.is_new(decision, self._dossier(found.kept[0]), tenant):
                return Plan(found, [], None)
            seal = Seal.fresh(self._vault)
            draft = seal.close(entry.decided(decision, tenant))
            made = Entry(DECISIONS, id, draft, entry.due(decision) or "", seal.salt or b"")
            rulings = [self._ruling(each, found.kept[1], tenant) for each in replaced]
            return Plan(found, [made, *[ruling for _, ruling in rulings]], None)

        await self._patience.write(lambda: self._chain.write(plan))

    async def find(self, decision_id: str, tenant: str) -> Decision | None:
        async def read() -> Decision | None:
            dossier = entry.own(self._dossier(*(await self._chain.read(decision_id)).kept), tenant)
            return dossier.standing() if dossier else None

        return await self._patience.read(read)

    async def override(self, override: Override, tenant: str) -> Decision:
        async def plan() -> Plan[Decision]:
            found = await self._chain.read(override.decision_id)
            standing, ruling = self._ruling(override, found.kept[0], tenant)
            return Plan(found, [ruling], standing)

        return await self._patience.write(lambda: self._chain.write(plan))

    async def pending(self, tenant: str, limit: int, after: str = "") -> tuple[Decision, ...]:
        async def read() -> tuple[Decision, ...]:
            queue, low = queue_of(tenant), ""
            if after:
                found = await self._chain.read(after)
                low = entry.due(entry.known(after, self._dossier(found.kept[0]), tenant).made()) or ""
            places = await self._chain.between(QUEUES, f"({queue}{low}", f"({queue}{LAST}", limit)
            ids = [entry.decision_of(place.removeprefix(queue)) for place in places]
            kept = (await self._chain.read(*ids)).kept
            dossiers = [entry.known(id, self._dossier(each), tenant) for id, each in zip(ids, kept, strict=True)]
            return tuple(dossier.standing() for dossier in dossiers)

        return await self._patience.read(read)

    async def waiting(self) -> int:
        return await self._patience.read(lambda: self._chain.size(WAITING))

    async def expire(self, now: datetime) -> tuple[Decision, ...]:
        async def plan() -> Plan[tuple[Decision, ...]]:
            late = await self._chain.between(WAITING, "-", f"({entry.due_before(now)}", EXPIRED_AT_ONCE)
            found = await self._chain.read(*map(entry.decision_of, late))
            kept = [each for each in found.kept if each]
            ruled = [
                self._ruling(entry.ran_out(each.decision.subject, now), each, each.decision.tenant) for each in kept
            ]
            return Plan(found, [ruling for _, ruling in ruled], tuple(standing for standing, _ in ruled))

        expired: tuple[Decision, ...] = ()
        while more := await self._patience.write(lambda: self._chain.write(plan)):
            expired += more
        return expired

    async def wait(self, decision_id: str, tenant: str, timeout_s: float) -> Decision:
        decision = entry.present(decision_id, await self.find(decision_id, tenant))
        due = entry.due(decision)
        if due is None or not waits(decision):
            return decision
        await self._watch.settled(due, timeout_s)
        return entry.present(decision_id, await self.find(decision_id, tenant))

    async def report(self, report: OutcomeReport, tenant: str) -> None:
        async def plan() -> Plan[None]:
            found = await self._chain.read(report.decision_id)
            dossier = entry.known(report.decision_id, self._dossier(found.kept[0]), tenant)
            if not dossier.is_news(report, [each.body for each in await self._reports(report.decision_id)]):
                return Plan(found, [], None)
            field = f"{report.decision_id}\0{found.head.seq + 1:016d}"
            return Plan(found, [Entry(REPORTS, field, dossier.seal.close(entry.reported(report, tenant)))], None)

        await self._patience.write(lambda: self._chain.write(plan))

    async def reports(self, decision_id: str, tenant: str) -> tuple[OutcomeReport, ...]:
        async def read() -> tuple[OutcomeReport, ...]:
            events = await self._reports(decision_id)
            dossier = entry.own(self._dossier(*(await self._chain.read(decision_id)).kept), tenant)
            return dossier.reports([each.body for each in events]) if dossier else ()

        return await self._patience.read(read)

    async def history(self, decision_id: str, tenant: str) -> tuple[Event, ...]:
        async def read() -> tuple[Event, ...]:
            reports = await self._reports(decision_id)
            kept = (await self._chain.read(decision_id)).kept[0]
            dossier = entry.known(decision_id, self._dossier(kept), tenant)
            events = [*(kept.events if kept else ()), *reports]
            return tuple(dossier.opened(event) for event in sorted(events, key=lambda each: each.seq))

        return await self._patience.read(read)

    async def note(self, kind: NoteKind, subject: str, body: Mapping[str, Any], at: datetime, tenant: str) -> None:
        async def plan() -> Plan[None]:
            draft = entry.noted(kind, subject, body, at, tenant)
            field = sorted_json([kind, tenant, subject]).decode()
            found = await self._chain.read()
            last = await self._chain.lines([int(seq) for seq in await self._chain.many(NOTES, [field]) if seq])
            said = [event.body for event in last] == [draft.body]
            return Plan(found, [] if said else [Entry(NOTES, field, draft)], None)

        await self._patience.write(lambda: self._chain.write(plan))

    async def noted(self, kind: NoteKind) -> tuple[Event, ...]:
        async def read() -> tuple[Event, ...]:
            of_kind = (sorted_json([kind]).decode()[:-1], f"{kind} ")
            fields = await self._chain.every(NOTES)
            events = await self._chain.lines(sorted(seq for field, seq in fields.items() if field.startswith(of_kind)))
            last = {(event.tenant, event.subject): event for event in events}
            return tuple(sorted(last.values(), key=lambda each: each.seq))

        return await self._patience.read(read)

    async def events(self, after: int, limit: int) -> tuple[Event, ...]:
        async def read() -> tuple[Event, ...]:
            last = (await self._chain.read()).head.seq
            return await self._chain.lines(range(after + 1, min(after + limit, last) + 1))

        return await self._patience.read(read)

    async def erase(self, decision_id: str, tenant: str, at: datetime, by: str) -> None:
        """Answers kept under an `Idempotency-Key` are not touched: they are forgotten a day after they were asked for."""

        async def plan() -> Plan[None]:
            found = await self._chain.read(decision_id)
            dossier = entry.known(decision_id, self._dossier(found.kept[0]), tenant)
            draft = entry.erased(decision_id, tenant, at, by)
            erasable = entry.is_erasable(decision_id, dossier)
            return Plan(found, [Entry(ERASURES, decision_id, draft)] if erasable else [], None)

        async def write() -> None:
            await self._chain.write(plan)
            await self._chain.rewrite()

        await self._patience.write(write)

    async def begin(self, claim: Claim, now: datetime) -> Standing:
        return await self._patience.write(lambda: self._claims.begin(claim, now))

    async def finish(self, begun: Begun, status: int, body: bytes) -> None:
        await self._patience.write(lambda: self._claims.finish(begun, status, body))

    async def abandon(self, begun: Begun) -> None:
        await self._patience.write(lambda: self._claims.abandon(begun))

    async def healthy(self) -> bool:
        try:
            await self._patience.write(self._chain.beat)
        except LedgerUnavailable:
            return False
        return True

    async def aclose(self) -> None:
        if self._patience.close():
            await self._watch.aclose()
            await self._patience.finish()
            await self._chain.client.aclose()

    def _dossier(self, kept: Kept | None) -> Dossier | None:
        return kept.dossier(self._vault) if kept else None

    def _ruling(self, override: Override, kept: Kept | None, tenant: str) -> tuple[Decision, Entry]:
        """How the decision would stand, and what would be written."""
        id = override.decision_id
        dossier = entry.known(id, self._dossier(kept), tenant)
        standing = dossier.admit(override)
        nth = len(dossier.rulings) + 1
        draft = dossier.seal.close(entry.ruled(override, tenant))
        due = "" if waits(standing) else entry.due(standing) or ""
        return standing, Entry(RULINGS, id if nth == 1 else f"{id}\0{nth}", draft, due)

    async def _reports(self, decision_id: str) -> tuple[Event, ...]:
        fields = await self._chain.between(REPORTS, f"[{decision_id}\0", f"({decision_id}\1")
        return await self._chain.lines([int(field.rpartition("\0")[2]) for field in fields])

    async def _free(self, dues: Collection[str]) -> Collection[str]:
        return await self._patience.read(lambda: self._chain.gone(WAITING, list(dues)))
