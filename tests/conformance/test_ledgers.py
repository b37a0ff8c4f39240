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
from service.decisions.chain import Broken, Checkpoint, Event, Kind, Sealer, verify
from service.decisions.claim import KEPT, LEASE, Answered, Begun, Claim, InFlight
from service.decisions.entry import NOBODY
from service.decisions.ledger import Ledger
from service.decisions.outcome import OutcomeReport
from service.decisions.sqlite import SqliteLedger
from service.errors import KeyReused, LedgerUnavailable, OverrideRefused, UnknownDecision
from service.vocabulary.decision import Asked, Decision, Mode, ModelStory, Override, OverrideRuling, OverrideTerms
from service.vocabulary.proposal import Action, Asker
from service.vocabulary.verdict import Basis, Explanation, Reason, Ruling
from tests.redis_server import RedisServer

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROOT = Path(__file__).parents[2]

SEALER = Sealer(Ed25519PrivateKey.from_private_bytes(b"k" * 32), every=4)
SEALED = (SEALER.public,)
LEDGERS = ("sqlite", "redis")
PATIENCE_S = 30.0


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


def outcome(id: str = "dec_1", outcome: str = "scald") -> OutcomeReport:
    return OutcomeReport(decision_id=id, outcome=outcome, at=NOON, reporter="the ward")


class Opens(Protocol):
    def __call__(self, sealer: Sealer | None = None) -> Ledger: ...


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

    def another(sealer: Sealer | None = None) -> Ledger:
        opened.append(_redis(server, sealer) if server else _sqlite(tmp_path, sealer))
        return opened[-1]

    yield another
    for ledger in opened:
        await ledger.aclose()


def _sqlite(folder: Path, sealer: Sealer | None) -> Ledger:
    return SqliteLedger(folder / "kept" / "ledger.sqlite", PATIENCE_S, sealer)


def _redis(server: RedisServer, sealer: Sealer | None) -> Ledger:
    from service.decisions.redis import RedisLedger

    return RedisLedger(server.url(), PATIENCE_S, sealer)


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
    await ledger.append(kept)
    assert await ledger.find(kept.decision_id) == kept


async def test_what_was_never_appended_is_not_found(ledger: Ledger) -> None:
    await ledger.append(decision())
    assert await ledger.find("dec_2") is None
    assert await ledger.find("' OR 1=1 --") is None


async def test_a_decision_and_its_override_survive_reopening(opens: Opens) -> None:
    first = opens()
    await first.append(decision())
    overridden = await first.override(override())
    await first.aclose()
    assert await opens().find("dec_1") == overridden == decision(overridden=override())


async def test_an_override_is_kept_once_and_the_first_one_stays(ledger: Ledger) -> None:
    await ledger.append(decision())
    await ledger.override(override(by="maria"))
    for again in (override(by="maria"), override(ruling=OverrideRuling.denied, by="john")):
        with pytest.raises(OverrideRefused):
            await ledger.override(again)
    kept = await ledger.find("dec_1")
    assert kept is not None and kept.overridden == override(by="maria")


async def test_of_many_overrides_at_once_one_is_kept(opens: Opens) -> None:
    ledgers = [opens(), opens()]
    await ledgers[0].append(decision())
    tried = [ledgers[n % 2].override(override(by=f"supervisor {n}")) for n in range(12)]
    answers = await asyncio.gather(*tried, return_exceptions=True)
    won = [answer for answer in answers if isinstance(answer, Decision)]
    assert len(won) == 1 and sum(isinstance(answer, OverrideRefused) for answer in answers) == 11
    assert await ledgers[1].find("dec_1") == won[0]


async def test_nothing_unknown_can_be_overridden_nor_left_behind_by_trying(ledger: Ledger) -> None:
    with pytest.raises(UnknownDecision):
        await ledger.override(override("dec_9"))
    await ledger.append(decision("dec_9"))
    assert (await ledger.find("dec_9")) == decision("dec_9")


async def test_another_decision_under_the_same_id_is_refused_and_never_replaces_the_first(ledger: Ledger) -> None:
    await ledger.append(decision())
    with pytest.raises(LedgerUnavailable, match="another decision is kept as dec_1"):
        await ledger.append(decision(ruling=Ruling.approve, override=None))
    assert await ledger.find("dec_1") == decision()


async def test_the_same_decision_again_changes_nothing_so_that_a_lost_answer_may_be_retried(ledger: Ledger) -> None:
    await ledger.append(decision())
    await ledger.override(override())
    await ledger.append(decision())
    assert await ledger.find("dec_1") == decision(overridden=override())


async def test_many_appends_at_once_from_two_openings_are_all_kept(opens: Opens) -> None:
    ledgers = [opens(), opens()]
    await asyncio.gather(*[ledgers[n % 2].append(decision(f"dec_{n}")) for n in range(60)])
    found = await asyncio.gather(*[ledgers[(n + 1) % 2].find(f"dec_{n}") for n in range(60)])
    assert found == [decision(f"dec_{n}") for n in range(60)]


async def test_an_append_whose_caller_leaves_is_finished_all_the_same(ledger: Ledger) -> None:
    assert await ledger.healthy()
    task = asyncio.create_task(ledger.append(decision()))
    await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert await ledger.find("dec_1") == decision()


async def test_a_closed_ledger_says_so_and_may_be_closed_again(ledger: Ledger) -> None:
    await ledger.append(decision())
    await ledger.aclose()
    await ledger.aclose()
    assert not await ledger.healthy()
    for asked in (ledger.append(decision("dec_2")), ledger.find("dec_1"), ledger.override(override())):
        with pytest.raises(LedgerUnavailable):
            await asked


async def test_a_fresh_ledger_is_healthy_and_asking_leaves_no_decision_behind(ledger: Ledger) -> None:
    assert await ledger.healthy() and await ledger.healthy()
    assert await ledger.find("1") is None


# The audit chain.


async def chain(ledger: Ledger) -> list[Event]:
    """All of it, in small pages."""
    events: list[Event] = []
    while page := await ledger.events(len(events), 3):
        events += page
    return events


async def test_everything_that_happens_is_one_event_and_the_chain_is_whole(opens: Opens) -> None:
    ledger = opens()
    await ledger.append(decision())
    await ledger.override(override())
    await ledger.report(outcome())
    await ledger.note(Kind.policy, "kettle", {"threshold": 0.3}, NOON)
    await ledger.append(decision("dec_2"))
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
    await ledger.append(decision())
    await ledger.override(override())
    await ledger.report(outcome())
    before = await chain(ledger)
    await ledger.append(decision())
    await ledger.report(outcome())
    refused = (
        ledger.append(decision(ruling=Ruling.approve)),
        *(ledger.override(override(by="john")), ledger.override(override("dec_9")), ledger.report(outcome("dec_9"))),
    )
    for asked in refused:
        with pytest.raises((LedgerUnavailable, OverrideRefused, UnknownDecision)):
            await asked
    assert await chain(ledger) == before


async def test_two_openings_that_write_at_once_make_one_chain(opens: Opens) -> None:
    ledgers = [opens(SEALER), opens(SEALER)]
    await asyncio.gather(*[ledgers[n % 2].append(decision(f"dec_{n}")) for n in range(30)])
    events = await chain(ledgers[0])
    assert verify(events, trusted=SEALED) is None
    assert {event.subject for event in events if event.kind is Kind.decision} == {f"dec_{n}" for n in range(30)}


async def test_every_so_often_the_chain_is_signed(opens: Opens) -> None:
    ledger = opens(SEALER)
    for n in range(7):
        await ledger.append(decision(f"dec_{n}"))
    events = await chain(ledger)
    assert [event.seq for event in events if event.kind is Kind.checkpoint] == [5, 9]
    assert verify(events, trusted=SEALED) is None


async def test_an_export_verifies_without_the_ledger_and_counts_all_there_is(ledger: Ledger) -> None:
    for n in range(5):
        await ledger.append(decision(f"dec_{n}"))
    lines: list[bytes] = []
    sealed = await export(ledger, SEALER, NOON, lines.append)
    assert isinstance(sealed, Checkpoint) and sealed.seq == 5
    assert verify_export(lines, SEALED) == sealed
    assert verify_export([*lines[:2], *lines[3:]], SEALED) == Broken(3, "event 4 stands in its place")


async def test_what_follows_a_decision_belongs_to_its_tenant(ledger: Ledger) -> None:
    await ledger.append(decision(), "north")
    await ledger.append(decision("dec_2"), "south")
    await ledger.override(override("dec_2"))
    await ledger.report(outcome("dec_1"))
    await ledger.note(Kind.model, "engine", {"checkpoint": "mini"}, NOON)
    assert [event.tenant for event in await chain(ledger)] == ["north", "south", "south", "north", "house"]


async def test_a_note_is_kept_when_it_says_something_new(opens: Opens) -> None:
    ledger = opens()
    for threshold in (0.3, 0.3, 0.2, 0.3):
        await ledger.note(Kind.policy, "kettle", {"threshold": threshold}, NOON)
    await opens().note(Kind.policy, "kettle", {"threshold": 0.3}, NOON + timedelta(days=1))
    await ledger.note(Kind.key, "kettle", {"threshold": 0.3}, NOON)
    await ledger.note(Kind.policy, "triage", {"threshold": 0.3}, NOON)
    assert [(event.kind.value, event.body) for event in await chain(ledger)] == [
        *[("policy", f'{{"threshold":{threshold}}}') for threshold in (0.3, 0.2, 0.3)],
        *[("key", '{"threshold":0.3}'), ("policy", '{"threshold":0.3}')],
    ]


async def test_what_really_happened_is_kept_with_its_corrections(opens: Opens) -> None:
    ledger = opens()
    await ledger.append(decision("dec_1"))
    await ledger.append(decision("dec_11"))
    await ledger.report(outcome())
    await ledger.report(outcome(outcome="none"))
    await ledger.report(outcome("dec_11"))
    assert await opens().reports("dec_1") == (outcome(), outcome(outcome="none"))
    assert await ledger.reports("dec_2") == ()


# Escalations that wait.


def ends(id: str, minutes: int) -> Decision:
    return decision(id, override=OverrideTerms(approvals_required=1, expires_at=NOON + timedelta(minutes=minutes)))


async def waiting(ledger: Ledger, limit: int = 50, after: str = "") -> list[str]:
    return [each.decision_id for each in await ledger.pending(limit, after)]


async def test_the_escalations_that_wait_are_listed_the_soonest_to_end_first(opens: Opens) -> None:
    ledger = opens()
    for kept in (ends("c", 30), ends("b", 10), ends("a", 30), ends("d", 20), decision("approved", override=None)):
        await ledger.append(kept)
    assert await waiting(ledger) == ["b", "d", "a", "c"]
    assert [await waiting(ledger, 2), await waiting(ledger, 2, "d"), await waiting(ledger, 2, "c")] == [
        *(["b", "d"], ["a", "c"], []),
    ]
    await ledger.override(override("d"))
    assert await waiting(opens()) == ["b", "a", "c"]
    assert await waiting(ledger, 2, "d") == ["a", "c"], "a page may end with one that was ruled on since"
    with pytest.raises(UnknownDecision):
        await ledger.pending(2, "e")


async def test_an_escalation_that_nobody_ruled_on_in_time_is_denied_by_nobody(opens: Opens) -> None:
    ledger = opens()
    for kept in (ends("a", 10), ends("b", 11), ends("c", 30), decision("approved", override=None)):
        await ledger.append(kept)
    late = NOON + timedelta(minutes=11)
    denied = await ledger.expire(late)
    assert [each.decision_id for each in denied] == ["a"], "at its last moment b may still be ruled on"
    assert denied[0].overridden == Override(
        decision_id="a", ruling=OverrideRuling.denied, reason="expired", supervisor=NOBODY, at=late
    )
    assert await opens().find("a") == denied[0]
    assert await ledger.expire(late) == () and await waiting(ledger) == ["b", "c"]
    with pytest.raises(OverrideRefused):
        await ledger.override(override("a"))
    assert [each.decision_id for each in await ledger.expire(NOON + timedelta(hours=1))] == ["b", "c"]
    assert verify(await chain(ledger)) is None


async def test_a_supervisor_and_the_clock_at_once_leave_one_ruling(opens: Opens) -> None:
    ledgers = [opens(), opens()]
    for n in range(6):
        await ledgers[0].append(decision(f"dec_{n}"))
    late = NOON + timedelta(hours=2)
    answers = await asyncio.gather(
        ledgers[0].expire(late),
        *[ledgers[1].override(override(f"dec_{n}")) for n in range(6)],
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
        await here.append(decision(f"dec_{n}"))
        task = asyncio.create_task(here.wait(f"dec_{n}", 20.0))
        await asyncio.sleep(0.1)
        assert not task.done()
        made = await elsewhere.override(override(f"dec_{n}"))
        began = monotonic()
        assert await task == made
        took.append(monotonic() - began)
    assert median(took) < 0.1


async def test_many_may_wait_and_each_is_woken_by_its_own_ruling(opens: Opens) -> None:
    ledger = opens()
    for n in range(3):
        await ledger.append(decision(f"dec_{n}"))
    waits = [asyncio.create_task(ledger.wait(f"dec_{n % 3}", 20.0)) for n in range(30)]
    await asyncio.sleep(0.1)
    waits[0].cancel()
    await ledger.override(override("dec_0"))
    woken, _ = await asyncio.wait(waits, timeout=0.5)
    assert woken == set(waits[::3])
    await ledger.expire(NOON + timedelta(hours=2))
    assert all(each.overridden and each.overridden.supervisor == NOBODY for each in await asyncio.gather(*waits[1::3]))


async def test_there_is_no_wait_for_what_is_settled_and_an_end_to_every_wait(ledger: Ledger) -> None:
    await ledger.append(decision())
    await ledger.append(decision("approved", override=None))
    async with asyncio.timeout(5.0):
        assert await ledger.wait("approved", 60.0) == decision("approved", override=None)
        assert await ledger.wait("dec_1", 0.1) == decision()
        await ledger.override(override())
        assert (await ledger.wait("dec_1", 60.0)).overridden == override()
        with pytest.raises(UnknownDecision):
            await ledger.wait("dec_2", 60.0)


async def test_closing_leaves_nobody_waiting(ledger: Ledger) -> None:
    await ledger.append(decision())
    task = asyncio.create_task(ledger.wait("dec_1", 60.0))
    await asyncio.sleep(0.1)
    await ledger.aclose()
    async with asyncio.timeout(5.0):
        with pytest.raises(LedgerUnavailable):
            await task


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
        await ledger.append(decision("dec_new"))
    await ledger.aclose()


async def test_a_commit_waits_for_the_disk(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    await ledger.append(decision())
    pragmas = {
        name: await ledger._do(lambda db, name=name: db.execute(f"PRAGMA {name}").fetchone()[0])  # type: ignore[misc]
        for name in ("synchronous", "journal_mode", "foreign_keys")
    }
    await ledger.aclose()
    assert pragmas == {"synchronous": 2, "journal_mode": "wal", "foreign_keys": 1}


def run_beside(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    told = f"import asyncio, os, sys\nfrom tests.conformance.test_ledgers import *\n{script}"
    return subprocess.run(
        [sys.executable, "-c", told, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


async def test_a_process_killed_right_after_an_append_has_kept_it(tmp_path: Path) -> None:
    script = """
async def main():
    ledger = SqliteLedger(Path(sys.argv[1]))
    await ledger.append(decision())
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    died = run_beside(script, str(tmp_path / "ledger.sqlite"))
    assert died.returncode == -signal.SIGKILL, died.stderr
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    assert await ledger.find("dec_1") == decision()
    await ledger.aclose()


async def test_a_full_disk_refuses_loses_nothing_and_is_over_when_there_is_room(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the full disk: the kernel refuses the same writes."""
    script = """
import resource
async def main():
    path = Path(sys.argv[1])
    ledger = SqliteLedger(path)
    await ledger.append(decision("before"))
    full = path.with_name(path.name + "-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
    try:
        await ledger.append(decision("during"))
        print("taken", end=" ")
    except LedgerUnavailable:
        print("refused", end=" ")
    print(await ledger.healthy(), end=" ")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(await ledger.healthy(), end=" ")
    await ledger.append(decision("after"))
    print([name for name in ("before", "during", "after") if await ledger.find(name)])
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
    await ledger.append(decision())
    await ledger.aclose()
    with path.open("r+b") as file:
        file.seek(18)
        file.write(b"\x03")
    await refuses(SqliteLedger(path))


async def test_a_locked_ledger_gives_up_within_its_patience_reads_on_and_recovers(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    patient, hasty = SqliteLedger(path, patience_s=10.0), SqliteLedger(path, patience_s=0.2)
    await patient.append(decision())
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    async with asyncio.timeout(5.0):
        with pytest.raises(LedgerUnavailable):
            await hasty.append(decision("dec_2"))
        assert not await hasty.healthy()
    assert await patient.find("dec_1") == decision(), "WAL: a writer keeps no reader waiting"
    holder.execute("ROLLBACK")
    holder.close()
    assert any([await hasty.healthy() for _ in range(20)])
    await patient.append(decision("dec_3"))
    await patient.aclose()
    await hasty.aclose()


async def test_a_row_that_cannot_be_read_is_an_unavailable_ledger_and_not_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = SqliteLedger(path)
    await ledger.append(decision())
    with sqlite3.connect(path) as vandal:
        vandal.execute("UPDATE decisions SET decision = '{\"decision_id\": 1}'")
    vandal.close()
    with pytest.raises(LedgerUnavailable):
        await ledger.find("dec_1")
    await ledger.aclose()


async def test_what_was_kept_before_there_was_a_chain_is_adopted_into_it_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    await an_old_ledger(path)
    ledgers = [SqliteLedger(path, PATIENCE_S), SqliteLedger(path, PATIENCE_S)]
    found = await asyncio.gather(*[ledger.find("dec_1") for ledger in ledgers])
    assert found == [decision(overridden=override())] * 2
    events = await chain(ledgers[1])
    assert [(event.kind.value, event.subject) for event in events] == [
        *[("adopted_decision", "dec_1"), ("adopted_override", "dec_1"), ("adopted_decision", "dec_2")],
        ("adopted_decision", "dec_3"),
    ]
    assert await waiting(ledgers[0]) == ["dec_2"]
    await ledgers[0].append(decision("dec_2"))
    await ledgers[0].override(override("dec_2"))
    assert verify(await chain(ledgers[1])) is None and len(await chain(ledgers[1])) == 5
    for ledger in ledgers:
        await ledger.aclose()


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
            row = (kept.decision_id, kept.at.isoformat(), kept.domain, kept.ruling, kept.model_dump_json())
            db.execute("INSERT INTO decisions VALUES (?, ?, ?, ?, ?)", row)
        db.execute("INSERT INTO overrides VALUES (?, ?)", ("dec_1", override().model_dump_json()))
    db.close()


async def test_a_ledger_of_a_later_release_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 3")
    db.close()
    await refuses(SqliteLedger(path))


async def test_writes_that_wait_are_committed_together_and_one_refused_spoils_no_other(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", PATIENCE_S)
    await ledger.append(decision())
    commits: list[str] = []
    await ledger._do(lambda db: db.set_trace_callback(commits.append))
    busy = asyncio.create_task(ledger._do(lambda _: sleep(0.3)))
    await asyncio.sleep(0.05)
    tried = [ledger.append(decision(f"dec_{n}")) for n in range(40)]
    answers = await asyncio.gather(*tried, ledger.override(override("dec_99")), return_exceptions=True)
    assert [type(answer) for answer in answers] == [*[type(None)] * 40, UnknownDecision]
    await busy
    assert commits.count("COMMIT") == 1
    assert verify(await chain(ledger)) is None and len(await chain(ledger)) == 40
    await ledger.aclose()


async def test_a_process_killed_while_it_writes_has_kept_all_that_it_said_it_had(tmp_path: Path) -> None:
    script = """
async def one(ledger, n):
    await ledger.append(decision(f"dec_{n}"))
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
    assert len(said) > 140 and None not in [await ledger.find(id) for id in said]
    assert verify(await chain(ledger)) is None
    await ledger.aclose()
