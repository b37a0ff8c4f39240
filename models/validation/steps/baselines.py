"""What a forecast must beat, and what none can: the frequencies of recorded history, and the exact odds of a made one."""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from models.validation.steps.foresight import Said, Step, steps
from service.vocabulary.domain import Domain
from service.vocabulary.forecast import Forecast
from service.vocabulary.rollout import Trajectory

Floats = NDArray[np.float64]

PRIOR = 1.0
"""Steps' worth of the coarser frequencies mixed into the finer, so that what a category never saw is not impossible."""


class Frequencies:
    """Climatology: P(outcome | category, turn) as counted, leaning on that of the turn, and that on all steps'."""

    def __init__(self, domain: Domain, recorded: Iterable[Trajectory]) -> None:
        self._names = domain.outcomes.names
        self._counts: defaultdict[tuple[object, ...], Floats] = defaultdict(lambda: np.zeros(len(self._names)))
        for step in (step for trajectory in recorded for step in steps(domain, trajectory)):
            for key in _keys(step):
                self._counts[key][self._names.index(step.truth.outcome)] += 1

    def forecast(self, step: Step) -> Forecast:
        """Its outcome is the majority's; it knows nothing of changes."""
        odds = np.full(len(self._names), 1 / len(self._names))
        for key in _keys(step):
            counted = self._counts[key]
            odds = (counted + PRIOR * odds) / (counted.sum() + PRIOR)
        return Forecast(
            self._names[int(odds.argmax())], dict(zip(self._names, odds.tolist(), strict=True)), changes=None
        )


def _keys(step: Step) -> tuple[tuple[object, ...], ...]:
    return (), (step.turn,), (step.category, step.turn)


def exact(step: Step) -> Said:
    """The odds that the step was drawn from, where a made history tells them."""
    odds = step.truth.odds
    return None if odds is None else Forecast(max(odds, key=lambda name: odds[name]), odds, changes=None)
