"""Rare outcomes are shown more often and weigh no more: what follows them is learnt well, how likely they are stays honest.

A trajectory that ended badly is repeated, and each repeat's outcome tokens count for its share of one. The words and changes of
rare outcomes are so read five times as often, while the weighted frequency of every outcome is exactly what it was.
"""

import math
from collections.abc import Sequence
from random import Random

from service.vocabulary.domain import Domain
from service.vocabulary.rollout import Trajectory
from service.vocabulary.severity import Severity

SEVERE, NEAR_MISS = 5.0, 2.5
"""How often a trajectory is shown whose worst outcome is serious or critical; or adverse, but milder."""


def balanced(trajectories: Sequence[Trajectory], domain: Domain, rng: Random) -> list[tuple[int, float]]:
    """Every trajectory by its place, as often as it is to be shown, and what its outcome tokens then count.

    A factor between two numbers is drawn to one of them; dividing by what was drawn, not by the factor, leaves no error.
    """
    shown: list[tuple[int, float]] = []
    for place, trajectory in enumerate(trajectories):
        times = _drawn(factor(trajectory, domain), rng)
        shown += [(place, 1 / times)] * times
    return shown


def factor(trajectory: Trajectory, domain: Domain) -> float:
    worst = max(domain.outcomes[step.outcome].severity for step in trajectory.transitions)
    if worst >= Severity.serious:
        return SEVERE
    return NEAR_MISS if worst >= domain.adverse_from(trajectory.transitions[0].action) else 1.0


def _drawn(factor: float, rng: Random) -> int:
    least = math.floor(factor)
    return least + (rng.random() < factor - least)
