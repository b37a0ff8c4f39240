"""Asking a world model what comes next in a recorded history, at every step, given the true past.

The past is told as serving tells it: an observation only of an adverse step. No step is grounded, for the past is already true.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from service.vocabulary.domain import Domain
from service.vocabulary.forecast import Forecast
from service.vocabulary.rollout import Trajectory, Transition
from service.world.model import BadForecast, Detail, Opening, Situation, Turn, WorldModel, WorldModelUnavailable

SEED = 5_003

Said = Forecast | None
"""None if the model could not foresee; changes None if only its odds could be read."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step to be foreseen: the trajectory it is resampled with, the category that opened as, the turn (from 1), the truth."""

    trajectory: str
    category: str
    turn: int
    truth: Transition


def steps(domain: Domain, trajectory: Trajectory) -> list[Step]:
    first = trajectory.transitions[0]
    category = domain.anchor_key(first.state, first.action).category
    return [Step(trajectory.id, category, turn, truth) for turn, truth in enumerate(trajectory.transitions, start=1)]


async def foresee(world: WorldModel, opening: Opening, trajectory: Trajectory, detail: Detail) -> Sequence[Said]:
    """Every step from the true past; all of them at once, for none waits on another."""
    past = true_past(opening, trajectory)
    asked = [
        Situation(opening, past[:turn], step.state, SEED + turn, detail)
        for turn, step in enumerate(trajectory.transitions)
    ]
    return await asyncio.gather(*(_said(world, situation) for situation in asked))


async def _said(world: WorldModel, situation: Situation) -> Said:
    """One sampled forecast; its odds alone if what it wrote cannot be read."""
    try:
        return await world.forecast(situation)
    except WorldModelUnavailable:
        return None
    except BadForecast:
        pass
    try:
        odds = await world.forecast(replace(situation, seed=situation.seed + SEED, detail=Detail.odds))
    except (BadForecast, WorldModelUnavailable):
        return None
    return replace(odds, changes=None)


def true_past(opening: Opening, trajectory: Trajectory) -> tuple[Turn, ...]:
    """What happened, as turns of a future: each with what was done next."""
    adverse = opening.domain.outcomes.at_least(opening.domain.adverse_from(opening.action))
    return tuple(
        Turn(
            Forecast(step.outcome, {}, step.changes, step.observation if step.outcome in adverse else ""), after.action
        )
        for step, after in pairwise(trajectory.transitions)
    )
