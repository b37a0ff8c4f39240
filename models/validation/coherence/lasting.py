"""Futures that are known to go on, to see what a world model says of a fifteenth turn that few futures live to."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from service.vocabulary.forecast import Forecast
from service.world.model import Situation, WorldModel

STRIDE = 7_919
"""From a seed to the next one tried, far from any other future's."""
PATIENCE = 24


@dataclass(eq=False)
class LastingWorldModel:
    """Draws a step again, with the next seed, as long as it would end a future that is asked to last.

    Every draw is the world's own. After `PATIENCE` draws the end is accepted. Futures of other seeds are left as they are, and so
    is the last turn.
    """

    world: WorldModel
    lasting: frozenset[int]
    horizon: int
    drawn: dict[tuple[int, int], int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"lasting:{self.world.name}"

    async def forecast(self, situation: Situation) -> Forecast:
        if situation.seed not in self.lasting:
            return await self.world.forecast(situation)
        future = id(situation.opening), situation.seed
        seed = self.drawn.get(future, situation.seed)
        for _ in range(PATIENCE):
            said = await self.world.forecast(replace(situation, seed=seed))
            self.drawn[future] = seed
            if not self._ends(situation, said):
                break
            seed += STRIDE
        return said

    def _ends(self, situation: Situation, said: Forecast) -> bool:
        domain, action = situation.opening.domain, situation.opening.action
        outcome = domain.outcomes[said.outcome]
        ends = outcome.terminal or outcome.severity >= domain.adverse_from(action)
        return ends and len(situation.turns) + 1 < self.horizon

    @property
    def servers(self) -> Mapping[str, str]:
        return self.world.servers

    async def trouble(self) -> str:
        return await self.world.trouble()

    async def aclose(self) -> None:
        """The world stays its owner's to close."""
