"""The audit chain in Redis: every event a line of one hash, and indexes that say which line holds what.

An event is hashed here, over the chain's end as it was read, and set in place by one script if that is its end still.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, NoPermissionError, NoScriptError, ResponseError

from service.decisions.chain import Draft, Event, Head, Kind, Sealer, extend
from service.decisions.dossier import Dossier, Seal
from service.decisions.scripts import ADOPT, READ, WRITE
from service.decisions.vault import Vault
from service.errors import LedgerUnavailable

T = TypeVar("T")

DECISIONS, RULINGS, NOTES, REPORTS, ERASURES = "decisions", "rulings", "notes", "reports", "erasures"
WAITING, QUEUES, SALTS = "waiting", "queues", "salts"
READING = ("head", "events", DECISIONS, RULINGS, SALTS, ERASURES)
WRITTEN = ("head", "events", DECISIONS, RULINGS, NOTES, REPORTS, WAITING, QUEUES, SALTS, ERASURES)
ADOPTED = (WAITING, QUEUES, DECISIONS, "events")
OWED = {
    **{"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"},
    "maxmemory-policy": "noeviction",
}
"""What makes a decision durable before it is answered, and keeps it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A draft, and where it will be looked up; `due` is the place among the escalations that it takes or leaves."""

    index: str
    field: str
    draft: Draft
    due: str = ""
    salt: bytes = b""

    @property
    def place(self) -> tuple[str, str, str, str, bytes]:
        queue = f"{queue_of(self.draft.tenant)}{self.due}" if self.due else ""
        return self.index, self.field, self.due, queue, self.salt


NOWHERE = ("", "", "", "", b"")


@dataclass(frozen=True, slots=True)
class Kept:
    """A decision's events, itself first, and its salt."""

    decision: Event
    rulings: Sequence[Event]
    erasure: Event | None
    salt: bytes | None

    @property
    def events(self) -> Sequence[Event]:
        return [self.decision, *self.rulings, *([self.erasure] if self.erasure else [])]

    def dossier(self, vault: Vault | None) -> Dossier:
        seal = Seal(vault, self.salt, self.erasure is not None)
        return Dossier(self.decision.tenant, self.decision.body, [each.body for each in self.rulings], seal)


@dataclass(frozen=True, slots=True)
class Found:
    """The chain's end as it is told, and the decisions that were asked for, all as of one moment."""

    told: str
    kept: Sequence[Kept | None] = ()

    @property
    def head(self) -> Head:
        seq, _, hash = self.told.partition(" ")
        return Head(int(seq), hash) if seq else Head()


@dataclass(frozen=True, slots=True)
class Plan(Generic[T]):
    """What to write on the strength of what was found, and what to answer then."""

    found: Found
    entries: Sequence[Entry]
    answer: T


class RedisChain:
    def __init__(self, url: str, patience_s: float, sealer: Sealer | None, trusted: bool) -> None:
        self.client: Redis = Redis.from_url(
            url, socket_timeout=patience_s, socket_connect_timeout=patience_s, retry=Retry(NoBackoff(), 0)
        )
        self._sealer, self._checked = sealer, False
        self._trusted, self._written = trusted, 0
        self._turn = asyncio.Lock()

    def key(self, name: str) -> str:
        return f"premortem:{name}"

    async def read(self, *ids: str) -> Found:
        head, *kept = await self.run(READ, READING, ids)
        return Found(head.decode(), tuple(_kept(*each) if each else None for each in kept))

    async def beat(self) -> None:
        await self.call(lambda: self.client.incr(self.key("pulse")))

    async def lines(self, seqs: Iterable[int]) -> tuple[Event, ...]:
        """Raises `LedgerUnavailable` for one that is gone."""
        asked = list(seqs)
        kept = await self.many("events", [str(seq) for seq in asked])
        gone = [seq for seq, line in zip(asked, kept, strict=True) if line is None]
        if gone:
            raise LedgerUnavailable(f"event {gone[0]} is missing from the audit chain")
        return tuple(Event.model_validate_json(line) for line in kept if line is not None)

    async def many(self, name: str, fields: Sequence[str]) -> list[bytes | None]:
        if not fields:
            return []
        return cast(list[bytes | None], await self.call(lambda: self.client.hmget(self.key(name), list(fields))))

    async def between(self, name: str, low: str, high: str, limit: int | None = None) -> list[str]:
        """The members of a sorted set by their spelling."""
        found = await self.call(
            lambda: self.client.zrangebylex(self.key(name), low, high, None if limit is None else 0, limit)
        )
        return [member.decode() for member in found]

    async def size(self, name: str) -> int:
        """Of a sorted set."""
        return int(await self.call(lambda: self.client.zcard(self.key(name))))

    async def gone(self, name: str, members: Sequence[str]) -> list[str]:
        """Those that are not in a sorted set."""
        scores = await self.call(lambda: self.client.zmscore(self.key(name), list(members)))
        return [member for member, score in zip(members, scores, strict=True) if score is None]

    async def every(self, name: str) -> Mapping[str, int]:
        """All that an index holds."""
        found = await self.call(lambda: self.client.hgetall(self.key(name)))
        return {field.decode(): int(seq) for field, seq in found.items()}

    async def rewrite(self) -> None:
        """The append-only file, without what was removed. A rewrite that is under way began before: then another."""
        while not self._trusted:
            try:
                await self.call(self.client.bgrewriteaof)
                return
            except ResponseError as error:
                if "in progress" not in str(error):
                    raise
                await asyncio.sleep(0.05)

    async def write(self, plan: Callable[[], Awaitable[Plan[T]]]) -> T:
        """One at a time here, and again for as long as other processes are faster."""
        async with self._turn:
            while True:
                planned = await plan()
                if planned.entries and planned.found.head.seq < self._written:
                    raise LedgerUnavailable("the audit chain is shorter than it was: Redis has lost events")
                if not planned.entries or await self._put(planned.found, planned.entries):
                    return planned.answer

    async def _put(self, found: Found, entries: Sequence[Entry]) -> bool:
        """Whether the chain ended where it was found to end."""
        events = extend(found.head, [entry.draft for entry in entries], self._sealer)
        end, places = f"{events[-1].seq} {events[-1].hash}", iter(entries)
        told: list[str | bytes] = []
        for event in events:
            index, field, due, queue, salt = NOWHERE if event.kind is Kind.checkpoint else next(places).place
            told += [index, field, str(event.seq), due, queue, salt, event.line()]
        try:
            put = await self.run(WRITE, WRITTEN, [found.told, end, "0", *told], again=False)
        except ConnectionError:  # it may have been written all the same: then its line is there
            put = await self.run(WRITE, WRITTEN, [found.told, end, "1", *told], again=False)
        self._written = events[-1].seq if put else self._written
        return bool(put)

    async def run(self, script: str, keys: Sequence[str], values: Sequence[str | bytes], again: bool = True) -> Any:
        named = [self.key(name) for name in keys]
        sha = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()

        async def evaluate() -> Any:
            try:
                return await self.client.evalsha(sha, len(named), *named, *values)
            except NoScriptError:
                return await self.client.eval(script, len(named), *named, *values)

        return await self.call(evaluate, again)

    async def call(self, ask: Callable[[], Awaitable[Any]], again: bool = True) -> Any:
        """A kept connection may have died since: what may be asked twice is asked once more."""
        try:
            await self._check()
            return await ask()
        except ConnectionError:
            self._checked = self._trusted
            if not again:
                raise
        await self._check()
        return await ask()

    async def _check(self) -> None:
        """At first, and after every lost connection, for it may be another server. Raises `LedgerUnavailable`."""
        if not self._checked:
            if not self._trusted:
                await self._keeps()
            await self.client.eval(ADOPT, len(ADOPTED), *[self.key(name) for name in ADOPTED])
            self._checked = True

    async def _keeps(self) -> None:
        try:
            told = await self.client.config_get(*OWED)
        except NoPermissionError as error:
            raise LedgerUnavailable("Redis does not show its CONFIG: allow +config|get, or vouch for it") from error
        kept = {_text(name): _text(value) for name, value in cast(Mapping[Any, Any], told).items()}
        wrong = [f"{name} {kept.get(name)} (needs {value})" for name, value in OWED.items() if kept.get(name) != value]
        if wrong:
            raise LedgerUnavailable(f"Redis would not keep what it acknowledges: {', '.join(wrong)}")


def queue_of(tenant: str) -> str:
    """How the places of a tenant's own queue begin; no other tenant's begin so."""
    return f"{len(tenant.encode())}:{tenant}|"


def _kept(salt: bytes, decision: bytes, erasure: bytes, *rulings: bytes) -> Kept:
    read = Event.model_validate_json
    return Kept(read(decision), [read(line) for line in rulings], read(erasure) if erasure else None, salt or None)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
