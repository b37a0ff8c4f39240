"""Decisions in a Redis that writes every command to its disk before it answers: one ledger for many processes."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from datetime import datetime
from typing import Any, TypeVar

from redis.exceptions import RedisError

from service.decisions import entry
from service.decisions.chain import Event, Sealer
from service.decisions.claim import Begun, Claim, Standing
from service.decisions.entry import HOUSE, NoteKind
from service.decisions.outcome import OutcomeReport
from service.decisions.redis_chain import DECISIONS, NOTES, REPORTS, RULINGS, WAITING, Entry, Found, Plan, RedisChain
from service.decisions.redis_claims import RedisClaims
from service.decisions.watch import Watch
from service.errors import LedgerUnavailable
from service.vocabulary.decision import Decision, Override

T = TypeVar("T")

EXPIRED_AT_ONCE = 100
NOTHING = Found("", ())


class RedisLedger:
    """Refuses a server that is not set to keep what it acknowledges, unless `vouched`: its operator says that it is.

    Commands it needs: PING, HELLO, AUTH, CONFIG GET, EVAL, EVALSHA, and on keys `premortem:*` GET, HGET,
    HMGET, HEXISTS, HSETNX, ZADD, ZREM, ZRANGEBYLEX; SET on `head`, HSET on `notes`, INCRBY on `pulse`; on `claim:*`
    HGETALL, HGET, HSET, DEL, EXPIRE. Nothing else: none of them can change or remove an event.
    """

    name = "redis"

    def __init__(self, url: str, patience_s: float = 2.0, sealer: Sealer | None = None, vouched: bool = False) -> None:
        self._chain = RedisChain(url, patience_s, sealer, vouched)
        self._claims = RedisClaims(self._chain)
        self._patience = patience_s
        self._writes: set[asyncio.Task[Any]] = set()
        self._watch = Watch(self._ruled)
        self._closed = False

    async def append(self, decision: Decision, tenant: str = HOUSE) -> None:
        async def plan() -> Plan[None]:
            found = await self._chain.read(decision.decision_id, DECISIONS)
            if not entry.is_new(decision, found.body(0)):
                return Plan(found, [], None)
            draft = entry.decided(decision, tenant)
            return Plan(found, [Entry(DECISIONS, draft.subject, draft, entry.due(decision) or "")], None)

        await self._write(lambda: self._chain.write(plan))

    async def find(self, decision_id: str) -> Decision | None:
        async def read() -> Decision | None:
            found = await self._chain.read(decision_id, DECISIONS, RULINGS)
            kept = found.body(0)
            return None if kept is None else entry.whole(entry.known(decision_id, kept), found.body(1))

        return await self._read(read)

    async def override(self, override: Override) -> Decision:
        async def plan() -> Plan[Decision]:
            return await self._ruling(override)

        return await self._write(lambda: self._chain.write(plan))

    async def pending(self, limit: int, after: str = "") -> tuple[Decision, ...]:
        async def read() -> tuple[Decision, ...]:
            low = "-"
            if after:
                kept = (await self._chain.read(after, DECISIONS)).body(0)
                low = f"({entry.due(entry.known(after, kept)) or ''}"
            ids = [entry.decision_of(due) for due in await self._chain.between(WAITING, low, "+", limit)]
            seqs = await self._chain.many(DECISIONS, ids)
            events = await self._chain.lines([int(seq) for seq in seqs if seq])
            return tuple(Decision.model_validate_json(event.body) for event in events)

        return await self._read(read)

    async def expire(self, now: datetime) -> tuple[Decision, ...]:
        async def plan() -> Plan[tuple[Decision, ...]]:
            late = await self._chain.between(WAITING, "-", f"({entry.due_before(now)}", EXPIRED_AT_ONCE)
            planned = [await self._ruling(entry.ran_out(entry.decision_of(due), now)) for due in late]
            entries = [entry for each in planned for entry in each.entries]
            return Plan(planned[0].found if planned else NOTHING, entries, tuple(each.answer for each in planned))

        denied: tuple[Decision, ...] = ()
        while more := await self._write(lambda: self._chain.write(plan)):
            denied += more
        return denied

    async def wait(self, decision_id: str, timeout_s: float) -> Decision:
        decision = entry.present(decision_id, await self.find(decision_id))
        if decision.override is None or decision.overridden:
            return decision
        await self._watch.ruling(decision_id, timeout_s)
        return entry.present(decision_id, await self.find(decision_id))

    async def report(self, report: OutcomeReport) -> None:
        async def plan() -> Plan[None]:
            found = await self._chain.read(report.decision_id, DECISIONS)
            entry.known(report.decision_id, found.body(0))
            if report in await self._reports(report.decision_id):
                return Plan(found, [], None)
            field = f"{report.decision_id}\0{found.head.seq + 1:016d}"
            return Plan(found, [Entry(REPORTS, field, entry.reported(report, found.tenant))], None)

        await self._write(lambda: self._chain.write(plan))

    async def reports(self, decision_id: str) -> tuple[OutcomeReport, ...]:
        return await self._read(lambda: self._reports(decision_id))

    async def note(
        self, kind: NoteKind, subject: str, body: Mapping[str, Any], at: datetime, tenant: str = HOUSE
    ) -> None:
        async def plan() -> Plan[None]:
            draft = entry.noted(kind, subject, body, at, tenant)
            field = f"{kind} {subject}"
            found = await self._chain.read(field, NOTES)
            return Plan(found, [] if found.body(0) == draft.body else [Entry(NOTES, field, draft)], None)

        await self._write(lambda: self._chain.write(plan))

    async def events(self, after: int, limit: int) -> tuple[Event, ...]:
        async def read() -> tuple[Event, ...]:
            last = (await self._chain.read("")).head.seq
            return await self._chain.lines(range(after + 1, min(after + limit, last) + 1))

        return await self._read(read)

    async def begin(self, claim: Claim, now: datetime) -> Standing:
        return await self._write(lambda: self._claims.begin(claim, now))

    async def finish(self, begun: Begun, status: int, body: bytes) -> None:
        await self._write(lambda: self._claims.finish(begun, status, body))

    async def abandon(self, begun: Begun) -> None:
        await self._write(lambda: self._claims.abandon(begun))

    async def healthy(self) -> bool:
        try:
            await self._write(self._chain.beat)
        except LedgerUnavailable:
            return False
        return True

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            await self._watch.aclose()
            if self._writes:
                await asyncio.wait(self._writes, timeout=self._patience)
            await self._chain.client.aclose()

    async def _ruling(self, override: Override) -> Plan[Decision]:
        found = await self._chain.read(override.decision_id, DECISIONS, RULINGS)
        decision = entry.known(override.decision_id, found.body(0))
        entry.unruled(found.body(1))
        draft = entry.ruled(override, found.tenant)
        answer = entry.whole(decision, draft.body)
        return Plan(found, [Entry(RULINGS, draft.subject, draft, entry.due(decision) or "")], answer)

    async def _reports(self, decision_id: str) -> tuple[OutcomeReport, ...]:
        fields = await self._chain.between(REPORTS, f"[{decision_id}\0", f"({decision_id}\1")
        events = await self._chain.lines([int(field.rpartition("\0")[2]) for field in fields])
        return tuple(OutcomeReport.model_validate_json(event.body) for event in events)

    async def _ruled(self, ids: Collection[str]) -> Collection[str]:
        asked = list(ids)
        kept = await self._read(lambda: self._chain.many(RULINGS, asked))
        return [id for id, seq in zip(asked, kept, strict=True) if seq is not None]

    async def _write(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What was begun is finished even if the caller leaves: a half-known write would be worse than a late one."""
        self._refuse_if_closed()
        task = asyncio.create_task(work())
        self._writes.add(task)
        task.add_done_callback(self._done)
        return await self._answer(asyncio.shield(task))

    async def _read(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Behind the writes that were begun here before it."""

        async def read() -> T:
            if before:
                await asyncio.wait(before)
            return await work()

        self._refuse_if_closed()
        before = set(self._writes)
        return await self._answer(read())

    async def _answer(self, answer: Awaitable[T]) -> T:
        try:
            return await asyncio.wait_for(answer, self._patience)
        except TimeoutError as error:
            raise LedgerUnavailable(f"the ledger did not answer within {self._patience} s") from error
        except (RedisError, OSError, ValueError) as error:
            raise LedgerUnavailable(f"the ledger cannot be used: {error}") from error

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._writes.discard(task)
        if not task.cancelled():
            task.exception()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise LedgerUnavailable("the ledger is closed")
