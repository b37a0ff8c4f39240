"""Calibration of one risk, and several risks made one: logistic regressions of their logits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit

Floats = NDArray[np.float64]

LOOSE, TIGHT = 1.0, 10.0
"""How hard weights are held to the even mean, in log loss a unit squared: a calibration lightly, a stack of few cases more."""
LEAST = 1e-4


@dataclass(frozen=True)
class Stack:
    """Weights are never below zero: that a forecast is right the other way round is not to be learnt from few cases."""

    weights: Floats
    start: float

    def __call__(self, risks: Sequence[Floats]) -> Floats:
        return np.asarray(expit(_logits(risks) @ self.weights + self.start))


def fitted(risks: Sequence[Floats], adverse: Floats, pull: float) -> Stack:
    """Of one risk alone, pulled loosely, this is Platt's calibration."""
    logits = _logits(risks)
    even = np.full(logits.shape[1], 1 / logits.shape[1])

    def loss(values: Floats) -> tuple[float, Floats]:
        away, score = values[:-1] - even, logits @ values[:-1] + values[-1]
        likelihood = np.where(adverse > 0, log_expit(score), log_expit(-score)).sum()
        error = expit(score) - adverse
        return float(pull * away @ away - likelihood), np.append(logits.T @ error + 2 * pull * away, error.sum())

    bounds = [(0.0, None)] * len(even) + [(None, None)]
    best = minimize(loss, np.append(even, 0.0), jac=True, method="L-BFGS-B", bounds=bounds).x
    return Stack(best[:-1], float(best[-1]))


def _logits(risks: Sequence[Floats]) -> Floats:
    return np.stack([logit(np.clip(risk, LEAST, 1 - LEAST)) for risk in risks], axis=1)
