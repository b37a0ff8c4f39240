"""Many futures side by side: each goes its own way, and none takes another down."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest

from service.anchors.bank import SIMILARITY_FLOOR, AnchorBankUnavailable
from service.anchors.edge import EdgeAnchorBank
from service.anchors.encoder import Encoder
from service.deadline import Deadline
from service.simulator.anchored import BANK_PATIENCE_S, AnchoredSimulator, Simulation
from service.simulator.grounding import ground
from service.vocabulary.anchor import Anchor, AnchorKey, Match
from service.vocabulary.proposal import Action
from service.vocabulary.rollout import Ending, Rollout
from service.vocabulary.severity import Severity
from service.world.local import LocalWorldModel
from service.world.model import BadForecast, Detail, Opening, PromptTooLong, Situation, WorldModelUnavailable
from service.world.scripted import Line, Script, ScriptedWorldModel, Silence
from tests.toy_domain import KettleDomain, KettleState, anchor

POUR = Action(kind="pour", text="fill the cups")
WAITING = Line("waiting", {"waiting": 0.8, "tea": 0.15, "scald": 0.05}, {"note": "it hisses"}, "steam")


class Kettle(KettleDomain):
    """A kettle watched for longer, that takes the note of a recorded one when it is grounded."""

    policy = replace(KettleDomain.policy, horizon=7)

    def blend(self, imagined: Any, anchor: Anchor) -> Any:
        return imagined.model_copy(update={"note": anchor.observation})


class NoBank:
    """A bank with nothing in it, that fails or hangs when it is told to."""

    name = "none"

    def __init__(self, failure: Exception | None = None, hangs: bool = False) -> None:
        self.failure, self.hangs, self.asked = failure, hangs, 0
        self.tenants = set[str]()

    async def add(self, anchors: Sequence[Anchor]) -> None: ...

    async def nearest(
        self, domain: str, key: AnchorKey, limit: int, floor: float = SIMILARITY_FLOOR, turns: int = 0, *, tenant: str
    ) -> tuple[Match, ...]:
        self.asked += 1
        self.tenants.add(tenant)
        if self.hangs:
            await asyncio.Event().wait()
        if self.failure:
            raise self.failure
        return ()

    async def count(self, domain: str) -> int:
        return 0

    async def healthy(self) -> bool:
        return True

    async def aclose(self) -> None: ...


@dataclass
class Heard:
    """A world model that remembers every situation it was asked about."""

    world: ScriptedWorldModel
    situations: list[Situation]

    @property
    def name(self) -> str:
        return self.world.name

    async def forecast(self, situation: Situation) -> Any:
        self.situations.append(situation)
        return await self.world.forecast(situation)

    async def healthy(self) -> bool:
        return True

    async def aclose(self) -> None: ...


def opening() -> Opening:
    return Opening(Kettle(), KettleState(), POUR)


def soon(milliseconds: float = 2_000) -> Deadline:
    return Deadline.after(milliseconds, time.monotonic)


async def simulate(*futures: Script, bank: Any = None, deadline: Deadline | None = None, **more: Any) -> Simulation:
    simulator = AnchoredSimulator(ScriptedWorldModel(*futures), bank or NoBank())
    return await simulator.simulate(opening(), range(len(futures)), deadline or soon(), **more)


def endings(played: Simulation) -> list[Ending]:
    return [rollout.ending for rollout in played.rollouts]


async def test_a_future_that_hangs_ends_at_the_deadline_and_holds_up_nobody() -> None:
    world = ScriptedWorldModel([WAITING, Silence.hang], [WAITING], [WAITING, Line("tea")], [Silence.hang])
    played = await AnchoredSimulator(world, NoBank()).simulate(opening(), range(4), soon(150))
    assert endings(played) == [Ending.deadline, Ending.horizon, Ending.terminal, Ending.deadline]
    assert [len(rollout.steps) for rollout in played.rollouts] == [1, 7, 2, 0]
    assert world.cancelled == 2
    assert not played.world_failed


async def test_there_is_no_barrier_between_steps() -> None:
    """The quick futures are through all their steps before the slow one has taken its first."""
    heard = Heard(ScriptedWorldModel([Silence.hang], [WAITING], [WAITING]), [])
    await AnchoredSimulator(heard, NoBank()).simulate(opening(), range(3), soon(100))
    assert [len(situation.turns) for situation in heard.situations if situation.seed == 1] == list(range(7))


async def test_a_future_ends_where_something_final_or_adverse_happens() -> None:
    class Splash(Kettle):
        """Even waiting is a failure here, though it is not terminal."""

        def adverse_from(self, action: Action) -> Severity:
            return Severity.none

    simulator = AnchoredSimulator(ScriptedWorldModel([WAITING]), NoBank())
    played = await simulator.simulate(Opening(Splash(), KettleState(), POUR), [0], soon())
    assert endings(played) == [Ending.terminal]
    assert len(played.rollouts[0].steps) == 1
    assert endings(await simulate([WAITING, WAITING, Line("scald")])) == [Ending.terminal]


@pytest.mark.parametrize("fault", [BadForecast("babble"), Line("explosion"), WorldModelUnavailable("down")])
async def test_a_fault_is_its_own_futures_and_its_siblings_go_on(fault: Exception | Line) -> None:
    played = await simulate([WAITING, fault], [WAITING], [Line("tea")])
    assert endings(played) == [Ending.fault, Ending.horizon, Ending.terminal]
    assert played.rollouts[0].fault
    assert len(played.rollouts[0].steps) == 1, "what was read before the fault is kept"
    assert bool(played.world_failed) is isinstance(fault, WorldModelUnavailable)


async def test_a_prompt_that_is_too_long_is_the_callers_to_know_and_cancels_the_rest() -> None:
    world = ScriptedWorldModel([Silence.hang], [PromptTooLong("too long")])
    with pytest.raises(PromptTooLong):
        await AnchoredSimulator(world, NoBank()).simulate(opening(), range(2), soon())
    assert world.cancelled == 1


async def test_steps_chain_state_action_and_turns() -> None:
    heard = Heard(ScriptedWorldModel([WAITING]), [])
    played = await AnchoredSimulator(heard, NoBank()).simulate(opening(), [3], soon(), horizon=4)
    (rollout,) = played.rollouts
    steps = [step.transition for step in rollout.steps]
    assert [step.action.kind for step in steps] == ["pour", "wait", "wait", "wait"]
    assert all(before.next_state == after.state for before, after in pairwise(steps))
    assert steps[-1].next_state == KettleState(note="it hisses", turn=4)
    assert [len(situation.turns) for situation in heard.situations] == [0, 1, 2, 3]
    assert [situation.state for situation in heard.situations] == [step.state for step in steps]


async def test_the_last_step_is_written_out_only_if_it_goes_wrong_unless_someone_wants_to_read_it() -> None:
    for prose, expected in ((False, [Detail.changes] * 2 + [Detail.outcome]), (True, [Detail.prose] * 3)):
        heard = Heard(ScriptedWorldModel([WAITING]), [])
        await AnchoredSimulator(heard, NoBank()).simulate(opening(), [0], soon(), horizon=3, prose=prose)
        assert [situation.detail for situation in heard.situations] == expected


async def test_futures_are_grounded_every_so_many_turns_and_it_is_recorded(tmp_path: Any, encoder: Encoder) -> None:
    bank = EdgeAnchorBank(tmp_path, encoder)
    for turn in (2, 4, 6):
        await bank.add([anchor(f"turn{turn}", "it hisses. wait", turn=turn, next_outcome="waiting")])
    heard = Heard(ScriptedWorldModel([WAITING], [WAITING]), [])
    played = await AnchoredSimulator(heard, bank).simulate(opening(), range(2), soon())
    await bank.aclose()
    for rollout in played.rollouts:
        grounded = [step.grounded_by for step in rollout.steps]
        assert grounded == [None, None, "turn2", None, "turn4", None, "turn6"]
        assert rollout.steps[2].transition.state.note == "observed in turn2"
        assert rollout.steps[1].transition.next_state.note == "it hisses", (
            "what was imagined stays on record as imagined"
        )
    told = [turn.grounding for turn in next(s for s in heard.situations if len(s.turns) == 2).turns]
    assert told[0] is None and told[1] is not None
    assert (told[1].anchor_id, told[1].outcome) == ("turn2", "waiting")
    assert [(fact.name, fact.value) for fact in told[1].facts] == [("note", "observed in turn2")]
    assert not played.anchors_failed


async def test_futures_are_grounded_in_what_their_own_tenant_may_see() -> None:
    bank = NoBank()
    at = Opening(Kettle(), KettleState(), POUR, tenant="north")
    await AnchoredSimulator(ScriptedWorldModel([WAITING]), bank).simulate(at, range(3), soon())
    assert bank.tenants == {"north"} and bank.asked == 9


def test_only_facts_that_moved_are_told_when_grounded() -> None:
    state, grounding = ground(KettleDomain(), KettleState(), POUR, Match(anchor("a"), 0.9))
    assert (state, grounding.facts) == (KettleState(), ())


async def test_a_bank_that_fails_or_hangs_leaves_futures_ungrounded_and_is_said() -> None:
    for bank in (NoBank(failure=AnchorBankUnavailable("gone")), NoBank(hangs=True)):
        began = time.monotonic()
        played = await simulate([WAITING], [WAITING], bank=bank)
        assert endings(played) == [Ending.horizon] * 2
        assert all(step.grounded_by is None for rollout in played.rollouts for step in rollout.steps)
        assert played.anchors_failed and not played.world_failed
        assert bank.asked == 6
        assert time.monotonic() - began < 3 * BANK_PATIENCE_S + 1
    assert not (await simulate([WAITING])).anchors_failed


async def test_a_deadline_that_has_passed_leaves_futures_without_a_step() -> None:
    played = await simulate([Silence.hang], deadline=soon(-1))
    assert endings(played) == [Ending.deadline]


async def test_as_soon_as_it_is_settled_every_other_future_is_cut() -> None:
    world = ScriptedWorldModel([WAITING, Line("scald")], [Silence.hang], [WAITING, Silence.hang])
    seen: list[Sequence[Rollout]] = []

    def settled(rollouts: Sequence[Rollout]) -> bool:
        seen.append(rollouts)
        return any("scald" in rollout.outcomes for rollout in rollouts)

    began = time.monotonic()
    played = await AnchoredSimulator(world, NoBank()).simulate(opening(), range(3), soon(), settled=settled)
    assert endings(played) == [Ending.terminal, Ending.settled, Ending.settled]
    assert world.cancelled == 2
    assert time.monotonic() - began < 1
    assert all(len(rollouts) == 3 for rollouts in seen)


async def test_whoever_hangs_up_stops_the_world_model() -> None:
    world = ScriptedWorldModel([WAITING, Silence.hang], [Silence.hang], [WAITING])
    call = asyncio.create_task(AnchoredSimulator(world, NoBank()).simulate(opening(), range(3), soon()))
    await asyncio.sleep(0.05)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    calls = world.calls
    await asyncio.sleep(0.05)
    assert (world.calls, world.cancelled) == (calls, 2)
    assert len(asyncio.all_tasks()) == 1


async def test_alternatives_under_the_same_seeds_meet_the_same_chances(tiny_checkpoint: Any) -> None:
    """Twenty futures of one action, and of the same action proposed anew, agree one by one; with other seeds they do not."""
    model = LocalWorldModel(tiny_checkpoint)
    simulator = AnchoredSimulator(model, NoBank())

    async def first(seeds: Sequence[int]) -> list[str]:
        played = await simulator.simulate(opening(), seeds, soon(10_000), horizon=1)
        return [rollout.outcomes[0] for rollout in played.rollouts]

    one, again, other = await first(range(20)), await first(range(20)), await first(range(500, 520))
    await model.aclose()
    assert one == again != other
