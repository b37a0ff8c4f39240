"""What foretold risks are worth beside exact ones."""

from collections.abc import Sequence

import numpy as np

Bin = dict[str, float]


def ranks(values: Sequence[float]) -> list[float]:
    """From 1, equals sharing the mean of their places."""
    numbers = np.asarray(values)
    _, place, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: list[float] = (last - (counts - 1) / 2)[place].tolist()
    return shared


def spearman(foretold: Sequence[float], exact: Sequence[float]) -> float:
    """Rank correlation; 0 where it is not defined because all of one side are equal."""
    a, b = np.array(ranks(foretold)), np.array(ranks(exact))
    if len(a) < 2 or not a.std() or not b.std():
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def mean_error(foretold: Sequence[float], exact: Sequence[float]) -> float:
    """Mean absolute error; 0 of nothing."""
    return float(np.abs(np.subtract(foretold, exact)).mean()) if len(exact) else 0.0


def calibration_table(foretold: Sequence[float], exact: Sequence[float], bins: int = 10) -> list[Bin]:
    """By tenths of the proposals, those of least foretold risk first: mean foretold, mean exact, how many."""
    order = np.argsort(foretold, kind="stable")
    said, true = np.asarray(foretold)[order], np.asarray(exact)[order]
    parts = [part for part in np.array_split(np.arange(len(order)), bins) if len(part)]
    return [{"foretold": float(said[p].mean()), "exact": float(true[p].mean()), "n": len(p)} for p in parts]
