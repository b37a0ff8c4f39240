"""What the last few hundred values say: how well risks were calibrated, and whether they are shifting."""

from collections import deque
from collections.abc import Sequence
from math import log

LAST = 500
BINS = 10
FEWEST = 250
"""Below so many values nothing is said, zero: of fewer, chance alone shifts a population by more than another would."""


class Reliability:
    """Risks, and whether what was feared came about."""

    def __init__(self, last: int = LAST) -> None:
        self._seen: deque[tuple[float, bool]] = deque(maxlen=last)

    def add(self, risk: float, adverse: bool) -> None:
        self._seen.append((risk, adverse))

    def error(self) -> float:
        """Expected calibration error over ten bins of equal width (Naeini et al. 2015), in [0, 1]."""
        if len(self._seen) < FEWEST:
            return 0.0
        bins: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
        for risk, adverse in self._seen:
            bins[_bin(risk)].append((risk, adverse))
        return sum(abs(sum(risk - adverse for risk, adverse in each)) for each in bins) / len(self._seen)


class Shift:
    """The last values against as many before them."""

    def __init__(self, last: int = LAST) -> None:
        self._values: deque[float] = deque(maxlen=2 * last)
        self._last = last

    def add(self, value: float) -> None:
        self._values.append(value)

    def index(self) -> float:
        """Population stability index over ten bins: below 0.1 is steady, above 0.25 is another population."""
        values = list(self._values)
        before, now = values[: len(values) // 2], values[len(values) // 2 :]
        if len(before) < FEWEST:
            return 0.0
        return sum((new - old) * log(new / old) for old, new in zip(_shares(before), _shares(now), strict=True))


def _bin(value: float) -> int:
    return min(BINS - 1, int(value * BINS))


def _shares(values: Sequence[float]) -> list[float]:
    """Of each bin, never zero: half a value is added to each."""
    counts = [0.5] * BINS
    for value in values:
        counts[_bin(value)] += 1
    return [count / (len(values) + BINS / 2) for count in counts]
