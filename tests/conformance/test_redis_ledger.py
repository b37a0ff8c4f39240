"""What only a server can suffer: settings that forget, a kill, a hang, a lost answer, a caller who may do too much."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic

import pytest

pytest.importorskip("redis", reason="the redis client is not installed: pip install '.[redis]'")

from service.decisions.audit import export
from service.decisions.chain import Kind, verify
from service.decisions.patience import Patience
from service.decisions.redis import RedisLedger
from service.decisions.redis_chain import OWED
from service.decisions.vault import Vault
from service.errors import LedgerUnavailable, OverrideRefused
from service.vocabulary.proposal import HOUSE
from tests.conformance.test_ledgers import (
    NOON,
    SALT,
    SEALER,
    VAULT,
    begun,
    chain,
    decision,
    outcome,
    overridden,
    override,
    waiting,
)
from tests.redis_server import DEPLOY, PASSWORD, RedisServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    made = RedisServer(tmp_path / "redis")
    yield made
    made.stop()


@asynccontextmanager
async def ledger_of(
    url: str, patience_s: float = 10.0, vouched: bool = False, vault: Vault | None = None
) -> AsyncIterator[RedisLedger]:
    ledger = RedisLedger(url, patience_s, vouched=vouched, vault=vault)
    yield ledger
    await ledger.aclose()


def test_every_line_of_the_shipped_configuration_says_why() -> None:
    lines = (DEPLOY / "redis.conf").read_text().splitlines()
    bare = [at for at, line in enumerate(lines) if line and line[0] != "#" and not lines[at - 1]]
    assert bare == []
    assert {f"{name} {value}" for name, value in OWED.items()} <= set(lines)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("appendonly", "no"), ("appendfsync", "everysec"), ("no-appendfsync-on-rewrite", "yes")],
        ("maxmemory-policy", "allkeys-lru"),
    ],
)
async def test_a_server_that_would_forget_is_refused_with_the_setting_named(
    server: RedisServer, name: str, value: str
) -> None:
    assert server.say("CONFIG", "SET", name, value) == "OK"
    async with ledger_of(server.url()) as ledger:
        assert not await ledger.healthy()
        with pytest.raises(LedgerUnavailable, match=f"would not keep what it acknowledges: {name} {value}"):
            await ledger.append(decision(), HOUSE)
        server.say("CONFIG", "SET", name, OWED[name])
        await ledger.append(decision(), HOUSE)


async def test_a_server_that_hides_its_settings_is_refused_unless_somebody_vouches_for_it(server: RedisServer) -> None:
    server.say("ACL", "SETUSER", "premortem", "-config|get")
    async with ledger_of(server.url()) as ledger:
        with pytest.raises(LedgerUnavailable, match="does not show its CONFIG"):
            await ledger.append(decision(), HOUSE)
    async with ledger_of(server.url(), vouched=True) as ledger:
        await ledger.append(decision(), HOUSE)
        assert await ledger.healthy()


async def test_the_service_may_do_what_it_needs_and_cannot_change_or_remove_an_event(server: RedisServer) -> None:
    from redis.asyncio import Redis
    from redis.exceptions import NoPermissionError

    async with ledger_of(server.url(), vault=VAULT) as ledger:
        await ledger.append(decision(), HOUSE)
        await ledger.override(override(), HOUSE)
        await ledger.report(outcome(), HOUSE)
        await ledger.note(Kind.policy, "kettle", {}, NOON, HOUSE)
        await ledger.abandon(await begun(ledger))
        await ledger.finish(await begun(ledger), 200, b"")
        await ledger.append(decision("dec_2"), HOUSE)
        assert await ledger.healthy() and await waiting(ledger) == ["dec_2"] and await ledger.expire(NOON) == ()
        assert len(await ledger.noted(Kind.policy)) == 1 and (await ledger.wait("dec_2", HOUSE, 0.1)) == decision(
            "dec_2"
        )
        await ledger.erase("dec_1", HOUSE, NOON, "ada")
        before = await chain(ledger)
    log = server.say("ACL", "LOG").splitlines()
    assert "client|setinfo" in log or not log, "the client names itself, which it need not"
    client = Redis.from_url(server.url())
    for command in (
        *("DEL premortem:events", "UNLINK premortem:events", "HDEL premortem:events 1", "HSET premortem:events 1 {}"),
        *(
            "HSET premortem:salts dec_2 another",
            "DEL premortem:salts",
            "HGETALL premortem:salts",
            "HDEL premortem:erasures dec_1",
        ),
        *("HSET premortem:rulings dec_2 1", "SET premortem:events 1", "RENAME premortem:events premortem:claim:1"),
        *("EXPIRE premortem:events 1", "FLUSHALL", "CONFIG SET appendfsync no", "GET another", "KEYS *", "ACL LIST"),
        *("SHUTDOWN NOSAVE", "REPLICAOF NO ONE", "PUBLISH a b", "SCRIPT FLUSH", "MONITOR"),
    ):
        with pytest.raises(NoPermissionError):
            await client.execute_command(*command.split())
    with pytest.raises(Exception, match=r"can't (run|access)"):
        await client.eval("return redis.call('HDEL', KEYS[1], '1')", 1, "premortem:events")
    await client.aclose()
    async with ledger_of(server.url()) as ledger:
        assert await chain(ledger) == before


async def test_without_the_password_there_is_no_ledger(server: RedisServer) -> None:
    locked = server.url().replace(PASSWORD.replace(" ", "%20"), "")
    for url in (locked.replace("premortem:", "premortem:guess"), f"redis://127.0.0.1:{server.port}"):
        async with ledger_of(url) as ledger:
            assert not await ledger.healthy()
            with pytest.raises(LedgerUnavailable):
                await ledger.append(decision(), HOUSE)


async def test_a_server_killed_in_the_middle_of_writes_has_kept_all_that_it_said_it_had(server: RedisServer) -> None:
    said: list[str] = []

    async def writes(ledger: RedisLedger, worker: int) -> None:
        for n in range(10_000):
            id = f"dec_{worker}_{n}"
            await ledger.append(decision(id), HOUSE)
            said.append(id)

    async with ledger_of(server.url(), 3.0) as one, ledger_of(server.url(), 3.0) as two:
        tasks = [asyncio.create_task(writes(ledger, n)) for n, ledger in enumerate((one, two, one, two))]
        await asyncio.sleep(0.7)
        server.kill()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(each) for each in ended} == {LedgerUnavailable}
        assert not await one.healthy()
        server.start()
        assert await one.healthy(), "and goes on by itself"
        assert len(said) > 20
        assert [id for id in said if await one.find(id, HOUSE) is None] == []
        events = await chain(one)
        assert verify(events) is None
        assert {event.subject for event in events} >= set(said)
        await two.append(decision("dec_after"), HOUSE)
        assert verify(await chain(one)) is None


async def test_a_server_that_hangs_is_unavailable_within_patience_and_then_goes_on(server: RedisServer) -> None:
    async with ledger_of(server.url(), 0.4) as ledger:
        await ledger.append(decision(), HOUSE)
        os.kill(server.pid, signal.SIGSTOP)
        began = monotonic()
        with pytest.raises(LedgerUnavailable):
            await ledger.append(decision("dec_2"), HOUSE)
        with pytest.raises(LedgerUnavailable):
            await ledger.find("dec_1", HOUSE)
        assert monotonic() - began < 2.0
        os.kill(server.pid, signal.SIGCONT)
        assert any([await ledger.healthy() for _ in range(20)])
        await ledger.append(decision("dec_3"), HOUSE)
        assert verify(await chain(ledger)) is None


async def test_a_full_memory_refuses_loses_nothing_and_is_over_when_there_is_room(server: RedisServer) -> None:
    async with ledger_of(server.url()) as ledger:
        await ledger.append(decision(), HOUSE)
        server.say("CONFIG", "SET", "maxmemory", "1mb")
        with pytest.raises(LedgerUnavailable):
            await ledger.append(decision("dec_2"), HOUSE)
        assert not await ledger.healthy()
        assert await ledger.find("dec_1", HOUSE) == decision()
        server.say("CONFIG", "SET", "maxmemory", "0")
        await ledger.append(decision("dec_3"), HOUSE)
        events = await chain(ledger)
        assert [event.subject for event in events] == ["dec_1", "dec_3"] and verify(events) is None


async def test_a_write_whose_answer_was_lost_is_found_to_have_been_made(server: RedisServer) -> None:
    """A proxy passes the write on, and hangs up before the answer."""
    seen, hung_up = asyncio.Event(), asyncio.Event()

    async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter, to_server: bool) -> None:
        while told := await source.read(1 << 16):
            if seen.is_set() and not hung_up.is_set() and not to_server:
                hung_up.set()
                break
            sink.write(told)
            if to_server and b"rulings" in told and b"approved" in told:
                seen.set()
        sink.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(
            pass_on(reader, inner_writer, True), pass_on(inner_reader, writer, False), return_exceptions=True
        )

    proxy = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    async with ledger_of(server.url().replace(str(server.port), str(port))) as ledger:
        await ledger.append(decision(), HOUSE)
        assert (await ledger.override(override(), HOUSE)).overridden == override()
        assert hung_up.is_set()
        with pytest.raises(OverrideRefused):
            await ledger.override(override(), HOUSE)
        assert len(await chain(ledger)) == 2
    proxy.close()


async def test_an_event_removed_or_changed_behind_the_ledgers_back_is_named(server: RedisServer) -> None:
    async with ledger_of(server.url()) as ledger:
        for n in range(4):
            await ledger.append(decision(f"dec_{n}"), HOUSE)
        third = (await chain(ledger))[2].line().decode()
        server.say("HSET", "premortem:events", "3", third.replace("escalate", "approve"))
        broken = await export(ledger, SEALER, NOON, lambda _: None)
        assert str(broken) == "Broken(seq=3, why='its hash is not that of what it says')"
        server.say("HDEL", "premortem:events", "3")
        with pytest.raises(LedgerUnavailable, match="event 3 is missing"):
            await export(ledger, SEALER, NOON, lambda _: None)


async def test_a_server_that_lost_events_is_written_to_no_more(server: RedisServer) -> None:
    async with ledger_of(server.url()) as ledger:
        await ledger.append(decision(), HOUSE)
        server.say("FLUSHALL")
        with pytest.raises(LedgerUnavailable, match="shorter than it was"):
            await ledger.append(decision("dec_2"), HOUSE)


async def test_an_erased_salt_is_gone_from_the_servers_files_as_well(server: RedisServer, tmp_path: Path) -> None:
    def on_disk() -> bool:
        return any(SALT in path.read_bytes() for path in (tmp_path / "redis" / "appendonlydir").iterdir())

    async with ledger_of(server.url(), vault=VAULT) as ledger:
        await ledger.append(decision(), HOUSE)
        assert on_disk()
        server.say("BGREWRITEAOF")
        await ledger.erase("dec_1", HOUSE, NOON, "ada")
        for _ in range(200):
            if on_disk():
                await asyncio.sleep(0.05)
        assert not on_disk()
        server.kill()
        server.start()
        kept = await ledger.find("dec_1", HOUSE)
        assert kept and kept.proposal.action.kind == "erased" and verify(await chain(ledger)) is None


async def test_what_the_first_release_wrote_is_read_as_it_was(server: RedisServer) -> None:
    """It had one queue for all tenants, one ruling a decision, and named its notes in another way."""
    async with ledger_of(server.url()) as ledger:
        for id in ("dec_1", "dec_2", "dec_3"):
            await ledger.append(decision(id), "nørd" if id == "dec_3" else HOUSE)
        await ledger.override(override(), HOUSE)
        await ledger.note(Kind.policy, "kettle", {"threshold": 0.3}, NOON, HOUSE)
    server.say("DEL", "premortem:queues", "premortem:notes")
    server.say("HSET", "premortem:notes", "policy kettle", "5")
    async with ledger_of(server.url()) as ledger:
        assert await ledger.find("dec_1", HOUSE) == overridden(override())
        assert (await waiting(ledger), await waiting(ledger, tenant="nørd")) == (["dec_2"], ["dec_3"])
        assert [event.subject for event in await ledger.noted(Kind.policy)] == ["kettle"]
        await ledger.note(Kind.policy, "kettle", {"threshold": 0.2}, NOON, HOUSE)
        assert [event.body for event in await ledger.noted(Kind.policy)] == ['{"threshold":0.2}']
        assert len(await ledger.expire(NOON + timedelta(hours=2))) == 2 and await waiting(ledger) == []


async def test_who_gives_up_on_a_read_is_not_held_up_by_a_client_that_takes_its_time_to_let_go() -> None:
    """One evaluation in 755 came two seconds late so, while a Redis hung from the start."""

    async def stubborn() -> None:
        try:
            await asyncio.sleep(2.0)
        except asyncio.CancelledError:
            await asyncio.sleep(2.0)
            raise

    patience, began = Patience(2.0), monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await patience.read(stubborn)
    assert monotonic() - began < 1.0
    await patience.finish()
