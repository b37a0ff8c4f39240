"""One proposal in, one decision out: gate, simulate, judge, record."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from pydantic import Field

from service.admission import Admission, Effort, Priority, Work
from service.anchors.bank import PRECEDENT_FLOOR, PRECEDENT_TURNS, AnchorBank, AnchorBankUnavailable
from service.deadline import Clock, Deadline
from service.decisions.ledger import Ledger
from service.decisions.ruling import Supersession
from service.decisions.switches import Switches
from service.errors import LedgerUnavailable, Overloaded, RequestTooLarge
from service.log import log_decision
from service.metrics import Metrics
from service.record import Stamp, write_decision
from service.simulator.anchored import BANK_PATIENCE_S, AnchoredSimulator, Simulation
from service.split import Contender, Split, seed_of
from service.verdicts.assess import Lens, assess
from service.verdicts.judge import Evidence, judge, with_recommendation
from service.verdicts.rule import Doubt, straddles
from service.verdicts.settle import settled
from service.vocabulary.anchor import Match
from service.vocabulary.decision import Decision
from service.vocabulary.domain import Domain
from service.vocabulary.frozen import Frozen
from service.vocabulary.proposal import Action, Proposal
from service.vocabulary.rollout import Ending, Rollout
from service.vocabulary.verdict import Basis, Reason, Recommendation, RiskPolicy, Ruling, Verdict
from service.world.model import (
    PRECEDENTS,
    BadForecast,
    Detail,
    Opening,
    PromptTooLong,
    Situation,
    WorldModel,
    WorldModelUnavailable,
)

RESERVE_SHARE, RESERVE_MS = 0.3, 120.0
"""Of the budget, kept back for judging and recording: this share, at most this many milliseconds."""
BANK_SHARE = 0.3
"""Of the time left, how long to wait for recorded history before going on without it."""
OPTIMISM = 0.45
"""How much worse the masked reading of the first step must be for the words to be suspected."""
SEED_SPACING = 1_009
REHEARSAL_MS = 5_000.0
TOO_MANY = "too many requests to simulate this one"
NO_HISTORY = "recorded history could not be asked: no precedents"


class Options(Frozen):
    """What a caller may ask for; what is not asked for is the domain's policy."""

    rollouts: int | None = Field(default=None, ge=1, le=50, description="Futures to begin with")
    horizon: int | None = Field(default=None, ge=1, le=20, description="Steps ahead")
    budget_ms: int | None = Field(default=None, ge=20, le=30_000, description="Milliseconds to answer within")
    seed: int | None = Field(default=None, ge=0, lt=2**63, description="Equal seeds play out equal futures")
    include_rollouts: bool = Field(default=False, description="Return every future, step by step")
    settle: bool = Field(default=True, description="Stop as soon as no remaining future could change the verdict")
    recommend: bool = Field(default=True, description="Re-simulate safer alternatives in the time that is left")
    priority: Priority = Field(
        default=Priority.interactive, description="batch: nobody waits for it; whoever does goes first"
    )


@dataclass(frozen=True, slots=True)
class Rooms:
    """What the guardrail works with: the world models and their stand-in, the recorded history, the ledger."""

    split: Split
    stand_in: WorldModel
    bank: AnchorBank
    ledger: Ledger


@dataclass(frozen=True, slots=True)
class Chance:
    """Time and identity, handed in: a monotonic clock, the time of day, and fresh decision ids."""

    clock: Clock
    now: Callable[[], datetime]
    new_id: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Case:
    """One proposal on its way through: everything that stays the same until it is decided."""

    domain: Domain
    proposal: Proposal
    policy: RiskPolicy
    contender: Contender
    lens: Lens
    options: Options
    seeds: Sequence[int]
    deadline: Deadline
    supersession: Supersession | None = None
    effort: Effort = Effort.full

    @property
    def reserve(self) -> float:
        """Milliseconds, kept back for judging and recording."""
        return min(RESERVE_MS, RESERVE_SHARE * self.policy.budget_ms)

    @property
    def work(self) -> Work:
        """What is simulated of it, and until when: half the reserve more would still do to ask recorded cases instead."""
        until = self.deadline.earlier(1.5 * self.reserve)
        return Work(self.domain.name, self.policy.horizon, until, self.options.priority)


@dataclass(eq=False)
class Guardrail:
    """Raises `Overloaded`, `RequestTooLarge`, `LedgerUnavailable`; any other failure is an escalation with its reason."""

    domains: Mapping[str, Domain]
    rooms: Rooms
    chance: Chance
    admission: Admission
    switches: Switches
    metrics: Metrics
    override_for: timedelta = timedelta(hours=1)

    async def evaluate(
        self,
        proposal: Proposal,
        options: Options = Options(),
        supersession: Supersession | None = None,
        until: Deadline | None = None,
    ) -> Decision:
        """With a supersession it raises `OverrideRefused` too, if somebody ruled on the older decision meanwhile."""
        until = until or self.deadline(proposal.domain, options)
        with self.metrics.evaluating(proposal.domain, until):
            started = self.chance.clock()
            case = self._case(until, proposal, options, supersession)
            await self._switches_known(case)
            gated = self._gate(case)
            async with self._admitted(case, gated) as case:
                admitted = self.chance.clock()
                try:
                    evidence = gated or await self._simulate(case)
                except PromptTooLong as error:
                    raise RequestTooLarge(str(error)) from error
                simulated = self.chance.clock()
                with self.metrics.stage("judge"):
                    verdict = await self._judge(case, evidence)
            judged = self.chance.clock()
            timing = {"queue": admitted - started, "simulate": simulated - admitted, "judge": judged - simulated}
            with self.metrics.stage("record"):
                decision = await self._record(case, verdict, evidence, timing)
            self.metrics.decided(decision, evidence.rollouts, case.policy.horizon)
            log_decision(decision, self.chance.clock() - started)
            return decision

    async def rehearse(self, proposal: Proposal, contender: Contender, within_ms: float = REHEARSAL_MS) -> str:
        """Recalls and reads one first step, unrecorded: why that could not be done in time, empty if it could."""
        until = Deadline.after(within_ms, self.chance.clock)
        domain = self.domains[proposal.domain]
        matches, notes = await self._recall(domain, proposal, until)
        opening = Opening(domain, proposal.state, proposal.action, matches, tenant=proposal.tenant)
        read = await self._glance(contender, opening, 0, until)
        return "; ".join(notes) if notes else "" if read is not None else "a known case could not be read in time"

    @asynccontextmanager
    async def _admitted(self, case: Case, gated: Evidence | None) -> AsyncIterator[Case]:
        """The case and how much is done for it. What the gate has decided waits for nobody. Raises `Overloaded`."""
        if gated:
            with self.admission.spare() as effort:
                yield replace(case, effort=effort)
            return
        asked = self.chance.clock()
        try:
            async with self.admission.admit(case.work) as effort:
                self.metrics.admitted(effort, self.chance.clock() - asked)
                yield replace(case, effort=effort)
        except Overloaded:
            self.metrics.admissions.labels("refused").inc()
            raise

    def deadline(self, domain: str, options: Options) -> Deadline:
        """From now on."""
        return Deadline.after(options.budget_ms or self.domains[domain].policy.budget_ms, self.chance.clock)

    def followed(self, decision: Decision, outcome: str) -> None:
        """What really happened, for the counts alone."""
        domain = self.domains[decision.domain]
        severity = domain.outcomes[outcome].severity
        self.metrics.followed(decision, severity, severity >= domain.adverse_from(decision.proposal.action))

    def steps(self, domain: str, options: Options) -> int:
        """How many steps an evaluation may simulate at first."""
        policy = self.domains[domain].policy
        return (options.rollouts or policy.rollouts) * (options.horizon or policy.horizon)

    def _case(
        self,
        deadline: Deadline,
        proposal: Proposal,
        options: Options,
        supersession: Supersession | None,
    ) -> Case:
        domain = self.domains[proposal.domain]
        asked = options.rollouts or domain.policy.rollouts
        policy = replace(
            domain.policy,
            rollouts=asked,
            quorum=min(domain.policy.quorum, asked),
            max_rollouts=max(domain.policy.max_rollouts, asked),
            horizon=options.horizon or domain.policy.horizon,
            budget_ms=options.budget_ms or domain.policy.budget_ms,
        )
        first = options.seed if options.seed is not None else seed_of(proposal)
        seeds = [first + SEED_SPACING * number for number in range(policy.max_rollouts)]
        contender = self.rooms.split.of(seed_of(proposal))
        lens = contender.lens(domain, proposal.action, policy.horizon)
        return Case(domain, proposal, policy, contender, lens, options, seeds, deadline, supersession)

    # gate

    async def _switches_known(self, case: Case) -> None:
        try:
            async with asyncio.timeout(case.deadline.left):
                await self.switches.known()
        except TimeoutError as error:
            raise LedgerUnavailable("what is switched off could not be read within the budget") from error

    def _gate(self, case: Case) -> Evidence | None:
        """What needs no simulation: a switched-off domain or agent, a broken rule, an action without consequence."""
        rules = case.domain.hard_rules(case.proposal)
        agent = case.proposal.bound.agent if case.proposal.bound else None
        if self.switches.off(case.proposal.tenant, case.domain.name, agent):
            return Evidence(Basis.none, rules=rules, gate=Reason.disabled_by_operator)
        if rules:
            return Evidence(Basis.hard_rule, rules=rules, gate=Reason.hard_rule)
        if not case.domain.high_impact(case.proposal.action):
            return Evidence(Basis.none, gate=Reason.not_high_impact)
        return None

    # simulate

    async def _simulate(self, case: Case) -> Evidence:
        if case.effort is Effort.none:
            return Evidence(Basis.none, notes=(TOO_MANY,))
        until = case.deadline.earlier(case.reserve)
        with self.metrics.stage("anchors"):
            matches, notes = await self._recall(case.domain, case.proposal, until)
        self.metrics.recalled(case.domain.name, matches, bool(notes), self.chance.now())
        if notes:  # nothing will ground these futures, so they go no further than they may go ungrounded
            ungrounded = min(case.policy.horizon, case.policy.anchor_interval)
            case = replace(case, policy=replace(case.policy, horizon=ungrounded))
        opening = Opening(case.domain, case.proposal.state, case.proposal.action, matches, tenant=case.proposal.tenant)
        if case.effort is Effort.history:
            return await self._replay(case, opening, until, (*notes, TOO_MANY))
        imagined_by = case.work.until
        with self.metrics.stage("simulate"):
            played, masked = await asyncio.gather(
                self._play(case, opening, imagined_by),
                self._glance(case.contender, opening, case.seeds[0], imagined_by),
            )
        if _silent(played, case.lens):
            why = played.world_failed or "the world model was slower than the budget"
            return await self._replay(case, opening, until, (*notes, why))
        if played.anchors_failed:
            notes = (*notes, "recorded history failed: futures went on ungrounded")
        if case.effort is Effort.quorum:
            notes = (*notes, "many requests: fewer futures")
        doubt = Doubt(
            unfamiliar=played.anchors_failed or _unfamiliar(case, matches),
            optimistic=_optimistic(case, played.rollouts, masked),
            world_failed=bool(played.world_failed),
        )
        return Evidence(Basis.simulated, played.rollouts, len(played.rollouts), matches, doubt=doubt, notes=notes)

    async def _recall(
        self, domain: Domain, proposal: Proposal, until: Deadline
    ) -> tuple[tuple[Match, ...], tuple[str, ...]]:
        """The recorded cases most like this one, and a note if history could not be asked."""
        key = domain.anchor_key(proposal.state, proposal.action)
        try:
            async with asyncio.timeout(BANK_SHARE * until.left):
                return await self.rooms.bank.nearest(
                    domain.name, key, PRECEDENTS, PRECEDENT_FLOOR, PRECEDENT_TURNS, tenant=proposal.tenant
                ), ()
        except (AnchorBankUnavailable, TimeoutError):
            return (), (NO_HISTORY,)

    async def _play(self, case: Case, opening: Opening, until: Deadline) -> Simulation:
        """The futures; near the threshold, more of them while there is time for as many again and others do not wait for it."""
        simulator = self._simulator(case.contender.world, until)
        count = case.policy.quorum if case.effort is Effort.quorum else case.policy.rollouts
        played = Simulation(())
        while True:
            began = self.chance.clock()
            before = played.rollouts
            more = await simulator.simulate(
                opening,
                case.seeds[len(before) : len(before) + count],
                until,
                case.policy.horizon,
                partial(_settled, case, before) if case.options.settle else None,
                case.options.include_rollouts,
            )
            played = played.plus(more)
            took = self.chance.clock() - began
            if steps := max(len(rollout.steps) for rollout in more.rollouts):
                self.admission.stepped(case.work, took, steps)
            undecided = straddles(assess(played.rollouts, len(played.rollouts), case.lens), case.policy)
            telling = all(rollout.ending.whole for rollout in more.rollouts)
            enough = len(played.rollouts) >= len(case.seeds) or self.admission.crowded
            if not undecided or not telling or enough or until.left < took:
                return played

    def _simulator(self, world: WorldModel, until: Deadline) -> AnchoredSimulator:
        """A future that could not be grounded vouches for nothing, so it waits for history as long as there is time."""
        return AnchoredSimulator(world, self.rooms.bank, max(BANK_PATIENCE_S, BANK_SHARE * until.left))

    async def _glance(self, contender: Contender, opening: Opening, seed: int, until: Deadline) -> float | None:
        """P(adverse) of the first step as read without any free text; None if it could not be read in time."""
        masked = replace(opening, masked=True)
        try:
            async with asyncio.timeout(until.left):
                forecast = await contender.world.forecast(Situation(masked, (), opening.state, seed, Detail.odds))
        except (BadForecast, WorldModelUnavailable, TimeoutError):
            return None
        return contender.lens(opening.domain, opening.action).hazard(forecast.probabilities)

    async def _replay(self, case: Case, opening: Opening, until: Deadline, notes: tuple[str, ...]) -> Evidence:
        """What followed in recorded cases: never a reason to approve, but better than nothing to read."""
        simulator = self._simulator(self.rooms.stand_in, until)
        seeds = case.seeds[: case.policy.rollouts]
        played = await simulator.simulate(opening, seeds, until, case.policy.horizon)
        if not any(rollout.steps for rollout in played.rollouts):
            return Evidence(Basis.none, notes=notes)
        return Evidence(Basis.history_only, played.rollouts, len(seeds), opening.precedents, notes=notes)

    # judge

    async def _judge(self, case: Case, evidence: Evidence) -> Verdict:
        verdict = judge(case.domain, case.proposal, evidence, case.lens, self.chance.now())
        recommended = None
        spare = case.effort is Effort.full and not self.admission.crowded
        playable = verdict.basis in (Basis.simulated, Basis.hard_rule) and spare
        if verdict.ruling is Ruling.escalate and case.options.recommend and playable:
            recommended = await self._recommend(case, verdict)
        return with_recommendation(verdict, recommended)

    async def _recommend(self, case: Case, verdict: Verdict) -> Recommendation | None:
        """The domain's safest alternative, re-simulated with the same seeds; None if none is clearly safer."""
        until = case.deadline.earlier(min(RESERVE_MS / 2, RESERVE_SHARE / 2 * case.policy.budget_ms))
        tried = [self._try(case, action, until) for action in case.domain.alternatives(case.proposal)]
        found = [recommendation for recommendation in await asyncio.gather(*tried) if recommendation is not None]
        best = min(found, key=lambda recommendation: recommendation.adverse_probability, default=None)
        risk = verdict.assessment.adverse_probability if verdict.assessment else 1.0
        return best if best is not None and best.adverse_probability < min(risk, case.policy.threshold) else None

    async def _try(self, case: Case, action: Action, until: Deadline) -> Recommendation | None:
        proposal = case.proposal.model_copy(update={"action": action})
        if case.domain.hard_rules(proposal):
            return None
        matches, _ = await self._recall(case.domain, proposal, until)
        opening = Opening(case.domain, proposal.state, action, matches, tenant=proposal.tenant, rank=1)
        seeds = case.seeds[: case.policy.quorum]
        simulator = self._simulator(case.contender.world, until)
        try:
            played = await simulator.simulate(opening, seeds, until, case.policy.horizon)
        except PromptTooLong:
            return None
        if not all(rollout.ending.whole for rollout in played.rollouts):
            return None
        lens = case.contender.lens(case.domain, action, case.policy.horizon)
        risk = assess(played.rollouts, len(seeds), lens).adverse_probability
        return Recommendation(action.kind, action.text, round(risk, 4))

    # record

    async def _record(
        self, case: Case, verdict: Verdict, evidence: Evidence, timing_s: Mapping[str, float]
    ) -> Decision:
        """Durable before it is answered."""
        now = self.chance.now()
        model = case.contender.model.model_copy(update={"policy": case.domain.policy.name})
        stamp = Stamp(self.chance.new_id(), now, now + self.override_for, model, timing_s)
        futures = evidence.rollouts if case.options.include_rollouts else None
        decision = write_decision(
            case.proposal, case.policy, verdict, evidence.notes, futures, case.lens, stamp, case.domain.redactions
        )
        before = case.supersession
        if before:
            decision = decision.model_copy(update={"supersedes": before.decision_id})
        ruling = before.ruling(decision.decision_id, now) if before else None
        try:
            async with asyncio.timeout(max(case.deadline.left, 0.001)):
                await self.rooms.ledger.append(decision, case.proposal.tenant, ruling)
        except TimeoutError as error:
            raise LedgerUnavailable("the decision could not be recorded within the budget", retry_after=1) from error
        return decision


def _settled(case: Case, before: Sequence[Rollout], current: Sequence[Rollout]) -> bool:
    return settled([*before, *current], case.policy, case.lens)


def _silent(played: Simulation, lens: Lens) -> bool:
    """Whether the futures say nothing: the world model failed or never answered. Answers that cannot be read are not silence."""
    if any(rollout.ending.whole or lens.went_wrong(rollout) for rollout in played.rollouts):
        return False
    answered = any(rollout.steps or rollout.ending is Ending.fault for rollout in played.rollouts)
    return bool(played.world_failed) or not answered


def _unfamiliar(case: Case, matches: Sequence[Match]) -> bool:
    """Whether nothing recorded is like this. History that cannot be asked vouches for nothing either."""
    return not matches or matches[0].similarity < case.contender.story(case.domain).familiar


def _optimistic(case: Case, rollouts: Sequence[Rollout], masked: float | None) -> bool:
    """Whether the words make the first step look much safer than the measured facts alone do."""
    read = [case.lens.hazard(rollout.steps[0].probabilities) for rollout in rollouts if rollout.steps]
    return masked is not None and bool(read) and masked > case.policy.threshold and masked - read[0] > OPTIMISM
