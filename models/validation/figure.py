"""A measured figure with its interval: the central 95 % of a bootstrap that resamples whole groups, never single steps.

Steps of one trajectory, futures of one proposal and visits of one patient are alike; to resample them one by one would make
every interval too narrow.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

RESAMPLES = 1_000
COVERAGE = 0.95
DIGITS = 4


@dataclass(frozen=True, slots=True)
class Figure:
    """`n` counts what was measured (steps, proposals, rollouts), not the groups that were resampled."""

    value: float
    low: float
    high: float
    n: int

    def told(self) -> dict[str, float | int]:
        return {name: round(value, DIGITS) for name, value in asdict(self).items()}

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}-{self.high:.3f})"


def mean(
    values: Sequence[float] | Floats | NDArray[np.bool_], groups: Sequence[Hashable] | None = None, seed: int = 0
) -> Figure:
    """The mean of all values; groups (each value its own if None) are resampled. NaN of nothing."""
    given = np.asarray(values, float)
    if not len(given):
        return Figure(float("nan"), float("nan"), float("nan"), 0)
    number = _numbered(groups, len(given))
    sums, counts = np.bincount(number, given), np.bincount(number).astype(float)
    draws = _draws(len(sums), seed)
    return _figure(float(given.mean()), (draws @ sums) / (draws @ counts), len(given))


def figure(
    statistic: Callable[[Integers], float], groups: Sequence[Hashable], seed: int = 0, resamples: int = 200
) -> Figure:
    """Any statistic of row numbers, repeats included, as of `arange(n)`; resamples in which it is NaN are left out."""
    number = _numbered(groups, len(groups))
    rows = [np.flatnonzero(number == group) for group in range(int(number.max()) + 1)] if len(number) else []
    if not rows:
        return Figure(float("nan"), float("nan"), float("nan"), 0)
    rng = np.random.default_rng(seed)
    found = [
        statistic(np.concatenate([rows[i] for i in rng.integers(0, len(rows), len(rows))])) for _ in range(resamples)
    ]
    return _figure(statistic(np.arange(len(number))), np.array(found), len(number))


def _numbered(groups: Sequence[Hashable] | None, count: int) -> Integers:
    if groups is None:
        return np.arange(count)
    order = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    return np.array([order[group] for group in groups], np.int64)


def _draws(groups: int, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    return rng.multinomial(groups, np.full(groups, 1 / groups), RESAMPLES).astype(float)


def _figure(value: float, found: Floats, n: int) -> Figure:
    found = found[~np.isnan(found)]
    if not len(found):
        return Figure(value, float("nan"), float("nan"), n)
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return Figure(value, float(low), float(high), n)


def averaged(figures: Sequence[dict[str, float | int]]) -> dict[str, float | int]:
    """The plain mean of told figures, as of domains; their errors are independent."""
    parts = [Figure(each["value"], each["low"], each["high"], int(each["n"])) for each in figures]
    value = float(np.mean([part.value for part in parts]))
    below = float(np.sqrt(sum((part.value - part.low) ** 2 for part in parts))) / len(parts)
    above = float(np.sqrt(sum((part.high - part.value) ** 2 for part in parts))) / len(parts)
    return Figure(value, value - below, value + above, sum(part.n for part in parts)).told()
