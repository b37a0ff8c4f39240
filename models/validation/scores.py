"""How good odds were, once it is known what happened. Odds are rows over a scale, mildest first; truths are columns of it."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

LEAST = 1e-4
"""Odds below this are scored as this, so that one impossible event does not drown all others."""


def log_loss(odds: Floats, truths: Integers) -> float:
    """Mean of -ln P(what happened)."""
    return float(-np.log(np.maximum(odds[np.arange(len(truths)), truths], LEAST)).mean())


def brier(odds: Floats, truths: Integers) -> float:
    """Mean squared distance from certainty of what happened, over all outcomes: 0 to 2."""
    return float(np.square(odds - np.eye(odds.shape[1])[truths]).sum(axis=1).mean())


def ranked(odds: Floats, truths: Integers) -> float:
    """Mean ranked probability score, 0 to 1: as Brier's of "this bad or less", so a near miss of the scale costs less."""
    gap = np.cumsum(odds - np.eye(odds.shape[1])[truths], axis=1)[:, :-1]
    return float(np.square(gap).mean())


def top_match(odds: Floats, truths: Integers) -> float:
    """Share in which what happened was held to be the most likely."""
    return float((odds.argmax(axis=1) == truths).mean())


def overlap(said: Collection[object], true: Collection[object]) -> float:
    """Jaccard's: of all that was said or true, the share that was both; 1 if there was nothing to say."""
    said, true = set(said), set(true)
    return len(said & true) / len(said | true) if said | true else 1.0
