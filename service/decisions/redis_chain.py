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
from redis.exceptions import ConnectionError, NoPermissionError, NoScriptError

from service.decisions.chain import Draft, Event, Head, Kind, Sealer, extend
from service.decisions.entry import HOUSE
from service.decisions.scripts import READ, WRITE
from service.errors import LedgerUnavailable

T = TypeVar("T")

DECISIONS, RULINGS, NOTES, REPORTS, WAITING = "decisions", "rulings", "notes", "reports", "waiting"
WRITTEN = ("head", "events", DECISIONS, RULINGS, NOTES, REPORTS, WAITING)
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

    @property
    def place(self) -> tuple[str, str, str]:
        return self.index, self.field, self.due


@dataclass(frozen=True, slots=True)
class Found:
    """The chain's end as it is told, and the events that were asked for, all as of one moment."""

    told: str
    events: tuple[Event | None, ...]

    @property
    def head(self) -> Head:
        seq, _, hash = self.told.partition(" ")
        return Head(int(seq), hash) if seq else Head()

    def body(self, at: int) -> str | None:
        event = self.events[at]
        return event.body if event else None

    @property
    def tenant(self) -> str:
        """Whose the first event that was asked for is."""
        return self.events[0].tenant if self.events[0] else HOUSE


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
        self._sealer, self._checked = sealer, trusted
        self._trusted, self._written = trusted, 0
        self._turn = asyncio.Lock()

    def key(self, name: str) -> str:
        return f"premortem:{name}"

    async def read(self, field: str, *indexes: str) -> Found:
        head, *lines = await self.run(READ, ["head", "events", *indexes], [field])
        return Found(head.decode(), tuple(Event.model_validate_json(line) if line else None for line in lines))

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
            index, field, due = ("", "", "") if event.kind is Kind.checkpoint else next(places).place
            told += [index, field, str(event.seq), due, event.line()]
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
        if self._checked:
            return
        try:
            told = await self.client.config_get(*OWED)
        except NoPermissionError as error:
            raise LedgerUnavailable("Redis does not show its CONFIG: allow +config|get, or vouch for it") from error
        kept = {_text(name): _text(value) for name, value in cast(Mapping[Any, Any], told).items()}
        wrong = [f"{name} {kept.get(name)} (needs {value})" for name, value in OWED.items() if kept.get(name) != value]
        if wrong:
            raise LedgerUnavailable(f"Redis would not keep what it acknowledges: {', '.join(wrong)}")
        self._checked = True


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
