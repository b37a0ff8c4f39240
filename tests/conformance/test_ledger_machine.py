"""Any order of anything that a ledger may be asked, from two processes: it answers as a dictionary and a list would."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from service.decisions.chain import Kind, verify
from service.decisions.claim import KEPT, LEASE, Answered, Begun, Claim, InFlight
from service.decisions.ledger import Ledger
from service.decisions.outcome import OutcomeReport
from service.decisions.sqlite import SqliteLedger
from service.decisions.vault import Vault
from service.errors import KeyReused, LedgerUnavailable, OverrideRefused, UnknownDecision
from service.vocabulary.decision import Asked, Decision, Mode, Override, OverrideRuling, OverrideTerms
from service.vocabulary.proposal import Action, Asker, Bound
from service.vocabulary.verdict import Explanation, Ruling
from tests.conformance.test_ledgers import LEDGERS, NOON, PATIENCE_S, SEALED, SEALER, chain, decision, redis_server

__all__ = ["redis_server"]

T = TypeVar("T")
Opens = Callable[[], Ledger]

TENANTS = st.sampled_from(["north", "south"])
IDS = st.sampled_from(["dec_1", "dec_2", "dec_3", "dec_4"])
PEOPLE = st.sampled_from(["maria", "john", "robot"])
BOUND = Bound(agent="robot", act="act", state="state")
REFUSALS = (UnknownDecision, OverrideRefused, LedgerUnavailable, KeyReused)
MAY_FOLLOW = {
    "escalate": {"approved", "denied", "expired", "superseded", "void"},
    "approve": {"denied", "void"},
    "approved": {"denied", "void"},
}


@dataclass
class Modelled:
    """A decision, and what became of it."""

    tenant: str
    decision: Decision
    rulings: list[Override] = field(default_factory=list)
    reports: list[OutcomeReport] = field(default_factory=list)
    erased: bool = False

    @property
    def approvals(self) -> list[Override]:
        return [each for each in self.rulings if each.ruling == "approved"]

    @property
    def settled(self) -> bool:
        enough = self.decision.override and len(self.approvals) >= self.decision.override.approvals_required
        return bool(self.rulings) and bool(enough or self.rulings[-1].ruling != "approved")

    @property
    def standing(self) -> str:
        return str(self.rulings[-1].ruling if self.settled else self.decision.ruling)

    @property
    def due(self) -> tuple[datetime, str] | None:
        """Its place in the queue, if it waits."""
        terms = self.decision.override
        return (terms.expires_at, self.decision.decision_id) if terms and not self.settled else None

    def admits(self, new: Override) -> bool:
        if self.decision.mode == "shadow" or new.ruling not in MAY_FOLLOW.get(self.standing, ()):
            return False
        terms, people = self.decision.override, {each.supervisor for each in self.approvals} | {"robot"}
        return new.ruling != "approved" or (new.supervisor not in people and bool(terms and new.at <= terms.expires_at))

    def seen(self) -> Decision:
        made, rulings = self.decision, self.rulings
        if self.erased:
            rulings = [each.model_copy(update={"reason": "erased"}) for each in rulings]
            asked = Asked(state={}, action=Action(kind="erased"), asker=Asker(agent_id="erased"), bound=BOUND)
            made = made.model_copy(update={"proposal": asked, "explanation": Explanation("Erased on request.")})
        approvals = tuple(each for each in rulings if each.ruling == "approved")
        return made.model_copy(
            update={"approvals": approvals, "overridden": rulings[-1] if self.settled else None},
        )

    def seen_reports(self) -> tuple[OutcomeReport, ...]:
        faded = {"note": "erased"} if self.erased else {}
        return tuple(each.model_copy(update=faded) for each in self.reports)


@dataclass
class Claimed:
    body: str
    began: datetime
    begun: Begun
    answer: Answered | None = None


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self, opens: Opens) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.ledgers = [opens(), opens()]
        self.turn = 0
        self.now = NOON
        self.kept: dict[str, Modelled] = {}
        self.told: list[tuple[str, str, str]] = []
        self.noted: dict[tuple[str, str], str] = {}
        self.claims: dict[str, Claimed] = {}
        self.begun: list[Begun] = []

    def teardown(self) -> None:
        for ledger in self.ledgers:
            self.runner.run(ledger.aclose())
        self.runner.close()

    @property
    def ledger(self) -> Ledger:
        """One process, then the other."""
        self.turn += 1
        return self.ledgers[self.turn % 2]

    def does(self, work: Coroutine[Any, Any, T], refused: type[Exception] | None = None) -> T | None:
        try:
            answer = self.runner.run(work)
        except REFUSALS as refusal:
            if type(refusal) is not refused:
                raise
            return None
        assert refused is None, f"{answer} where {refused} was owed"
        return answer

    def own(self, id: str, tenant: str) -> Modelled | None:
        kept = self.kept.get(id)
        return kept if kept and kept.tenant == tenant else None

    def refusal(self, new: Override, tenant: str) -> type[Exception] | None:
        kept = self.own(new.decision_id, tenant)
        if kept is None:
            return UnknownDecision
        return None if kept.admits(new) else OverrideRefused

    @rule(
        id=IDS,
        tenant=TENANTS,
        required=st.integers(1, 2),
        minutes=st.integers(1, 3),
        escalates=st.sampled_from([True, True, True, False]),
        mode=st.sampled_from([Mode.normal, Mode.normal, Mode.shadow]),
        replaced=st.none() | IDS,
    )
    def append(
        self, id: str, tenant: str, required: int, minutes: int, escalates: bool, mode: Mode, replaced: str | None
    ) -> None:
        terms = OverrideTerms(approvals_required=required, expires_at=self.now + timedelta(minutes=10 * minutes))
        made = decision(
            id,
            at=self.now,
            ruling=Ruling.escalate if escalates else Ruling.approve,
            mode=mode,
            override=terms if escalates and mode is not Mode.shadow else None,
            supersedes=replaced,
            proposal=Asked(state={"note": "hot"}, action=Action(kind="pour"), asker=Asker(), bound=BOUND),
        )
        supersede = replaced and self.ruling_on(replaced, OverrideRuling.superseded, "maria", id)
        there = self.kept.get(id)
        refused: type[Exception] | None = None
        if there:
            again = replace(there, decision=made, rulings=[]).seen() == replace(there, rulings=[]).seen()
            refused = None if again and there.tenant == tenant else LedgerUnavailable
        elif supersede:
            refused = self.refusal(supersede, tenant)
        self.does(self.ledger.append(made, tenant, supersede or None), refused)
        if refused is None and not there:
            self.kept[id] = Modelled(tenant, made)
            self.told.append(("decision", tenant, id))
            if supersede:
                self.took_place(supersede)

    @rule(id=IDS)
    def append_again(self, id: str) -> None:
        if kept := self.kept.get(id):
            self.does(self.ledger.append(kept.decision, kept.tenant))
            self.does(self.ledger.append(kept.decision, "another"), LedgerUnavailable)

    def ruling_on(self, id: str, ruling: OverrideRuling, by: str, successor: str | None = None) -> Override:
        return Override(decision_id=id, ruling=ruling, reason="seen", supervisor=by, at=self.now, successor=successor)

    def took_place(self, new: Override) -> None:
        kept = self.kept[new.decision_id]
        kept.rulings.append(new)
        self.told.append(("override", kept.tenant, new.decision_id))

    @rule(id=IDS, tenant=TENANTS, ruling=st.sampled_from(["approved", "approved", "denied", "void"]), by=PEOPLE)
    def override(self, id: str, tenant: str, ruling: str, by: str) -> None:
        new = self.ruling_on(id, OverrideRuling(ruling), by)
        refused = self.refusal(new, tenant)
        answer = self.does(self.ledger.override(new, tenant), refused)
        if refused is None:
            self.took_place(new)
            seen = self.kept[id].seen()
            assert answer and (self.kept[id].erased or answer == seen)

    @rule(seconds=st.sampled_from([1, 59, 600, 601, 1800]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def a_day_passes(self) -> None:
        self.now += KEPT
        self.begun.clear()

    @rule()
    def expire(self) -> None:
        late = sorted(due for each in self.kept.values() if (due := each.due) and due[0] < self.now)
        answer = self.does(self.ledger.expire(self.now))
        assert answer is not None and [each.decision_id for each in answer] == [id for _, id in late]
        for each in answer:
            assert each.overridden and each.overridden.ruling == "expired" and each.overridden.supervisor == ""
            self.took_place(each.overridden)

    @rule(id=IDS, tenant=TENANTS, outcome=st.sampled_from(["scald", "none"]), note=st.sampled_from(["", "hot"]))
    def report(self, id: str, tenant: str, outcome: str, note: str) -> None:
        report = OutcomeReport(decision_id=id, outcome=outcome, at=NOON, reporter="ward", note=note)
        kept = self.own(id, tenant)
        self.does(self.ledger.report(report, tenant), None if kept else UnknownDecision)
        if kept is None:
            return
        same = report.model_copy(update={"note": "erased"}) if kept.erased else report
        if same not in kept.seen_reports():
            kept.reports.append(report)
            self.told.append(("outcome", tenant, id))

    @rule(id=IDS, tenant=TENANTS)
    def erase(self, id: str, tenant: str) -> None:
        kept = self.own(id, tenant)
        self.does(self.ledger.erase(id, tenant, self.now, "ada"), None if kept else UnknownDecision)
        if kept and not kept.erased:
            kept.erased = True
            self.told.append(("erasure", tenant, id))

    @rule(tenant=TENANTS, subject=st.sampled_from(["a", "b"]), off=st.booleans())
    def note(self, tenant: str, subject: str, off: bool) -> None:
        self.does(self.ledger.note(Kind.switch, subject, {"off": off}, self.now, tenant))
        body = f'{{"off":{str(off).lower()}}}'
        if self.noted.get((tenant, subject)) != body:
            self.noted.pop((tenant, subject), None)
            self.noted[tenant, subject] = body
            self.told.append(("switch", tenant, subject))

    @rule(key=st.sampled_from(["k1", "k2"]), body=st.sampled_from(["x", "x", "y"]))
    def begin(self, key: str, body: str) -> None:
        claim, claimed = Claim("agent", "POST /", key, body), self.claims.get(key)
        if claimed and self.now - claimed.began >= KEPT:
            claimed = None
        refused = KeyReused if claimed and claimed.body != body else None
        standing = self.does(self.ledger.begin(claim, self.now), refused)
        if refused:
            return
        if claimed and claimed.answer:
            assert standing == claimed.answer
        elif claimed and self.now - claimed.began < LEASE:
            assert standing == InFlight(claimed.began)
        else:
            assert isinstance(standing, Begun) and standing not in self.begun
            self.claims[key] = Claimed(body, self.now, standing)
            self.begun.append(standing)

    @rule(pick=st.integers(0, 9), status=st.sampled_from([200, 201]), abandons=st.booleans())
    def finish(self, pick: int, status: int, abandons: bool) -> None:
        if not self.begun:
            return
        begun = self.begun[pick % len(self.begun)]
        claimed = self.claims.get(begun.claim.key)
        ours = claimed is not None and claimed.begun is begun and claimed.answer is None
        if abandons:
            self.does(self.ledger.abandon(begun))
            if ours:
                del self.claims[begun.claim.key]
                self.begun = [each for each in self.begun if each.claim.key != begun.claim.key]
            return
        self.does(self.ledger.finish(begun, status, b"\xff\x00"), None if ours else LedgerUnavailable)
        if ours and claimed:
            claimed.answer = Answered(status, b"\xff\x00")

    @invariant()
    def what_is_read_is_what_was_kept(self) -> None:
        self.runner.run(self._reads(self.ledger))

    async def _reads(self, ledger: Ledger) -> None:
        for id, kept in self.kept.items():
            assert await ledger.find(id, kept.tenant) == kept.seen()
            assert await ledger.reports(id, kept.tenant) == kept.seen_reports()
            other = "south" if kept.tenant == "north" else "north"
            assert await ledger.find(id, other) is None and await ledger.reports(id, other) == ()
            history = [(event.kind, event.tenant, event.subject) for event in await ledger.history(id, kept.tenant)]
            assert history == [told for told in self.told if told[2] == id]
        for tenant in ("north", "south"):
            dues = sorted(due for each in self.kept.values() if each.tenant == tenant and (due := each.due))
            assert await ledger.pending(tenant, 9) == tuple(self.kept[id].seen() for _, id in dues)
            if dues:
                after = await ledger.pending(tenant, 9, dues[0][1])
                assert [each.decision_id for each in after] == [id for _, id in dues[1:]]
        noted = {(event.tenant, event.subject): event.body for event in await ledger.noted(Kind.switch)}
        assert list(noted.items()) == list(self.noted.items())

    @invariant()
    def the_chain_is_whole_and_says_what_happened_and_nothing_else(self) -> None:
        events = self.runner.run(chain(self.ledger))
        assert verify(events, trusted=SEALED) is None
        told = [(event.kind, event.tenant, event.subject) for event in events if event.kind is not Kind.checkpoint]
        assert told == self.told
        assert not any('"hot"' in event.body or '"seen"' in event.body for event in events)


@pytest.mark.parametrize("kind", LEDGERS)
def test_a_ledger_does_what_a_dictionary_and_a_list_would(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    def machine() -> LedgerMachine:
        vault = Vault(b"m" * 32)
        if kind == "redis":
            from service.decisions.redis import RedisLedger

            server = request.getfixturevalue("redis_server")
            assert server.say("FLUSHALL") == "OK"
            return LedgerMachine(lambda: RedisLedger(server.url(), PATIENCE_S, SEALER, vault=vault))
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}" / "ledger.sqlite"
        return LedgerMachine(lambda: SqliteLedger(path, PATIENCE_S, SEALER, vault))

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=50,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
