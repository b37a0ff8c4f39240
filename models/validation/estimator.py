"""How far an estimate is off: hazards of few futures beside counting many.

Errors are root mean square, over disjoint groups of the same futures. Against the exact risk they hold the model's own error too;
against the model's own limit (all futures, by hazard) they are the estimator's alone.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.validation.figure import Figure, figure
from models.validation.trials import Trial

HAZARD, COUNTING = (1, 2, 5, 10), (5, 10, 20, 40, 80)
MOST = 80

Estimator = Callable[[Trial, int, int], float]


def measure(trials: Sequence[Trial], most: int = MOST) -> dict[str, Any]:
    """Each trial holds `most` futures; `gap` is counting 40 less hazard 5, above zero where five by hazard are nearer the truth."""
    errors = {f"hazard_{n}": squares(trials, n, most, Trial.raw) for n in HAZARD}
    errors |= {f"counting_{n}": squares(trials, n, most, Trial.counted) for n in COUNTING if n <= most}
    told: dict[str, Any] = {name: root(found[0]).told() for name, found in errors.items()}
    told["own_limit"] = {name: root(found[1]).told() for name, found in errors.items()}
    if "counting_40" in errors:
        told["gap"], told["own_limit"]["gap"] = (
            gap(counted, hazards) for counted, hazards in zip(errors["counting_40"], errors["hazard_5"], strict=True)
        )
    return told


def gap(counted: NDArray[np.float64], hazards: NDArray[np.float64]) -> dict[str, float | int]:
    return figure(lambda i: float(np.sqrt(counted[i].mean()) - np.sqrt(hazards[i].mean())), range(len(counted))).told()


def squares(
    trials: Sequence[Trial], futures: int, most: int, estimate: Estimator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean squared error of each trial's estimates: against the exact risk, and against the model's own limit."""
    rows = []
    for trial in trials:
        limit = trial.raw(most)
        found = np.array([estimate(trial, futures, start) for start in range(0, most - futures + 1, futures)])
        rows.append((np.square(found - trial.drawn.exact).mean(), np.square(found - limit).mean()))
    exact, own = np.array(rows).T
    return exact, own


def root(squared: NDArray[np.float64]) -> Figure:
    return figure(lambda i: float(np.sqrt(squared[i].mean())), range(len(squared)))
