"""One suite over every ledger, and what only a file can suffer."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from statistics import median
from time import monotonic, sleep
from typing import Any, Protocol

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from service.decisions.audit import export, verify_export
from service.decisions.chain import Broken, Checkpoint, Draft, Event, Head, Kind, Sealer, extend, verify
from service.decisions.claim import KEPT, LEASE, Answered, Begun, Claim, InFlight
from service.decisions.entry import NOBODY, due
from service.decisions.ledger import Ledger
from service.decisions.outcome import OutcomeReport
from service.decisions.schema import FIRST, SECOND
from service.decisions.sqlite import SqliteLedger
from service.decisions.tables import EVENTS, NOTED
from service.decisions.vault import Vault
from service.errors import KeyReused, LedgerUnavailable, OverrideRefused, UnknownDecision
from service.vocabulary.decision import (
    Asked,
    Decision,
    Mode,
    ModelStory,
    Override,
    OverrideCode,
    OverrideRuling,
    OverrideTerms,
)
from service.vocabulary.proposal import HOUSE, Action, Asker
from service.vocabulary.verdict import Basis, Explanation, Reason, Ruling
from tests.redis_server import RedisServer

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROOT = Path(__file__).parents[2]

SEALER = Sealer(Ed25519PrivateKey.from_private_bytes(b"k" * 32), every=4)
SEALED = (SEALER.public,)
LEDGERS = ("sqlite", "redis")
PATIENCE_S = 30.0
SALT = b"a salt of exactly 32 bytes, here."[:32]
VAULT = Vault(b"m" * 32, lambda _: SALT)


def decision(id: str = "dec_1", **changed: Any) -> Decision:
    plain = Decision(
        decision_id=id,
        at=NOON,
        domain="kettle",
        ruling=Ruling.escalate,
        reason=Reason.risk_above_threshold,
        basis=Basis.simulated,
        mode=Mode.normal,
        risk=None,
        rollouts=None,
        explanation=Explanation(summary="3 of 5 simulated futures predict a scald."),
        override=OverrideTerms(approvals_required=1, expires_at=NOON + timedelta(hours=1)),
        model=ModelStory(engine="scripted", checkpoint="", codec="", policy="1", anchors="none"),
        proposal=Asked(state={"note": "a kettle"}, action=Action(kind="pour"), asker=Asker()),
        timing_ms={"simulate": 12.5},
    )
    return plain.model_copy(update=changed)


def override(id: str = "dec_1", ruling: OverrideRuling = OverrideRuling.approved, by: str = "maria") -> Override:
    return Override(decision_id=id, ruling=ruling, reason="seen in person", supervisor=by, at=NOON)


def overridden(*rulings: Override, **changed: Any) -> Decision:
    """As it stands when the last of these was the last word."""
    approvals = tuple(each for each in rulings if each.ruling is OverrideRuling.approved)
    return decision(rulings[-1].decision_id, approvals=approvals, overridden=rulings[-1], **changed)


def outcome(id: str = "dec_1", outcome: str = "scald", note: str = "") -> OutcomeReport:
    return OutcomeReport(decision_id=id, outcome=outcome, at=NOON, reporter="the ward", note=note)


class Opens(Protocol):
    def __call__(self, sealer: Sealer | None = None, vault: Vault | None = None) -> Ledger: ...


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    pytest.importorskip("redis", reason="the redis client is not installed: pip install '.[redis]'")
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(params=LEDGERS)
async def opens(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opens]:
    """Opens the same ledger, each time as another process would."""
    opened: list[Ledger] = []
    server: RedisServer | None = None
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        assert server.say("FLUSHALL") == "OK"

    def another(sealer: Sealer | None = None, vault: Vault | None = None) -> Ledger:
        opened.append(_redis(server, sealer, vault) if server else _sqlite(tmp_path, sealer, vault))
        return opened[-1]

    yield another
    for ledger in opened:
        await ledger.aclose()


def _sqlite(folder: Path, sealer: Sealer | None, vault: Vault | None) -> Ledger:
    return SqliteLedger(folder / "kept" / "ledger.sqlite", PATIENCE_S, sealer, vault)


def _redis(server: RedisServer, sealer: Sealer | None, vault: Vault | None) -> Ledger:
    from service.decisions.redis import RedisLedger

    return RedisLedger(server.url(), PATIENCE_S, sealer, vault=vault)


@pytest.fixture
def ledger(opens: Opens) -> Ledger:
    return opens()


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"ruling": Ruling.approve, "override": None, "mode": Mode.degraded},
        {"at": NOON.astimezone(timezone(timedelta(hours=-7)))},
        {"proposal": Asked(state={"note": 'été 🔥 "q" \\ \u0000 \n'}, action=Action(kind="pour"), asker=Asker())},
        {"timing_ms": {}},
    ],
    ids=["escalation", "approval", "another-time-zone", "any-text", "no-timing"],
)
async def test_whatever_is_appended_can_be_read_back_equal(ledger: Ledger, changed: dict[str, Any]) -> None:
    kept = decision(**changed)
    await ledger.append(kept, HOUSE)
    assert await ledger.find(kept.decision_id, HOUSE) == kept


async def test_what_was_never_appended_is_not_found(ledger: Ledger) -> None:
    await ledger.append(decision(), HOUSE)
    assert await ledger.find("dec_2", HOUSE) is None
    assert await ledger.find("' OR 1=1 --", HOUSE) is None


async def test_a_decision_and_its_override_survive_reopening(opens: Opens) -> None:
    first = opens()
    await first.append(decision(), HOUSE)
    ruled = await first.override(override(), HOUSE)
    await first.aclose()
    assert await opens().find("dec_1", HOUSE) == ruled == overridden(override())


async def test_an_approval_is_kept_once_and_the_first_one_stays(ledger: Ledger) -> None:
    await ledger.append(decision(), HOUSE)
    await ledger.override(override(by="maria"), HOUSE)
    for again in (override(by="maria"), override(by="john"), override(ruling=OverrideRuling.superseded)):
        with pytest.raises(OverrideRefused):
            await ledger.override(again, HOUSE)
    kept = await ledger.find("dec_1", HOUSE)
    assert kept is not None and kept.overridden == override(by="maria")


async def test_of_many_overrides_at_once_one_is_kept(opens: Opens) -> None:
    ledgers = [opens(), opens()]
    await ledgers[0].append(decision(), HOUSE)
    tried = [ledgers[n % 2].override(override(by=f"supervisor {n}"), HOUSE) for n in range(12)]
    answers = await asyncio.gather(*tried, return_exceptions=True)
    won = [answer for answer in answers if isinstance(answer, Decision)]
    assert len(won) == 1 and sum(isinstance(answer, OverrideRefused) for answer in answers) == 11
    assert await ledgers[1].find("dec_1", HOUSE) == won[0]


async def test_nothing_unknown_can_be_overridden_nor_left_behind_by_trying(ledger: Ledger) -> None:
    with pytest.raises(UnknownDecision):
        await ledger.override(override("dec_9"), HOUSE)
    await ledger.append(decision("dec_9"), HOUSE)
    assert (await ledger.find("dec_9", HOUSE)) == decision("dec_9")


async def test_another_decision_under_the_same_id_is_refused_and_never_replaces_the_first(ledger: Ledger) -> None:
    await ledger.append(decision(), HOUSE)
    with pytest.raises(LedgerUnavailable, match="another decision is kept as dec_1"):
        await ledger.append(decision(ruling=Ruling.approve, override=None), HOUSE)
    assert await ledger.find("dec_1", HOUSE) == decision()


async def test_the_same_decision_again_changes_nothing_so_that_a_lost_answer_may_be_retried(ledger: Ledger) -> None:
    await ledger.append(decision(), HOUSE)
    await ledger.override(override(), HOUSE)
    await ledger.append(decision(), HOUSE)
    assert await ledger.find("dec_1", HOUSE) == overridden(override())


async def test_many_appends_at_once_from_two_openings_are_all_kept(opens: Opens) -> None:
    ledgers = [opens(), opens()]
    await asyncio.gather(*[ledgers[n % 2].append(decision(f"dec_{n}"), HOUSE) for n in range(60)])
    found = await asyncio.gather(*[ledgers[(n + 1) % 2].find(f"dec_{n}", HOUSE) for n in range(60)])
    assert found == [decision(f"dec_{n}") for n in range(60)]


async def test_an_append_whose_caller_leaves_is_finished_all_the_same(ledger: Ledger) -> None:
    assert await ledger.healthy()
    task = asyncio.create_task(ledger.append(decision(), HOUSE))
    await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert await ledger.find("dec_1", HOUSE) == decision()


async def test_a_closed_ledger_says_so_and_may_be_closed_again(ledger: Ledger) -> None:
    await ledger.append(decision(), HOUSE)
    await ledger.aclose()
    await ledger.aclose()
    assert not await ledger.healthy()
    for asked in (
        ledger.append(decision("dec_2"), HOUSE),
        ledger.find("dec_1", HOUSE),
        ledger.override(override(), HOUSE),
    ):
        with pytest.raises(LedgerUnavailable):
            await asked


async def test_a_fresh_ledger_is_healthy_and_asking_leaves_no_decision_behind(ledger: Ledger) -> None:
    assert await ledger.healthy() and await ledger.healthy()
    assert await ledger.find("1", HOUSE) is None


# The audit chain.


async def chain(ledger: Ledger) -> list[Event]:
    """All of it, in small pages."""
    events: list[Event] = []
    while page := await ledger.events(len(events), 3):
        events += page
    return events


async def test_everything_that_happens_is_one_event_and_the_chain_is_whole(opens: Opens) -> None:
    ledger = opens()
    await ledger.append(decision(), HOUSE)
    await ledger.override(override(), HOUSE)
    await ledger.report(outcome(), HOUSE)
    await ledger.note(Kind.policy, "kettle", {"threshold": 0.3}, NOON, HOUSE)
    await ledger.append(decision("dec_2"), HOUSE)
    await ledger.expire(NOON + timedelta(hours=2))
    events = await chain(ledger)
    told = [(event.kind.value, event.subject) for event in events]
    assert told == [
        *[("decision", "dec_1"), ("override", "dec_1"), ("outcome", "dec_1"), ("policy", "kettle")],
        *[("decision", "dec_2"), ("override", "dec_2")],
    ]
    assert verify(events) is None
    assert Decision.model_validate_json(events[0].body) == decision()
    assert Override.model_validate_json(events[1].body) == override()
    assert await chain(opens()) == events


async def test_what_is_refused_or_said_again_is_no_event(ledger: Ledger) -> None:
    await ledger.append(decision(), HOUSE)
    await ledger.override(override(), HOUSE)
    await ledger.report(outcome(), HOUSE)
    before = await chain(ledger)
    await ledger.append(decision(), HOUSE)
    await ledger.report(outcome(), HOUSE)
    refused = (
        ledger.append(decision(ruling=Ruling.approve), HOUSE),
        *(
            ledger.override(override(by="john"), HOUSE),
            ledger.override(override("dec_9"), HOUSE),
            ledger.report(outcome("dec_9"), HOUSE),
        ),
    )
    for asked in refused:
        with pytest.raises((LedgerUnavailable, OverrideRefused, UnknownDecision)):
            await asked
    assert await chain(ledger) == before


async def test_two_openings_that_write_at_once_make_one_chain(opens: Opens) -> None:
    ledgers = [opens(SEALER), opens(SEALER)]
    await asyncio.gather(*[ledgers[n % 2].append(decision(f"dec_{n}"), HOUSE) for n in range(30)])
    events = await chain(ledgers[0])
    assert verify(events, trusted=SEALED) is None
    assert {event.subject for event in events if event.kind is Kind.decision} == {f"dec_{n}" for n in range(30)}


async def test_every_so_often_the_chain_is_signed(opens: Opens) -> None:
    ledger = opens(SEALER)
    for n in range(7):
        await ledger.append(decision(f"dec_{n}"), HOUSE)
    events = await chain(ledger)
    assert [event.seq for event in events if event.kind is Kind.checkpoint] == [5, 9]
    assert verify(events, trusted=SEALED) is None


async def test_an_export_verifies_without_the_ledger_and_counts_all_there_is(ledger: Ledger) -> None:
    for n in range(5):
        await ledger.append(decision(f"dec_{n}"), HOUSE)
    lines: list[bytes] = []
    sealed = await export(ledger, SEALER, NOON, lines.append)
    assert isinstance(sealed, Checkpoint) and sealed.seq == 5
    assert verify_export(lines, SEALED) == sealed
    assert verify_export([*lines[:2], *lines[3:]], SEALED) == Broken(3, "event 4 stands in its place")


async def test_what_follows_a_decision_belongs_to_its_tenant(ledger: Ledger) -> None:
    await ledger.append(decision(), "north")
    await ledger.append(decision("dec_2"), "south")
    await ledger.override(override("dec_2"), "south")
    await ledger.report(outcome("dec_1"), "north")
    await ledger.note(Kind.model, "engine", {"checkpoint": "mini"}, NOON, HOUSE)
    assert [event.tenant for event in await chain(ledger)] == ["north", "south", "south", "north", "house"]


async def test_a_note_is_kept_when_it_says_something_new(opens: Opens) -> None:
    ledger = opens()
    for threshold in (0.3, 0.3, 0.2, 0.3):
        await ledger.note(Kind.policy, "kettle", {"threshold": threshold}, NOON, HOUSE)
    await opens().note(Kind.policy, "kettle", {"threshold": 0.3}, NOON + timedelta(days=1), HOUSE)
    await ledger.note(Kind.key, "kettle", {"threshold": 0.3}, NOON, HOUSE)
    await ledger.note(Kind.policy, "triage", {"threshold": 0.3}, NOON, HOUSE)
    assert [(event.kind.value, event.body) for event in await chain(ledger)] == [
        *[("policy", f'{{"threshold":{threshold}}}') for threshold in (0.3, 0.2, 0.3)],
        *[("key", '{"threshold":0.3}'), ("policy", '{"threshold":0.3}')],
    ]


async def test_what_really_happened_is_kept_with_its_corrections(opens: Opens) -> None:
    ledger = opens()
    await ledger.append(decision("dec_1"), HOUSE)
    await ledger.append(decision("dec_11"), HOUSE)
    await ledger.report(outcome(), HOUSE)
    await ledger.report(outcome(outcome="none"), HOUSE)
    await ledger.report(outcome("dec_11"), HOUSE)
    assert await opens().reports("dec_1", HOUSE) == (outcome(), outcome(outcome="none"))
    assert await ledger.reports("dec_2", HOUSE) == ()


# Escalations that wait.


def ends(id: str, minutes: int) -> Decision:
    return decision(id, override=OverrideTerms(approvals_required=1, expires_at=NOON + timedelta(minutes=minutes)))


async def waiting(ledger: Ledger, limit: int = 50, after: str = "", tenant: str = HOUSE) -> list[str]:
    return [each.decision_id for each in await ledger.pending(tenant, limit, after)]


async def test_the_escalations_that_wait_are_listed_the_soonest_to_end_first(opens: Opens) -> None:
    ledger = opens()
    for kept in (
        ends("c", 30),
        ends("b", 10),
        ends("a", 30),
        ends("d", 20),
        decision("approved", ruling=Ruling.approve, override=None),
    ):
        await ledger.append(kept, HOUSE)
    assert await waiting(ledger) == ["b", "d", "a", "c"]
    assert [await waiting(ledger, 2), await waiting(ledger, 2, "d"), await waiting(ledger, 2, "c")] == [
        *(["b", "d"], ["a", "c"], []),
    ]
    await ledger.override(override("d"), HOUSE)
    assert await waiting(opens()) == ["b", "a", "c"]
    assert await waiting(ledger, 2, "d") == ["a", "c"], "a page may end with one that was ruled on since"
    with pytest.raises(UnknownDecision):
        await ledger.pending(HOUSE, 2, "e")


async def test_an_escalation_that_nobody_ruled_on_in_time_is_expired_by_nobody(opens: Opens) -> None:
    ledger = opens()
    for kept in (
        ends("a", 10),
        ends("b", 11),
        ends("c", 30),
        decision("approved", ruling=Ruling.approve, override=None),
    ):
        await ledger.append(kept, HOUSE)
    late = NOON + timedelta(minutes=11)
    expired = await ledger.expire(late)
    assert [each.decision_id for each in expired] == ["a"], "at its last moment b may still be ruled on"
    ruling = expired[0].overridden
    assert ruling and (ruling.ruling, ruling.code) == (OverrideRuling.expired, OverrideCode.expired)
    assert (ruling.supervisor, ruling.at) == (NOBODY, late)
    assert await opens().find("a", HOUSE) == expired[0]
    assert await ledger.expire(late) == () and await waiting(ledger) == ["b", "c"]
    with pytest.raises(OverrideRefused):
        await ledger.override(override("a"), HOUSE)
    assert [each.decision_id for each in await ledger.expire(NOON + timedelta(hours=1))] == ["b", "c"]
    assert verify(await chain(ledger)) is None


async def test_a_shadow_never_waits_for_a_person_and_admits_no_ruling(opens: Opens) -> None:
    ledger, shadow = opens(), decision(mode=Mode.shadow, override=None)
    await ledger.append(shadow, HOUSE)
    async with asyncio.timeout(5):
        assert await ledger.wait("dec_1", HOUSE, 60.0) == shadow
    assert await waiting(ledger) == [] and await ledger.waiting() == 0
    assert await ledger.expire(NOON + timedelta(days=1)) == ()
    for ruling in OverrideRuling:
        with pytest.raises(OverrideRefused, match="shadow"):
            await ledger.override(override(ruling=ruling), HOUSE)
    with pytest.raises(OverrideRefused, match="shadow"):
        await ledger.append(decision("dec_2"), HOUSE, override(ruling=OverrideRuling.superseded))
    assert await ledger.find("dec_2", HOUSE) is None
    await ledger.report(outcome(), HOUSE)
    assert await opens().reports("dec_1", HOUSE) == (outcome(),)
    assert await opens().find("dec_1", HOUSE) == shadow


async def test_a_supervisor_and_the_clock_at_once_leave_one_ruling(opens: Opens) -> None:
    ledgers = [opens(), opens()]
    for n in range(6):
        await ledgers[0].append(decision(f"dec_{n}"), HOUSE)
    late = NOON + timedelta(hours=2)
    answers = await asyncio.gather(
        ledgers[0].expire(late),
        *[ledgers[1].override(override(f"dec_{n}"), HOUSE) for n in range(6)],
        ledgers[1].expire(late),
        return_exceptions=True,
    )
    assert {type(answer) for answer in answers} <= {tuple, Decision, OverrideRefused}
    assert await waiting(ledgers[0]) == []
    events = await chain(ledgers[0])
    assert verify(events) is None
    assert sorted(event.subject for event in events if event.kind is Kind.override) == [f"dec_{n}" for n in range(6)]


async def test_who_waits_is_woken_by_a_ruling_made_elsewhere_within_a_tenth_of_a_second(opens: Opens) -> None:
    here, elsewhere = opens(), opens()
    took = []
    for n in range(5):
        await here.append(decision(f"dec_{n}"), HOUSE)
        task = asyncio.create_task(here.wait(f"dec_{n}", HOUSE, 20.0))
        await asyncio.sleep(0.1)
        assert not task.done()
        made = await elsewhere.override(override(f"dec_{n}"), HOUSE)
        began = monotonic()
        assert await task == made
        took.append(monotonic() - began)
    assert median(took) < 0.1


async def test_many_may_wait_and_each_is_woken_by_its_own_ruling(opens: Opens) -> None:
    ledger = opens()
    for n in range(3):
        await ledger.append(decision(f"dec_{n}"), HOUSE)
    waits = [asyncio.create_task(ledger.wait(f"dec_{n % 3}", HOUSE, 20.0)) for n in range(30)]
    await asyncio.sleep(0.1)
    waits[0].cancel()
    await ledger.override(override("dec_0"), HOUSE)
    woken, _ = await asyncio.wait(waits, timeout=0.5)
    assert woken == set(waits[::3])
    await ledger.expire(NOON + timedelta(hours=2))
    assert all(each.overridden and each.overridden.supervisor == NOBODY for each in await asyncio.gather(*waits[1::3]))


async def test_there_is_no_wait_for_what_is_settled_and_an_end_to_every_wait(ledger: Ledger) -> None:
    await ledger.append(decision(), HOUSE)
    await ledger.append(decision("approved", ruling=Ruling.approve, override=None), HOUSE)
    async with asyncio.timeout(5.0):
        assert await ledger.wait("approved", HOUSE, 60.0) == decision("approved", ruling=Ruling.approve, override=None)
        assert await ledger.wait("dec_1", HOUSE, 0.1) == decision()
        await ledger.override(override(), HOUSE)
        assert (await ledger.wait("dec_1", HOUSE, 60.0)).overridden == override()
        with pytest.raises(UnknownDecision):
            await ledger.wait("dec_2", HOUSE, 60.0)


async def test_closing_leaves_nobody_waiting(ledger: Ledger) -> None:
    await ledger.append(decision(), HOUSE)
    task = asyncio.create_task(ledger.wait("dec_1", HOUSE, 60.0))
    await asyncio.sleep(0.1)
    await ledger.aclose()
    async with asyncio.timeout(5.0):
        with pytest.raises(LedgerUnavailable):
            await task


# Tenants.


async def test_another_tenants_decision_is_as_unknown_as_one_that_never_was(ledger: Ledger) -> None:
    await ledger.append(decision(), "north")
    await ledger.report(outcome(), "north")
    before = await chain(ledger)
    assert await ledger.find("dec_1", "south") is None and await ledger.reports("dec_1", "south") == ()
    assert await waiting(ledger, tenant="south") == [] and await waiting(ledger, tenant="nort") == []
    replaced = Override(
        decision_id="dec_1", ruling=OverrideRuling.superseded, reason="", supervisor="", at=NOON, successor="dec_2"
    )
    for refused in (
        *(ledger.override(override(), "south"), ledger.wait("dec_1", "south", 0.1), ledger.report(outcome(), "south")),
        *(ledger.history("dec_1", "south"), ledger.pending("south", 5, "dec_1")),
        *(ledger.erase("dec_1", "south", NOON, "ada"), ledger.append(decision("dec_2"), "south", replaced)),
    ):
        with pytest.raises(UnknownDecision, match=r"there is no decision dec_1$"):
            await refused
    with pytest.raises(LedgerUnavailable, match="another decision is kept"):
        await ledger.append(decision(), "south")
    assert await chain(ledger) == before and await ledger.find("dec_2", "south") is None


async def test_each_tenant_has_a_queue_of_its_own_and_the_clock_runs_for_all(opens: Opens) -> None:
    ledger = opens()
    tenants = ("a", "a|1:b", "1:a|", "", "é", "b\0")
    for n, tenant in enumerate(tenants):
        for minutes in (20, 10):
            await ledger.append(ends(f"dec_{n}_{minutes}", minutes), tenant)
    for n, tenant in enumerate(tenants):
        assert await waiting(opens(), tenant=tenant) == [f"dec_{n}_10", f"dec_{n}_20"]
        assert await waiting(ledger, 1, f"dec_{n}_10", tenant) == [f"dec_{n}_20"]
    assert len(await ledger.expire(NOON + timedelta(minutes=15))) == len(tenants)
    for n, tenant in enumerate(tenants):
        assert await waiting(ledger, tenant=tenant) == [f"dec_{n}_20"]
    ruled = [event for event in await chain(ledger) if event.kind is Kind.override]
    assert {(event.subject, event.tenant) for event in ruled} == {(f"dec_{n}_10", t) for n, t in enumerate(tenants)}


async def test_a_note_is_its_tenants_own_and_the_last_of_each_is_listed(opens: Opens) -> None:
    ledger = opens(SEALER)
    for off, tenant in ((True, "north"), (True, "south"), (False, "north"), (False, "north")):
        await ledger.note(Kind.switch, "domain kettle", {"off": off}, NOON, tenant)
    await ledger.note(Kind.switch, "agent a", {"off": True}, NOON, "south")
    await ledger.note(Kind.key, "domain kettle", {"off": None}, NOON, "south")
    told = [(event.tenant, event.subject, event.body) for event in await opens().noted(Kind.switch)]
    assert told == [
        *[("south", "domain kettle", '{"off":true}'), ("north", "domain kettle", '{"off":false}')],
        ("south", "agent a", '{"off":true}'),
    ]
    assert await ledger.noted(Kind.model) == () and len(await ledger.noted(Kind.key)) == 1
    assert await ledger.noted(Kind.switch) == tuple(e for e in await chain(ledger) if e.seq in (2, 3, 4))


# Several rulings.

TWO = OverrideTerms(approvals_required=2, expires_at=NOON + timedelta(hours=1))


async def test_where_two_must_approve_one_is_not_enough_and_nobody_counts_twice(opens: Opens) -> None:
    ledger = opens()
    await ledger.append(decision(override=TWO), HOUSE)
    maria, john = override(by="maria"), override(by="john")
    once = decision(override=TWO, approvals=(maria,))
    assert await ledger.override(maria, HOUSE) == once == await opens().find("dec_1", HOUSE)
    assert await ledger.pending(HOUSE, 5) == (once,)
    with pytest.raises(OverrideRefused):
        await opens().override(maria, HOUSE)
    assert await ledger.override(john, HOUSE) == overridden(maria, john, override=TWO)
    assert await ledger.find("dec_1", HOUSE) == overridden(maria, john, override=TWO)
    assert await ledger.pending(HOUSE, 5) == () and await ledger.expire(NOON + timedelta(days=1)) == ()
    assert [event.kind.value for event in await chain(ledger)] == ["decision", "override", "override"]


async def test_what_was_approved_may_be_denied_after_all_and_then_it_stays_so(opens: Opens) -> None:
    ledger = opens()
    await ledger.append(decision(), HOUSE)
    await ledger.append(decision("dec_2", ruling=Ruling.approve, override=None), HOUSE)
    maria, john = override(by="maria"), override(ruling=OverrideRuling.denied, by="john")
    await ledger.override(maria, HOUSE)
    assert await ledger.override(john, HOUSE) == overridden(maria, john) == await opens().find("dec_1", HOUSE)
    void = override("dec_2", OverrideRuling.void, by="")
    standing = await ledger.override(void, HOUSE)
    assert standing.overridden == void and standing.ruling is Ruling.approve
    for late in (override(by="ada"), override("dec_2", by="ada"), override("dec_2", OverrideRuling.denied)):
        with pytest.raises(OverrideRefused):
            await ledger.override(late, HOUSE)
    assert verify(await chain(ledger)) is None


async def test_an_escalation_that_was_half_approved_runs_out_like_any_other(ledger: Ledger) -> None:
    await ledger.append(decision(override=TWO), HOUSE)
    await ledger.override(override(), HOUSE)
    (expired,) = await ledger.expire(NOON + timedelta(hours=2))
    assert expired.approvals == (override(),) and expired == await ledger.find("dec_1", HOUSE)
    assert expired.overridden and expired.overridden.ruling is OverrideRuling.expired


async def test_of_many_approvals_at_once_as_many_are_kept_as_it_takes(opens: Opens) -> None:
    ledgers = [opens(), opens()]
    await ledgers[0].append(decision(override=TWO), HOUSE)
    tried = [ledgers[n % 2].override(override(by=f"supervisor {n // 2}"), HOUSE) for n in range(12)]
    answers = await asyncio.gather(*tried, return_exceptions=True)
    won = [answer for answer in answers if isinstance(answer, Decision)]
    assert sorted(len(each.approvals) for each in won) == [1, 2]
    kept = await ledgers[1].find("dec_1", HOUSE)
    assert kept in won and kept and len({each.supervisor for each in kept.approvals}) == 2


async def test_an_approval_that_is_not_yet_enough_ends_no_wait(opens: Opens) -> None:
    here, elsewhere = opens(), opens()
    await here.append(decision(override=TWO), HOUSE)
    task = asyncio.create_task(here.wait("dec_1", HOUSE, 20.0))
    await elsewhere.override(override(by="maria"), HOUSE)
    await asyncio.sleep(0.3)
    assert not task.done()
    assert await here.wait("dec_1", HOUSE, 0.1) == decision(override=TWO, approvals=(override(by="maria"),))
    made = await elsewhere.override(override(by="john"), HOUSE)
    async with asyncio.timeout(5.0):
        assert await task == made


# A decision that takes another's place.


def superseding(id: str = "dec_1", successor: str = "dec_2") -> Override:
    return Override(
        decision_id=id,
        ruling=OverrideRuling.superseded,
        code=OverrideCode.edited,
        reason="pour less",
        supervisor="maria",
        at=NOON,
        successor=successor,
    )


async def test_a_decision_takes_anothers_place_in_one_step(opens: Opens) -> None:
    ledger = opens()
    await ledger.append(decision(override=TWO), HOUSE)
    await ledger.override(override(), HOUSE)
    successor = decision("dec_2", supersedes="dec_1")
    for _ in range(2):
        await ledger.append(successor, HOUSE, superseding())
    replaced = await opens().find("dec_1", HOUSE)
    assert replaced == decision(override=TWO, approvals=(override(),), overridden=superseding())
    assert await ledger.find("dec_2", HOUSE) == successor and await waiting(ledger) == ["dec_2"]
    assert [(event.kind.value, event.subject) for event in await chain(ledger)][2:] == [
        *[("decision", "dec_2"), ("override", "dec_1")],
    ]


async def test_where_the_place_is_not_free_neither_is_kept(ledger: Ledger) -> None:
    for id in ("denied", "approved"):
        await ledger.append(decision(id), HOUSE)
        await ledger.override(override(id, OverrideRuling(id)), HOUSE)
    await ledger.append(decision("not asked", ruling=Ruling.approve, override=None), HOUSE)
    before = await chain(ledger)
    for id in ("denied", "approved", "not asked"):
        with pytest.raises(OverrideRefused):
            await ledger.append(decision("dec_2"), HOUSE, superseding(id))
    for id in ("unknown", "dec_2"):
        with pytest.raises(UnknownDecision):
            await ledger.append(decision("dec_2"), HOUSE, superseding(id))
    assert await chain(ledger) == before and await ledger.find("dec_2", HOUSE) is None
    assert await waiting(ledger) == []


async def test_of_many_successors_at_once_one_takes_the_place(opens: Opens) -> None:
    ledgers = [opens(), opens()]
    await ledgers[0].append(decision(), HOUSE)
    tried = [ledgers[n % 2].append(decision(f"new_{n}"), HOUSE, superseding(successor=f"new_{n}")) for n in range(8)]
    answers = await asyncio.gather(*tried, return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["NoneType", *["OverrideRefused"] * 7]
    replaced = await ledgers[1].find("dec_1", HOUSE)
    assert replaced and replaced.overridden and await waiting(ledgers[0]) == [replaced.overridden.successor]


# Free text, sealed and erased.


async def sealed(ledger: Ledger) -> list[Event]:
    await ledger.append(decision(), HOUSE)
    await ledger.override(override(), HOUSE)
    await ledger.report(outcome(note="the handle was hot"), HOUSE)
    return await chain(ledger)


async def test_what_a_vault_seals_is_read_through_it_alone(opens: Opens) -> None:
    ledger = opens(vault=VAULT)
    events = await sealed(ledger)
    told = "".join(event.body for event in events)
    assert not any(word in told for word in ("a scald.", "a kettle", "seen in person", "hot"))
    assert verify(events) is None
    again = opens(vault=VAULT)
    assert await again.find("dec_1", HOUSE) == overridden(override())
    assert await again.reports("dec_1", HOUSE) == (outcome(note="the handle was hot"),)
    history = await again.history("dec_1", HOUSE)
    assert [event.hash for event in history] == [event.hash for event in events]
    assert Decision.model_validate_json(history[0].body) == decision()
    assert Override.model_validate_json(history[1].body) == override()
    assert OutcomeReport.model_validate_json(history[2].body) == outcome(note="the handle was hot")
    for blind in (opens(), opens(vault=Vault(b"another secret's bytes, 32 of them"[:32]))):
        with pytest.raises(LedgerUnavailable):
            await blind.find("dec_1", HOUSE)
        with pytest.raises(LedgerUnavailable):
            await blind.override(override(ruling=OverrideRuling.denied, by="john"), HOUSE)
        assert await chain(blind) == events


async def test_what_was_sealed_and_is_told_again_changes_nothing(opens: Opens) -> None:
    vaulted = opens(vault=Vault(b"m" * 32))
    events = await sealed(vaulted)
    assert await sealed_again(vaulted) == events
    with pytest.raises(LedgerUnavailable, match="another decision is kept"):
        await vaulted.append(decision(proposal=decision().proposal.model_copy(update={"state": {}})), HOUSE)


async def sealed_again(ledger: Ledger) -> list[Event]:
    await ledger.append(decision(), HOUSE)
    await ledger.report(outcome(note="the handle was hot"), HOUSE)
    return await chain(ledger)


async def test_what_is_erased_is_unreadable_for_ever_and_the_chain_says_so(opens: Opens) -> None:
    ledger = opens(SEALER, VAULT)
    await ledger.append(decision("dec_2"), HOUSE)
    before = await sealed(ledger)
    await ledger.erase("dec_1", HOUSE, NOON, "ada")
    for again in (ledger, opens(SEALER, VAULT)):
        await again.erase("dec_1", HOUSE, NOON + timedelta(days=1), "bob")
        events = await chain(again)
        assert events[: len(before)] == before and verify(events, trusted=SEALED) is None
        (erasure,) = events[len(before) :]
        assert (erasure.kind, erasure.subject, erasure.body) == (Kind.erasure, "dec_1", '{"by":"ada"}')
        kept = await again.find("dec_1", HOUSE)
        assert kept and kept.overridden and kept.overridden.reason == "erased"
        assert kept.proposal.state == {} and kept.proposal.action.kind == "erased" and kept.futures is None
        assert (kept.domain, kept.reason, kept.at) == ("kettle", Reason.risk_above_threshold, NOON)
        assert await again.reports("dec_1", HOUSE) == (outcome(note="erased"),)
        assert [event.kind.value for event in await again.history("dec_1", HOUSE)] == [
            *("decision", "override", "outcome", "erasure"),
        ]
        assert "a kettle" not in "".join(event.body for event in await again.history("dec_1", HOUSE))
        assert await again.find("dec_2", HOUSE) == decision("dec_2"), "nobody else's"


async def test_what_is_erased_stays_erased_whatever_is_told_of_it_later(opens: Opens) -> None:
    ledger = opens(vault=Vault(b"m" * 32))
    await ledger.append(decision(override=TWO), HOUSE)
    await ledger.report(outcome(note="the handle was hot"), HOUSE)
    await ledger.erase("dec_1", HOUSE, NOON, "ada")
    before = await chain(ledger)
    await ledger.append(decision(override=TWO), HOUSE)
    await ledger.report(outcome(note="the handle was hot"), HOUSE)
    assert await chain(ledger) == before
    with pytest.raises(LedgerUnavailable, match="another decision is kept"):
        await ledger.append(decision(override=TWO, domain="another"), HOUSE)
    await ledger.override(override(by="maria"), HOUSE)
    with pytest.raises(OverrideRefused):
        await ledger.override(override(by="maria"), HOUSE)
    await ledger.override(override(by="john"), HOUSE)
    await ledger.report(outcome(outcome="none", note="it was not"), HOUSE)
    kept = await opens(vault=Vault(b"m" * 32)).find("dec_1", HOUSE)
    assert kept and [(each.supervisor, each.reason) for each in kept.approvals] == [
        ("maria", "erased"),
        ("john", "erased"),
    ]
    events = await chain(ledger)
    assert not any(word in event.body for event in events for word in ("seen in person", "it was not", "was hot"))
    assert verify(events) is None and await waiting(ledger) == []


async def test_what_was_kept_in_plain_text_cannot_be_erased_and_nobody_says_it_was(opens: Opens) -> None:
    ledger, vaulted = opens(), opens(vault=VAULT)
    await ledger.append(decision(), HOUSE)
    before = await chain(ledger)
    await vaulted.append(decision(), HOUSE)
    for either in (ledger, vaulted):
        with pytest.raises(LedgerUnavailable, match="kept without a vault"):
            await either.erase("dec_1", HOUSE, NOON, "ada")
    assert await chain(vaulted) == before
    assert await vaulted.override(override(), HOUSE) == await ledger.find("dec_1", HOUSE) == overridden(override())
    with pytest.raises(UnknownDecision):
        await vaulted.erase("dec_2", HOUSE, NOON, "ada")


async def test_a_report_and_an_erasure_at_once_leave_nothing_to_read(opens: Opens) -> None:
    ledgers = [opens(vault=Vault(b"m" * 32)), opens(vault=Vault(b"m" * 32))]
    await ledgers[0].append(decision(), HOUSE)
    await asyncio.gather(
        *[ledgers[n % 2].report(outcome(note=f"note {n}"), HOUSE) for n in range(6)],
        ledgers[0].erase("dec_1", HOUSE, NOON, "ada"),
        ledgers[1].erase("dec_1", HOUSE, NOON, "bob"),
        *[ledgers[n % 2].report(outcome(note=f"late {n}"), HOUSE) for n in range(6)],
    )
    events = await chain(ledgers[0])
    assert verify(events) is None and [event.kind for event in events].count(Kind.erasure) == 1
    assert {each.note for each in await ledgers[1].reports("dec_1", HOUSE)} == {"erased"}


# Requests that are sent again.

CLAIM = Claim("agent", "POST /v1/evaluations", "key-1", "hash of a body")
BODY = b'{"decision_id": "dec_1"}\xff\x00'


async def begun(ledger: Ledger, at: datetime = NOON, claim: Claim = CLAIM) -> Begun:
    standing = await ledger.begin(claim, at)
    assert isinstance(standing, Begun), standing
    return standing


async def test_a_request_is_carried_out_once_and_answered_the_same_ever_after(opens: Opens) -> None:
    ledger = opens()
    first = await begun(ledger)
    assert await opens().begin(CLAIM, NOON + timedelta(seconds=59)) == InFlight(NOON)
    await ledger.finish(first, 200, BODY)
    await ledger.aclose()
    again = opens()
    assert await again.begin(CLAIM, NOON + timedelta(hours=23, minutes=59)) == Answered(200, BODY)
    await again.abandon(first)
    assert await again.begin(CLAIM, NOON + timedelta(hours=1)) == Answered(200, BODY)


async def test_the_same_key_with_another_body_is_a_mismatch_in_flight_or_answered(ledger: Ledger) -> None:
    first = await begun(ledger)
    with pytest.raises(KeyReused):
        await ledger.begin(replace(CLAIM, body_hash="another"), NOON)
    await ledger.finish(first, 200, BODY)
    with pytest.raises(KeyReused):
        await ledger.begin(replace(CLAIM, body_hash="another"), NOON)


@pytest.mark.parametrize("changed", [{"caller": "another"}, {"route": "POST /v1/other"}, {"key": "key-2"}])
async def test_another_caller_route_or_key_is_another_claim(ledger: Ledger, changed: dict[str, str]) -> None:
    await begun(ledger)
    await begun(ledger, claim=replace(CLAIM, **changed, body_hash="another"))


async def test_an_abandoned_claim_is_free_at_once(ledger: Ledger) -> None:
    await ledger.abandon(await begun(ledger))
    await ledger.finish(await begun(ledger, claim=replace(CLAIM, body_hash="another")), 200, BODY)


async def test_a_claim_whose_process_died_is_free_after_its_lease_and_the_dead_cannot_answer_it(opens: Opens) -> None:
    dead, alive = opens(), opens()
    first = await begun(dead)
    second = await begun(alive, NOON + LEASE)
    assert second.turn > first.turn
    with pytest.raises(LedgerUnavailable, match="took it over"):
        await dead.finish(first, 200, b"too late")
    await dead.abandon(first)
    await alive.finish(second, 201, BODY)
    with pytest.raises(LedgerUnavailable):
        await dead.finish(first, 200, b"too late")
    assert await dead.begin(CLAIM, NOON + LEASE) == Answered(201, BODY)


async def test_a_claim_is_over_after_a_day(ledger: Ledger) -> None:
    await ledger.finish(await begun(ledger), 200, BODY)
    await begun(ledger, NOON + KEPT, replace(CLAIM, body_hash="another"))
    assert await ledger.begin(replace(CLAIM, body_hash="another"), NOON + KEPT) == InFlight(NOON + KEPT)


async def test_of_many_requests_at_once_one_is_carried_out(opens: Opens) -> None:
    ledgers = [opens(), opens()]
    standings = await asyncio.gather(*[ledgers[n % 2].begin(CLAIM, NOON) for n in range(12)])
    assert sorted(type(standing).__name__ for standing in standings) == ["Begun", *["InFlight"] * 11]


# What only a file can suffer.


async def refuses(ledger: Ledger) -> None:
    assert not await ledger.healthy()
    with pytest.raises(LedgerUnavailable):
        await ledger.append(decision("dec_new"), HOUSE)
    await ledger.aclose()


async def test_a_commit_waits_for_the_disk(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    await ledger.append(decision(), HOUSE)
    pragmas = {
        name: await ledger._do(lambda db, name=name: db.execute(f"PRAGMA {name}").fetchone()[0])  # type: ignore[misc]
        for name in ("synchronous", "journal_mode", "foreign_keys", "secure_delete")
    }
    await ledger.aclose()
    assert pragmas == {"synchronous": 2, "journal_mode": "wal", "foreign_keys": 1, "secure_delete": 1}


def run_beside(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    told = f"import asyncio, os, sys\nfrom tests.conformance.test_ledgers import *\n{script}"
    return subprocess.run(
        [sys.executable, "-c", told, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


async def test_a_process_killed_right_after_an_append_has_kept_it(tmp_path: Path) -> None:
    script = """
async def main():
    ledger = SqliteLedger(Path(sys.argv[1]))
    await ledger.append(decision(), HOUSE)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    died = run_beside(script, str(tmp_path / "ledger.sqlite"))
    assert died.returncode == -signal.SIGKILL, died.stderr
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    assert await ledger.find("dec_1", HOUSE) == decision()
    await ledger.aclose()


async def test_a_full_disk_refuses_loses_nothing_and_is_over_when_there_is_room(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the full disk: the kernel refuses the same writes."""
    script = """
import resource
async def main():
    path = Path(sys.argv[1])
    ledger = SqliteLedger(path)
    await ledger.append(decision("before"), HOUSE)
    full = path.with_name(path.name + "-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
    try:
        await ledger.append(decision("during"), HOUSE)
        print("taken", end=" ")
    except LedgerUnavailable:
        print("refused", end=" ")
    print(await ledger.healthy(), end=" ")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(await ledger.healthy(), end=" ")
    await ledger.append(decision("after"), HOUSE)
    print([name for name in ("before", "during", "after") if await ledger.find(name, HOUSE)])
    await ledger.aclose()
asyncio.run(main())
"""
    ended = run_beside(script, str(tmp_path / "ledger.sqlite"))
    assert ended.stdout.strip() == "refused False True ['before', 'after']", ended.stderr


async def test_a_place_where_no_file_can_be_made_is_an_unavailable_ledger(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    await refuses(SqliteLedger(tmp_path / "file" / "ledger.sqlite"))
    await refuses(SqliteLedger(tmp_path))


async def test_a_file_that_is_not_a_ledger_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"a letter to the site office" * 100)
    await refuses(SqliteLedger(path))
    assert path.read_bytes() == b"a letter to the site office" * 100


async def test_a_read_only_file_takes_no_decision(tmp_path: Path) -> None:
    """File permissions do not bind root; a write version above SQLite's own makes it treat the file as read-only for anyone."""
    path = tmp_path / "ledger.sqlite"
    ledger = SqliteLedger(path)
    await ledger.append(decision(), HOUSE)
    await ledger.aclose()
    with path.open("r+b") as file:
        file.seek(18)
        file.write(b"\x03")
    await refuses(SqliteLedger(path))


async def test_a_locked_ledger_gives_up_within_its_patience_reads_on_and_recovers(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    patient, hasty = SqliteLedger(path, patience_s=10.0), SqliteLedger(path, patience_s=0.2)
    await patient.append(decision(), HOUSE)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    async with asyncio.timeout(5.0):
        with pytest.raises(LedgerUnavailable):
            await hasty.append(decision("dec_2"), HOUSE)
        assert not await hasty.healthy()
    assert await patient.find("dec_1", HOUSE) == decision(), "WAL: a writer keeps no reader waiting"
    holder.execute("ROLLBACK")
    holder.close()
    assert any([await hasty.healthy() for _ in range(20)])
    await patient.append(decision("dec_3"), HOUSE)
    await patient.aclose()
    await hasty.aclose()


async def test_a_row_that_cannot_be_read_is_an_unavailable_ledger_and_not_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = SqliteLedger(path)
    await ledger.append(decision(), HOUSE)
    with sqlite3.connect(path) as vandal:
        vandal.execute("UPDATE decisions SET decision = '{\"decision_id\": 1}'")
    vandal.close()
    with pytest.raises(LedgerUnavailable):
        await ledger.find("dec_1", HOUSE)
    await ledger.aclose()


async def test_what_was_kept_before_there_was_a_chain_is_adopted_into_it_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    await an_old_ledger(path)
    ledgers = [SqliteLedger(path, PATIENCE_S), SqliteLedger(path, PATIENCE_S)]
    found = await asyncio.gather(*[ledger.find("dec_1", HOUSE) for ledger in ledgers])
    assert found == [overridden(override())] * 2
    events = await chain(ledgers[1])
    assert [(event.kind.value, event.subject) for event in events] == [
        *[("adopted_decision", "dec_1"), ("adopted_override", "dec_1"), ("adopted_decision", "dec_2")],
        ("adopted_decision", "dec_3"),
    ]
    assert await waiting(ledgers[0]) == ["dec_2"]
    await ledgers[0].append(decision("dec_2"), HOUSE)
    await ledgers[0].override(override("dec_2"), HOUSE)
    assert verify(await chain(ledgers[1])) is None and len(await chain(ledgers[1])) == 5
    for ledger in ledgers:
        await ledger.aclose()


NEW = {"approvals", "supersedes", "redacted", "code", "successor"}
"""What no release before the third wrote."""


async def an_old_ledger(path: Path) -> None:
    """As the first release wrote it."""
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript("""
            CREATE TABLE IF NOT EXISTS decisions (
                id TEXT PRIMARY KEY, at TEXT NOT NULL, domain TEXT NOT NULL, ruling TEXT NOT NULL, decision TEXT NOT NULL
            ) STRICT;
            CREATE TABLE IF NOT EXISTS overrides (
                decision_id TEXT PRIMARY KEY REFERENCES decisions (id), override TEXT NOT NULL
            ) STRICT;
            CREATE TABLE IF NOT EXISTS pulse (id INTEGER PRIMARY KEY CHECK (id = 1), beats INTEGER NOT NULL) STRICT;
            INSERT OR IGNORE INTO pulse VALUES (1, 7);
        """)
        for kept in (decision(), decision("dec_2"), decision("dec_3", override=None)):
            row = (kept.decision_id, kept.at.isoformat(), kept.domain, kept.ruling, kept.model_dump_json(exclude=NEW))
            db.execute("INSERT INTO decisions VALUES (?, ?, ?, ?, ?)", row)
        db.execute("INSERT INTO overrides VALUES (?, ?)", ("dec_1", override().model_dump_json(exclude=NEW)))
    db.close()


async def a_ledger_of_the_second_release(path: Path) -> list[Event]:
    """As it wrote it: a row a decision, a row an override, and events that do not say again what these say."""
    made = [decision("dec_1"), decision("dec_2"), decision("dec_3"), decision("dec_4")]
    expired = Override(
        decision_id="dec_2", ruling=OverrideRuling.denied, reason="expired", supervisor=NOBODY, at=NOON
    ).model_dump_json(exclude=NEW)
    approved = override("dec_1").model_dump_json(exclude=NEW)
    drafts = [Draft(NOON, "house", Kind.decision, each.decision_id, each.model_dump_json(exclude=NEW)) for each in made]
    drafts[3] = replace(drafts[3], tenant="north")
    drafts += [
        Draft(NOON, "house", Kind.override, "dec_1", approved),
        Draft(NOON, "house", Kind.override, "dec_2", expired),
    ]
    drafts += [Draft(NOON, "house", Kind.outcome, "dec_1", outcome().model_dump_json())]
    drafts += [Draft(NOON, "house", Kind.policy, "kettle", "{}")]
    events = list(extend(Head(), drafts, SEALER))
    with sqlite3.connect(path) as db:
        for statement in (*FIRST, *SECOND, "PRAGMA user_version = 2"):
            db.execute(statement)
        for each, draft in zip(made, drafts, strict=False):
            row = (each.decision_id, each.at.isoformat(), each.domain, each.ruling, draft.body)
            db.execute("INSERT INTO decisions VALUES (?, ?, ?, ?, ?)", row)
        db.executemany("INSERT INTO overrides VALUES (?, ?)", [("dec_1", approved), ("dec_2", expired)])
        for id in ("dec_3", "dec_4"):
            db.execute("INSERT INTO waiting VALUES (?, ?)", (due(decision(id)), id))
        for event in events:
            body = None if event.kind in (Kind.decision, Kind.override) else event.body
            told = event.model_dump(mode="json")
            row = (event.seq, told["at"], event.tenant, event.kind, event.subject, body, event.previous, event.hash)
            db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    db.close()
    return events


async def test_a_ledger_of_the_second_release_is_brought_up_to_this_one_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    before = await a_ledger_of_the_second_release(path)
    ledgers = [SqliteLedger(path, PATIENCE_S, SEALER, VAULT), SqliteLedger(path, PATIENCE_S, SEALER, VAULT)]
    found = await asyncio.gather(*[ledger.find("dec_1", HOUSE) for ledger in ledgers])
    assert found == [overridden(override())] * 2
    assert await chain(ledgers[0]) == before and verify(before, trusted=SEALED) is None
    second = await ledgers[1].find("dec_2", HOUSE)
    assert second and second.overridden and second.overridden.ruling is OverrideRuling.denied
    assert (second.overridden.reason, second.overridden.supervisor) == ("expired", NOBODY)
    assert await ledgers[0].reports("dec_1", HOUSE) == (outcome(),)
    assert (await waiting(ledgers[0]), await waiting(ledgers[0], tenant="north")) == (["dec_3"], ["dec_4"])
    await ledgers[0].append(decision("dec_3"), HOUSE)
    await ledgers[0].note(Kind.policy, "kettle", {}, NOON, HOUSE)
    assert await chain(ledgers[1]) == before, "what was told then may be told again"
    await ledgers[1].override(override("dec_1", OverrideRuling.denied, by="john"), HOUSE)
    await ledgers[1].append(decision("dec_5"), HOUSE)
    assert len(await ledgers[0].expire(NOON + timedelta(hours=2))) == 3
    assert verify(await chain(ledgers[1]), trusted=SEALED) is None
    for ledger in ledgers:
        await ledger.aclose()


def on_disk(folder: Path) -> bool:
    return any(SALT in each.read_bytes() for each in folder.iterdir())


async def test_an_erased_salt_is_gone_from_the_file_and_its_log(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger, other = SqliteLedger(path, PATIENCE_S, vault=VAULT), SqliteLedger(path, PATIENCE_S, vault=VAULT)
    await ledger.append(decision(explanation=Explanation(summary="long " * 3000)), HOUSE)
    assert on_disk(tmp_path)
    assert await other.find("dec_1", HOUSE)
    await ledger.erase("dec_1", HOUSE, NOON, "ada")
    assert not on_disk(tmp_path)
    for each in (ledger, other):
        kept = await each.find("dec_1", HOUSE)
        assert kept and kept.explanation.summary == "Erased on request."
        await each.aclose()
    assert not on_disk(tmp_path)


async def test_an_erasure_that_a_reader_keeps_from_the_file_says_so_and_may_be_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = SqliteLedger(path, 0.3, vault=VAULT)
    await ledger.append(decision(), HOUSE)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM decisions").fetchall()
    with pytest.raises(LedgerUnavailable):
        await ledger.erase("dec_1", HOUSE, NOON, "ada")
    reader.execute("ROLLBACK")
    reader.close()
    for _ in range(20):
        with suppress(LedgerUnavailable):
            await ledger.erase("dec_1", HOUSE, NOON, "ada")
            break
    assert not on_disk(tmp_path)
    assert [event.kind for event in await chain(ledger)] == [Kind.decision, Kind.erasure]
    await ledger.aclose()


async def test_the_last_note_of_each_is_found_without_a_walk_through_the_chain(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", PATIENCE_S)
    plan = await ledger._do(lambda db: db.execute(f"EXPLAIN QUERY PLAN {EVENTS} {NOTED}", (Kind.switch,)).fetchall())
    assert any("events_noted" in row[3] for row in plan)
    assert not any(row[3] == "SCAN events" for row in plan), plan
    await ledger.aclose()


async def test_a_ledger_of_a_later_release_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 4")
    db.close()
    await refuses(SqliteLedger(path))


async def test_writes_that_wait_are_committed_together_and_one_refused_spoils_no_other(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", PATIENCE_S)
    await ledger.append(decision(), HOUSE)
    commits: list[str] = []
    await ledger._do(lambda db: db.set_trace_callback(commits.append))
    busy = asyncio.create_task(ledger._do(lambda _: sleep(0.3)))
    await asyncio.sleep(0.05)
    tried = [ledger.append(decision(f"dec_{n}"), HOUSE) for n in range(40)]
    answers = await asyncio.gather(*tried, ledger.override(override("dec_99"), HOUSE), return_exceptions=True)
    assert [type(answer) for answer in answers] == [*[type(None)] * 40, UnknownDecision]
    await busy
    assert commits.count("COMMIT") == 1
    assert verify(await chain(ledger)) is None and len(await chain(ledger)) == 40
    await ledger.aclose()


async def test_a_process_killed_while_it_writes_has_kept_all_that_it_said_it_had(tmp_path: Path) -> None:
    script = """
async def one(ledger, n):
    await ledger.append(decision(f"dec_{n}"), HOUSE)
    print(f"dec_{n}", flush=True)
    if n == 150:
        os.kill(os.getpid(), signal.SIGKILL)
async def main():
    ledger = SqliteLedger(Path(sys.argv[1]), 30.0)
    for start in range(0, 400, 20):
        await asyncio.gather(*[one(ledger, n) for n in range(start, start + 20)])
asyncio.run(main())
"""
    died = run_beside(script, str(tmp_path / "ledger.sqlite"))
    assert died.returncode == -signal.SIGKILL, died.stderr
    said = died.stdout.split()
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", PATIENCE_S)
    assert len(said) > 140 and None not in [await ledger.find(id, HOUSE) for id in said]
    assert verify(await chain(ledger)) is None
    await ledger.aclose()
