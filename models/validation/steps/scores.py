"""How good odds were, once it is known what happened, step by step. Odds are rows over a scale, mildest first; truths are columns of it."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

LEAST = 1e-4
"""Odds below this are scored as this, so that one impossible event does not drown all others."""


def log_losses(odds: Floats, truths: Integers) -> Floats:
    """-ln P(what happened)."""
    return np.asarray(-np.log(np.maximum(odds[np.arange(len(truths)), truths], LEAST)))


def briers(odds: Floats, truths: Integers) -> Floats:
    """Squared distance from certainty of what happened, over all outcomes: 0 to 2."""
    return np.asarray(np.square(odds - np.eye(odds.shape[1])[truths]).sum(axis=1))


def ranked(odds: Floats, truths: Integers) -> Floats:
    """Ranked probability scores, 0 to 1: as Brier's of "this bad or less", so a near miss of the scale costs less."""
    gap = np.cumsum(odds - np.eye(odds.shape[1])[truths], axis=1)[:, :-1]
    return np.asarray(np.square(gap).mean(axis=1))


def top_hits(odds: Floats, truths: Integers) -> Floats:
    """1 where what happened was held to be the most likely."""
    return np.asarray(odds.argmax(axis=1) == truths, float)


def overlap(said: Collection[object], true: Collection[object]) -> float:
    """Jaccard's: of all that was said or true, the share that was both; 1 if there was nothing to say."""
    said, true = set(said), set(true)
    return len(said & true) / len(said | true) if said | true else 1.0
