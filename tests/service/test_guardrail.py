"""One proposal in, one recorded decision out, whatever is missing: the table of DESIGN §6, row by row."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from service.admission import Admission, Effort, Work
from service.anchors.bank import AnchorBank, AnchorBankUnavailable
from service.anchors.edge import EdgeAnchorBank
from service.anchors.encoder import Encoder
from service.anchors.history import anchors_of
from service.concurrency import GradientLimit
from service.deadline import Deadline
from service.decisions.sqlite import SqliteLedger
from service.decisions.switches import Switches
from service.domains import catalog
from service.errors import LedgerUnavailable, Overloaded, RequestTooLarge
from service.guardrail import NO_HISTORY, Chance, Guardrail, Options, Rooms
from service.metrics import Metrics
from service.split import Contender, Split
from service.vocabulary.decision import Decision, Mode, ModelStory
from service.vocabulary.proposal import HOUSE, Action, Proposal
from service.vocabulary.rollout import Trajectory
from service.vocabulary.verdict import Basis, Reason, Ruling
from service.world.cases import CasesWorldModel
from service.world.checkpoint import DomainStory
from service.world.model import BadForecast, PromptTooLong, Situation, WorldModelUnavailable
from service.world.scripted import Line, ScriptedWorldModel, Silence
from tests.lateness import lateness

HELPDESK = catalog()["helpdesk"]
RECORDED = 60
FINE = Line("progress", {"progress": 0.97, "continuing": 0.02, "service_outage": 0.01})
WELL = [FINE, FINE, Line("resolved", {"resolved": 0.97, "progress": 0.02, "service_outage": 0.01})]
NEAR = [Line("progress", {"progress": 0.955, "service_outage": 0.045})]
GRIM = [Line("service_outage", {"progress": 0.2, "service_outage": 0.8}, observation="sign-in is down for everyone")]
DOWN, HANGS = [WorldModelUnavailable("connection refused")], [Silence.hang]
SURE = {"helpdesk": DomainStory(concentration=60.0)}
STORY = ModelStory(engine="scripted", checkpoint="", codec="", policy="1", anchors="edge")


class MissingBank:
    """A bank that has gone away: it raises, or it hangs."""

    name = "missing"

    def __init__(self, hangs: bool) -> None:
        self.hangs = hangs

    async def add(self, anchors: Any) -> None: ...

    async def nearest(self, *_: Any, **__: Any) -> Any:
        if self.hangs:
            await asyncio.Event().wait()
        raise AnchorBankUnavailable("gone")

    async def count(self, domain: str) -> int:
        raise AnchorBankUnavailable("gone")

    async def healthy(self) -> bool:
        return False

    async def aclose(self) -> None: ...


@dataclass
class Heard:
    """A world model that remembers what it was asked."""

    world: ScriptedWorldModel
    situations: list[Situation]
    name: str = "heard"

    async def forecast(self, situation: Situation) -> Any:
        self.situations.append(situation)
        return await self.world.forecast(situation)

    async def healthy(self) -> bool:
        return True

    async def aclose(self) -> None: ...

    def seeds(self, action: Action) -> set[int]:
        return {s.seed for s in self.situations if s.opening.action == action and not s.opening.masked}


@pytest.fixture(scope="module")
def bank(
    tmp_path_factory: pytest.TempPathFactory, encoder: Encoder, histories: Mapping[str, list[Trajectory]]
) -> Iterator[AnchorBank]:
    made = EdgeAnchorBank(tmp_path_factory.mktemp("anchors"), encoder)
    recorded = histories["helpdesk"][:RECORDED]
    asyncio.run(made.add([anchor for trajectory in recorded for anchor in anchors_of(HELPDESK, trajectory)]))
    yield made
    asyncio.run(made.aclose())


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[SqliteLedger]:
    made = SqliteLedger(tmp_path / "ledger.sqlite")
    assert await made.healthy()
    yield made
    await made.aclose()


@pytest.fixture(scope="module")
def proposal(histories: Mapping[str, list[Trajectory]]) -> Proposal:
    """The first recorded step that must be simulated, breaks no rule, and has a safer alternative."""
    drawn = (trajectory.transitions[0] for trajectory in histories["helpdesk"][:RECORDED])
    told = (Proposal(domain="helpdesk", state=step.state, action=step.action) for step in drawn)
    return next(
        p for p in told if HELPDESK.high_impact(p.action) and not HELPDESK.hard_rules(p) and HELPDESK.alternatives(p)
    )


Make = Callable[..., Guardrail]


@pytest.fixture
def make(bank: AnchorBank, ledger: SqliteLedger) -> Make:
    numbers = itertools.count()

    def made(world: Any, **more: Any) -> Guardrail:
        if not hasattr(world, "forecast"):
            world = ScriptedWorldModel(world)
        used = more.pop("bank", bank)
        split = Split(Contender(world, STORY, more.pop("stories", SURE)))
        rooms = Rooms(split, CasesWorldModel(used), used, more.pop("ledger", ledger))
        chance = Chance(time.monotonic, lambda: datetime.now(UTC), lambda: f"dec_{next(numbers)}")
        switches = Switches(rooms.ledger, more.pop("disabled", frozenset()))
        told = {
            "admission": Admission(time.monotonic),
            "switches": switches,
            "metrics": Metrics(time.monotonic),
        } | more
        return Guardrail({"helpdesk": HELPDESK}, rooms, chance, **told)

    return made


async def timed(guardrail: Guardrail, proposal: Proposal, budget_ms: int, **more: Any) -> tuple[Decision, float]:
    """The decision, and by how many milliseconds it overran the budget beyond what the machine itself cost."""
    with lateness() as machine:
        began = time.monotonic()
        decision = await guardrail.evaluate(proposal, Options(budget_ms=budget_ms, **more))
        took = time.monotonic() - began
    return decision, 1000 * (took - max(machine)) - budget_ms


# everything is there


async def test_quiet_futures_of_a_known_situation_are_approved_and_kept(
    make: Make, proposal: Proposal, ledger: SqliteLedger
) -> None:
    decision = await make(WELL).evaluate(proposal)
    assert (decision.ruling, decision.reason, decision.basis) == (
        Ruling.approve, Reason.within_tolerance, Basis.simulated,
    )  # fmt: skip
    assert (decision.mode, decision.override) == (Mode.normal, None)
    assert await ledger.find(decision.decision_id, HOUSE) == decision


async def test_grim_futures_are_escalated_with_a_way_past(make: Make, proposal: Proposal) -> None:
    decision = await make(GRIM).evaluate(proposal)
    assert (decision.ruling, decision.reason) == (Ruling.escalate, Reason.risk_above_threshold)
    assert "5 of 5 simulated futures predict a service outage" in decision.explanation.summary
    assert decision.override is not None and decision.risk is not None
    assert decision.risk.adverse_probability == pytest.approx(1 - 0.2**5, abs=1e-4)
    assert decision.explanation.recommended_action is None, "no alternative is safer where everything goes wrong"


async def test_the_same_proposal_is_played_with_the_same_seeds_and_another_with_others(
    make: Make, proposal: Proposal
) -> None:
    worlds = [Heard(ScriptedWorldModel(WELL), []) for _ in range(3)]
    other = proposal.model_copy(update={"action": proposal.action.model_copy(update={"text": "something else"})})
    for world, asked in zip(worlds, (proposal, proposal, other), strict=True):
        await make(world).evaluate(asked)
    first, again, changed = (
        world.seeds(p.action) for world, p in zip(worlds, (proposal, proposal, other), strict=True)
    )
    assert first == again and len(first) == HELPDESK.policy.rollouts
    assert not first & changed
    chosen = Heard(ScriptedWorldModel(WELL), [])
    await make(chosen).evaluate(proposal, Options(seed=42))
    assert min(chosen.seeds(proposal.action)) == 42


async def test_the_callers_wishes_are_followed(make: Make, proposal: Proposal) -> None:
    decision = await make(NEAR).evaluate(proposal, Options(rollouts=7, horizon=2, include_rollouts=True))
    assert decision.futures is not None
    assert [len(future.steps) for future in decision.futures] == [2] * 7
    assert {future.ending for future in decision.futures} == {"horizon"}
    assert decision.futures[0].steps[0].adverse_probability == pytest.approx(0.045)
    assert (await make(NEAR).evaluate(proposal)).futures is None


async def test_near_the_threshold_more_futures_are_played_up_to_the_most_allowed(
    make: Make, proposal: Proposal
) -> None:
    world = Heard(ScriptedWorldModel(NEAR), [])
    vague = {"helpdesk": DomainStory(concentration=1.0)}
    decision = await make(world, stories=vague).evaluate(proposal, Options(recommend=False, budget_ms=5_000))
    assert decision.reason is Reason.interval_straddles_threshold
    assert decision.rollouts is not None and decision.rollouts.requested == HELPDESK.policy.max_rollouts
    assert len(world.seeds(proposal.action)) == HELPDESK.policy.max_rollouts
    enough = await make(NEAR).evaluate(proposal, Options(recommend=False, budget_ms=5_000))
    assert enough.ruling is Ruling.approve
    assert enough.rollouts is not None and enough.rollouts.requested < HELPDESK.policy.max_rollouts


async def test_the_models_own_error_is_told_beside_the_noise_of_the_futures(make: Make, proposal: Proposal) -> None:
    unsure = {"helpdesk": DomainStory(concentration=60.0, spread=((0.0, 0.0, 0.5), (1.0, 0.5, 1.0)))}
    told, untold = [(await make(NEAR, stories=s).evaluate(proposal)).risk for s in (unsure, SURE)]
    assert told is not None and untold is not None
    risk = told.adverse_probability
    assert told.model_interval == pytest.approx((risk / 2, 0.5 + risk / 2), abs=1e-3)
    assert told.interval == untold.interval and untold.model_interval is None


async def test_settling_saves_futures_and_keeps_the_ruling(make: Make, proposal: Proposal) -> None:
    slow = [replace(FINE, probabilities={"progress": 0.4, "service_outage": 0.6})]
    decisions = []
    for settle in (True, False):
        world = ScriptedWorldModel(GRIM, slow, slow, slow, slow)
        asked = Options(seed=0, settle=settle, recommend=False, budget_ms=3_000)
        decisions.append((await make(world).evaluate(proposal, asked), world.calls))
    (early, few), (late, many) = decisions
    assert early.ruling is late.ruling is Ruling.escalate
    assert early.rollouts is not None and early.rollouts.cut_short > 0 and few < many


async def test_a_safer_alternative_is_tried_with_the_same_seeds_and_recommended(make: Make, proposal: Proposal) -> None:
    alternatives = HELPDESK.alternatives(proposal)
    safe = {action.kind: [WELL] for action in alternatives if action.kind != proposal.action.kind}
    world = Heard(ScriptedWorldModel(GRIM, by_kind=safe), [])
    decision = await make(world).evaluate(proposal)
    recommended = decision.explanation.recommended_action
    assert recommended is not None and recommended.kind in safe
    assert recommended.adverse_probability < HELPDESK.policy.threshold
    assert recommended.text.rstrip(".")[1:] in decision.explanation.summary
    tried = next(action for action in alternatives if action.text == recommended.text)
    assert world.seeds(tried) == set(sorted(world.seeds(proposal.action))[: HELPDESK.policy.quorum])


async def test_an_approval_needs_no_alternative(make: Make, proposal: Proposal) -> None:
    world = Heard(ScriptedWorldModel(WELL), [])
    await make(world).evaluate(proposal)
    assert all(situation.opening.action == proposal.action for situation in world.situations)


# the gate


async def test_a_hard_rule_escalates_without_simulating_the_proposal(make: Make) -> None:
    state = HELPDESK.state_type.model_validate({"category": "Cloud Platform", "environment": {"stage": "production"}})
    opened = Action(kind="change_config", text="Turn on anonymous read access for the container.")
    world = Heard(ScriptedWorldModel(WELL), [])
    decision = await make(world).evaluate(Proposal(domain="helpdesk", state=state, action=opened))
    assert (decision.reason, decision.basis) == (Reason.hard_rule, Basis.hard_rule)
    assert all(situation.opening.action != opened for situation in world.situations)
    assert decision.explanation.rules and decision.risk is None


async def test_a_question_is_approved_without_simulation(make: Make, proposal: Proposal) -> None:
    world = ScriptedWorldModel(GRIM)
    asked = proposal.model_copy(update={"action": Action(kind="ask", text="Which error do you see?")})
    decision = await make(world).evaluate(asked)
    assert (decision.ruling, decision.reason, decision.basis) == (Ruling.approve, Reason.not_high_impact, Basis.none)
    assert world.calls == 0


async def test_a_switched_off_domain_escalates_everything(make: Make, proposal: Proposal) -> None:
    world = ScriptedWorldModel(WELL)
    guardrail = make(world, disabled=frozenset({"helpdesk"}))
    harmless = proposal.model_copy(update={"action": Action(kind="ask", text="Which error do you see?")})
    for asked in (proposal, harmless):
        decision = await guardrail.evaluate(asked, Options(recommend=False))
        assert (decision.ruling, decision.reason) == (Ruling.escalate, Reason.disabled_by_operator)
    assert world.calls == 0


# what cannot be believed


async def test_garbage_is_a_fault_and_too_few_futures_escalate(make: Make, proposal: Proposal) -> None:
    for garbage in ([Line("explosion")], [BadForecast("babble")]):
        decision = await make(garbage).evaluate(proposal)
        assert (decision.ruling, decision.reason) == (Ruling.escalate, Reason.too_few_rollouts)
        assert decision.basis is Basis.simulated
        assert decision.rollouts is not None and decision.rollouts.faults >= 3
    two_bad = ScriptedWorldModel([BadForecast("babble")], [BadForecast("babble")], WELL, WELL, WELL)
    decision = await make(two_bad).evaluate(proposal, Options(seed=0))
    assert decision.rollouts is not None and (decision.rollouts.faults, decision.rollouts.completed) == (2, 3)
    assert decision.ruling is Ruling.approve


async def test_what_nothing_recorded_is_like_is_escalated(make: Make, proposal: Proposal) -> None:
    text = "Zebra migration across the lunar prairie, umbrella sonata in F minor"
    strange = Proposal(
        domain="helpdesk",
        state=HELPDESK.state_type.model_validate({"description": text, "category": "Legacy Systems"}),
        action=Action(kind="proceed", text=text),
    )
    decision = await make(WELL).evaluate(strange)
    assert (decision.ruling, decision.reason) == (Ruling.escalate, Reason.unfamiliar_situation)
    picky = {"helpdesk": DomainStory(concentration=60.0, familiar=1.0)}
    reworded = proposal.model_copy(update={"action": proposal.action.model_copy(update={"text": "do the usual"})})
    assert (await make(WELL, stories=picky).evaluate(reworded)).reason is Reason.unfamiliar_situation


async def test_words_that_hide_the_risk_are_suspected(make: Make, proposal: Proposal) -> None:
    grim_facts = ScriptedWorldModel(WELL, masked=GRIM)
    decision = await make(grim_facts).evaluate(proposal)
    assert (decision.ruling, decision.reason) == (Ruling.escalate, Reason.text_driven_optimism)
    slightly = [Line("progress", {"progress": 0.7, "service_outage": 0.3})]
    assert (await make(ScriptedWorldModel(WELL, masked=slightly)).evaluate(proposal)).ruling is Ruling.approve


# what is missing


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """More of the budget is kept back, so that on a busy machine history and the disk get their turn at all."""
    monkeypatch.setattr("service.guardrail.RESERVE_MS", 600)


@pytest.mark.usefixtures("patient")
async def test_a_world_model_that_hangs_is_answered_from_history_within_the_budget(
    make: Make, proposal: Proposal
) -> None:
    world = ScriptedWorldModel(HANGS)
    decision, over = await timed(make(world), proposal, 2_000)
    assert over < 50
    assert (decision.ruling, decision.basis) == (Ruling.escalate, Basis.history_only)
    assert decision.mode is Mode.degraded
    assert "the world model was slower than the budget" in decision.explanation.notes
    assert "replays of recorded cases" in decision.explanation.summary
    assert world.cancelled == world.calls


async def test_a_world_model_that_is_down_is_answered_from_history(make: Make, proposal: Proposal) -> None:
    decision = await make(DOWN).evaluate(proposal)
    assert (decision.ruling, decision.basis) == (Ruling.escalate, Basis.history_only)
    assert "connection refused" in decision.explanation.notes
    assert decision.rollouts is not None and decision.rollouts.requested == HELPDESK.policy.rollouts


async def test_a_world_model_that_fails_halfway_vouches_for_nothing(make: Make, proposal: Proposal) -> None:
    world = ScriptedWorldModel(WELL, WELL, WELL, WELL, [FINE, *DOWN])
    decision = await make(world).evaluate(proposal, Options(seed=0))
    assert (decision.ruling, decision.reason) == (Ruling.escalate, Reason.world_model_unavailable)
    assert decision.basis is Basis.simulated


@pytest.mark.parametrize("hangs", [False, True])
async def test_without_recorded_history_futures_go_on_and_nothing_is_approved(
    make: Make, proposal: Proposal, hangs: bool
) -> None:
    decision, over = await timed(make(WELL, bank=MissingBank(hangs)), proposal, 600)
    assert over < 50
    assert (decision.ruling, decision.reason) == (Ruling.escalate, Reason.unfamiliar_situation)
    assert decision.basis is Basis.simulated and decision.mode is Mode.degraded
    assert NO_HISTORY in decision.explanation.notes
    assert decision.explanation.precedents == ()


@pytest.mark.parametrize("hangs", [False, True])
async def test_harm_is_still_seen_without_recorded_history(make: Make, proposal: Proposal, hangs: bool) -> None:
    decision = await make(GRIM, bank=MissingBank(hangs)).evaluate(proposal)
    assert decision.reason is Reason.risk_above_threshold


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("world", [DOWN, HANGS])
async def test_with_neither_world_model_nor_history_the_answer_says_so(
    make: Make, proposal: Proposal, world: Any
) -> None:
    for hangs in (False, True):
        decision, over = await timed(make(world, bank=MissingBank(hangs)), proposal, 1_000)
        assert over < 50
        assert (decision.ruling, decision.reason) == (Ruling.escalate, Reason.world_model_unavailable)
        assert (decision.basis, decision.risk) == (Basis.none, None)


async def test_a_bank_that_fails_between_steps_is_said(make: Make, bank: AnchorBank, proposal: Proposal) -> None:
    class Fading(MissingBank):
        async def nearest(self, domain: str, key: Any, limit: int, *more: Any, **rest: Any) -> Any:
            if limit == 1:
                raise AnchorBankUnavailable("gone")
            return await bank.nearest(domain, key, limit, *more, **rest)

    decision = await make([FINE], bank=Fading(False)).evaluate(proposal)
    assert decision.reason is Reason.unfamiliar_situation and decision.mode is Mode.degraded
    assert any("ungrounded" in note for note in decision.explanation.notes)


@pytest.mark.parametrize("broken", ["nowhere", "closed", "locked"])
async def test_an_unrecorded_approval_is_no_approval(
    make: Make, proposal: Proposal, tmp_path: Path, broken: str
) -> None:
    (tmp_path / "a file").write_text("not a folder")
    ledger = SqliteLedger((tmp_path / "a file" if broken == "nowhere" else tmp_path) / "other.sqlite", patience_s=0.1)
    holder = SqliteLedger(tmp_path / "other.sqlite")
    if broken == "closed":
        await ledger.aclose()
    if broken == "locked":
        await holder._do(lambda db: db.execute("BEGIN EXCLUSIVE"))
    with pytest.raises(LedgerUnavailable):
        await make(WELL, ledger=ledger).evaluate(proposal)
    await holder.aclose()


async def test_a_budget_of_fifty_milliseconds_and_a_slow_model_escalate_in_time(make: Make, proposal: Proposal) -> None:
    """A disk that cannot make a commit durable in what is left of fifty milliseconds has its own answer, and that in time too."""
    guardrail = make(ScriptedWorldModel(WELL, latency=0.2))
    with lateness() as machine:
        began = time.monotonic()
        with suppress(LedgerUnavailable):
            decision = await guardrail.evaluate(proposal, Options(budget_ms=50))
            assert decision.ruling is Ruling.escalate
            assert decision.basis in (Basis.history_only, Basis.none)
        took = time.monotonic() - began
    assert took - max(machine) < 0.1


async def test_a_prompt_that_is_too_long_is_the_callers_to_know(make: Make, proposal: Proposal) -> None:
    guardrail = make([PromptTooLong("1,200 tokens; the world model reads 900")])
    with pytest.raises(RequestTooLarge, match="1,200"):
        await guardrail.evaluate(proposal)
    assert guardrail.admission.active == 0


async def test_a_broken_rule_is_told_even_if_its_proposal_is_too_long_to_simulate(make: Make) -> None:
    state = HELPDESK.state_type.model_validate({"category": "Cloud Platform", "environment": {"stage": "production"}})
    opened = Action(kind="change_config", text="Turn on anonymous read access for the container.")
    decision = await make([PromptTooLong("too long")]).evaluate(Proposal(domain="helpdesk", state=state, action=opened))
    assert decision.reason is Reason.hard_rule


async def test_whoever_hangs_up_stops_the_world_model_and_frees_the_place(make: Make, proposal: Proposal) -> None:
    world = ScriptedWorldModel(HANGS)
    guardrail = make(world)
    call = asyncio.create_task(guardrail.evaluate(proposal))
    await asyncio.sleep(0.1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert world.calls == world.cancelled == HELPDESK.policy.rollouts + 1
    assert guardrail.admission.active == 0


# too many at once


async def test_many_requests_get_fewer_futures_then_history_then_a_time_to_come_back(
    make: Make, proposal: Proposal
) -> None:
    async def crowd(guardrail: Guardrail) -> None:
        """Somebody has found no place."""
        async with guardrail.admission.admit(Work("helpdesk", 1, Deadline.after(0, time.monotonic))) as effort:
            assert effort is Effort.history

    busy = make(WELL, admission=one_place(), metrics=(metrics := Metrics(time.monotonic)))
    with busy.admission.spare():
        await crowd(busy)
        missed = await busy.evaluate(proposal, Options(budget_ms=200))
        assert (missed.ruling, missed.basis) == (Ruling.escalate, Basis.history_only)
        busy.admission.held.observe(60)
        once, twice = await asyncio.gather(*(busy.evaluate(proposal) for _ in "12"), return_exceptions=True)
        assert isinstance(once, Decision) and once.basis is Basis.history_only
        assert isinstance(twice, Overloaded) and twice.retry_after == 1
    fewer = await busy.evaluate(proposal)
    assert fewer.rollouts is not None
    assert (fewer.rollouts.requested, fewer.mode) == (HELPDESK.policy.quorum, Mode.degraded)
    assert fewer.ruling is Ruling.approve
    whole = await make(WELL).evaluate(proposal)
    assert whole.rollouts is not None
    assert (whole.rollouts.requested, whole.mode) == (HELPDESK.policy.rollouts, Mode.normal)
    assert busy.admission.active == 0
    counts = {effort: metrics.admissions.labels(effort)._value.get() for effort in (*Effort, "refused")}
    assert counts == {"full": 0, "quorum": 1, "history": 2, "none": 0, "refused": 1}


async def test_what_the_gate_decides_waits_for_nobody(make: Make, proposal: Proposal) -> None:
    guardrail = make(WELL, admission=one_place(), disabled=frozenset({"helpdesk"}))
    with guardrail.admission.spare():
        decision = await guardrail.evaluate(proposal)
    assert decision.reason is Reason.disabled_by_operator


def one_place() -> Admission:
    return Admission(time.monotonic, GradientLimit(1, most=1))


# the one promise


async def test_nothing_is_ever_approved_but_whole_simulated_futures_and_what_has_no_consequence(
    make: Make, proposal: Proposal
) -> None:
    lines: list[Any] = [FINE, GRIM[0], Line("explosion"), BadForecast("x"), DOWN[0], Silence.hang]
    banks = [{}, {"bank": MissingBank(False)}]
    kinds = [proposal.action, Action(kind="ask", text="What do you see?"), Action(kind="teleport", text="now")]
    approved = 0
    for number, (first, later) in enumerate(itertools.product(lines, lines)):
        world = ScriptedWorldModel(WELL, WELL, [first, later], [later, first], WELL)
        asked = proposal.model_copy(update={"action": kinds[number % 3]})
        guardrail = make(world, **banks[number % 2])
        with suppress(LedgerUnavailable):  # a busy disk; then there is no answer to be wrong
            decision = await guardrail.evaluate(asked, Options(seed=0, budget_ms=200, recommend=False))
            whole = decision.rollouts is not None and decision.rollouts.completed >= HELPDESK.policy.quorum
            approved += decision.ruling is Ruling.approve
            assert decision.ruling is Ruling.escalate or (decision.reason, decision.basis, whole) in (
                (Reason.within_tolerance, Basis.simulated, True),
                (Reason.not_high_impact, Basis.none, False),
            )
    assert approved


async def test_whatever_a_tenant_has_recalled_or_imagined_is_the_tenants_own(
    make: Make, bank: AnchorBank, proposal: Proposal
) -> None:
    """Precedents, grounding, masked reading, alternatives, rehearsal and the stand-in."""

    class Noting:
        def __init__(self) -> None:
            self.tenants = list[str]()

        def __getattr__(self, name: str) -> Any:
            return getattr(bank, name)

        async def nearest(self, *told: Any, tenant: str, **more: Any) -> Any:
            self.tenants.append(tenant)
            return await bank.nearest(*told, tenant=tenant, **more)

    asked = proposal.model_copy(update={"tenant": "north"})
    for script in (WELL, GRIM, DOWN):
        heard, noting = Heard(ScriptedWorldModel(script), []), Noting()
        guardrail = make(heard, bank=noting)
        await guardrail.evaluate(asked)
        await guardrail.rehearse(asked, guardrail.rooms.split.serving)
        assert {situation.opening.tenant for situation in heard.situations} == {"north"}
        assert {*noting.tenants} == {"north"}
