"""One suite over every ledger, and what only a file can suffer."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from service.decisions.ledger import Ledger
from service.decisions.sqlite import SqliteLedger
from service.errors import LedgerUnavailable, OverrideRefused, UnknownDecision
from service.vocabulary.decision import Asked, Decision, Mode, ModelStory, Override, OverrideRuling, OverrideTerms
from service.vocabulary.proposal import Action, Asker
from service.vocabulary.verdict import Basis, Explanation, Reason, Ruling

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROOT = Path(__file__).parents[2]

LEDGERS: dict[str, Callable[[Path], Ledger]] = {
    "sqlite": lambda folder: SqliteLedger(folder / "kept" / "ledger.sqlite", patience_s=30.0)
}


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


Opens = Callable[[], Ledger]


@pytest.fixture(params=LEDGERS)
async def opens(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opens]:
    """Opens the same ledger, each time as another process would."""
    opened: list[Ledger] = []

    def another() -> Ledger:
        opened.append(LEDGERS[request.param](tmp_path))
        return opened[-1]

    yield another
    for ledger in opened:
        await ledger.aclose()


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
