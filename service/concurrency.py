"""How many at once: found by looking at what one more does to all the others."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from math import inf, sqrt

TOLERANCE = 1.5
"""How much slower than alone a step may be before fewer are let in."""
SMOOTHING = 0.2
PROBE_EVERY, PROBE = 1_000, 15
"""After so many steps it is found out anew, on so many, how fast they are alone: models and neighbours change."""


@dataclass(eq=False)
class GradientLimit:
    """Netflix's gradient limit (github.com/Netflix/concurrency-limits): it grows by its square root while steps are about as fast
    as they are alone, and shrinks by as much as they are slower.

    What is measured is of several kinds, none of which is held to another's best.
    """

    limit: float = 4.0
    most: float = 256.0
    _usual: dict[Hashable, float] = field(default_factory=dict)
    _best: dict[Hashable, float] = field(default_factory=dict)
    _observed: int = 0

    @property
    def places(self) -> int:
        return 1 if self._probing else int(self.limit)

    @property
    def _probing(self) -> bool:
        return self._observed >= PROBE_EVERY

    def observe(self, kind: Hashable, seconds: float, active: int) -> None:
        """A step took so long while so many were under way."""
        if self._probing and active > 1:
            return
        self._observed += 1
        if self._observed == PROBE_EVERY:
            self._best.clear()
            self._usual.clear()
        elif self._observed >= PROBE_EVERY + PROBE:
            self._observed = 0
        usual = self._usual.get(kind, seconds)
        usual = self._usual[kind] = usual + SMOOTHING * (seconds - usual)
        best = self._best[kind] = min(self._best.get(kind, inf), usual)
        if not self._probing and active >= self.limit / 2:  # fewer say nothing about what more would do
            gradient = min(1.0, max(0.5, TOLERANCE * best / usual)) if usual else 1.0
            aim = self.limit * gradient + sqrt(self.limit)
            self.limit = min(self.most, max(1.0, self.limit + SMOOTHING * (aim - self.limit)))
