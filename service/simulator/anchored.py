"""Many steps: N futures of one opening, side by side, kept honest by recorded states."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.anchors.bank import AnchorBank, AnchorBankUnavailable
from service.deadline import Deadline
from service.simulator.grounding import ground
from service.vocabulary.forecast import Forecast
from service.vocabulary.outcome import UnknownOutcome
from service.vocabulary.rollout import Ending, Imagined, Rollout, Transition
from service.world.model import (
    BadForecast,
    Detail,
    Grounding,
    Opening,
    Situation,
    Turn,
    WorldModel,
    WorldModelUnavailable,
)

Settled = Callable[[Sequence[Rollout]], bool]
"""Whether no future still running could change the verdict."""
BANK_PATIENCE_S = 0.1
"""How long one future waits to be grounded before it goes on without."""


@dataclass(eq=False)
class Future:
    """One future as it grows."""

    seed: int
    state: Any
    turns: list[Turn] = field(default_factory=list)
    steps: list[Imagined] = field(default_factory=list)
    ending: Ending | None = None
    fault: str = ""

    def rollout(self, otherwise: Ending) -> Rollout:
        return Rollout(self.seed, tuple(self.steps), self.ending or otherwise, self.fault)


@dataclass(frozen=True, slots=True)
class Simulation:
    """What was imagined; whether the world model or the anchor bank failed while it was."""

    rollouts: tuple[Rollout, ...]
    world_failed: str = ""
    anchors_failed: bool = False

    def plus(self, more: "Simulation") -> "Simulation":
        return Simulation(
            self.rollouts + more.rollouts,
            self.world_failed or more.world_failed,
            self.anchors_failed or more.anchors_failed,
        )


@dataclass(eq=False)
class AnchoredSimulator:
    """The same simulator serves the guardrail and every measurement of it: what was validated is what serves."""

    world: WorldModel
    bank: AnchorBank
    patience_s: float = BANK_PATIENCE_S

    async def simulate(
        self,
        opening: Opening,
        seeds: Sequence[int],
        deadline: Deadline,
        horizon: int | None = None,
        settled: Settled | None = None,
        prose: bool = False,
    ) -> Simulation:
        """Futures run as independent tasks, without a barrier between steps. Raises `PromptTooLong`; all else is in the result."""
        run = _Run(self, opening, horizon or opening.domain.policy.horizon, prose, settled)
        run.futures = [Future(seed, opening.state) for seed in seeds]
        tasks = [asyncio.create_task(run.live(future)) for future in run.futures]
        watch = asyncio.create_task(run.decided.wait())
        try:
            alive: set[asyncio.Task[Any]] = set(tasks)
            async with asyncio.timeout(deadline.left):
                while alive and not watch.done():
                    done, _ = await asyncio.wait({*alive, watch}, return_when=asyncio.FIRST_COMPLETED)
                    alive -= done
                    _raise_first(done)
        except TimeoutError:
            pass
        finally:
            for task in (*tasks, watch):
                task.cancel()
            await asyncio.gather(*tasks, watch, return_exceptions=True)
        cut = Ending.settled if run.decided.is_set() else Ending.deadline
        return Simulation(tuple(f.rollout(cut) for f in run.futures), run.world_failed, run.anchors_failed)


def _raise_first(done: set[asyncio.Task[Any]]) -> None:
    for task in done:
        task.result()


class _Run:
    """The futures of one call, and what they learn together."""

    def __init__(
        self, simulator: AnchoredSimulator, opening: Opening, horizon: int, prose: bool, settled: Settled | None
    ) -> None:
        self._world, self._bank, self._opening, self._horizon = simulator.world, simulator.bank, opening, horizon
        self._prose, self._settled, self._patience_s = prose, settled, simulator.patience_s
        self.futures: list[Future] = []
        self.decided = asyncio.Event()
        self.world_failed = ""
        self.anchors_failed = False

    async def live(self, future: Future) -> None:
        try:
            while future.ending is None:
                await self._step(future)
        except (BadForecast, UnknownOutcome) as error:
            future.ending, future.fault = Ending.fault, str(error)
        except WorldModelUnavailable as error:
            future.ending, future.fault = Ending.fault, "world model unavailable"
            self.world_failed = str(error)
        self._decide()

    async def _step(self, future: Future) -> None:
        domain, turn = self._opening.domain, len(future.steps)
        situation = Situation(self._opening, tuple(future.turns), future.state, future.seed, self._detail(turn))
        forecast = await self._world.forecast(situation)
        outcome = domain.outcomes[forecast.outcome]
        state = domain.advance(future.state, situation.action, forecast)
        grounding: Grounding | None = future.turns[-1].grounding if future.turns else None
        future.steps.append(
            Imagined(
                Transition(
                    future.state,
                    situation.action,
                    outcome.name,
                    forecast.changes,
                    forecast.observation,
                    state,
                    outcome.reward,
                ),
                forecast.probabilities,
                grounding.anchor_id if grounding else None,
                max(1, len(forecast.ids)),
                forecast.mass,
            )
        )
        future.state = state
        if outcome.terminal or outcome.severity >= domain.adverse_from(self._opening.action):
            future.ending = Ending.terminal
        elif turn + 1 == self._horizon:
            future.ending = Ending.horizon
        else:
            await self._go_on(future, forecast)

    async def _go_on(self, future: Future, forecast: Forecast) -> None:
        """Decides what is done next, and grounds the future if it is time."""
        domain = self._opening.domain
        action = domain.continuation(future.state)
        grounding: Grounding | None = None
        if len(future.steps) % domain.policy.anchor_interval == 0:
            try:
                key = domain.anchor_key(future.state, action)
                async with asyncio.timeout(self._patience_s):
                    matches = await self._bank.nearest(domain.name, key, limit=1, tenant=self._opening.tenant)
                for match in matches:
                    future.state, grounding = ground(domain, future.state, action, match)
            except (AnchorBankUnavailable, TimeoutError):
                self.anchors_failed = True
        future.turns.append(Turn(forecast, action, grounding))
        self._decide()

    def _decide(self) -> None:
        if self._settled and self._settled([f.rollout(Ending.deadline) for f in self.futures]):
            self.decided.set()

    def _detail(self, turn: int) -> Detail:
        if self._prose:
            return Detail.prose
        return Detail.outcome if turn + 1 == self._horizon else Detail.changes
