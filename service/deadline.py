"""How long there is left to answer."""

from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], float]
"""Seconds that only ever grow, such as `time.monotonic`."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on a monotonic clock, in seconds."""

    at: float
    clock: Clock

    @classmethod
    def after(cls, milliseconds: float, clock: Clock) -> "Deadline":
        return cls(clock() + milliseconds / 1000, clock)

    def earlier(self, milliseconds: float) -> "Deadline":
        return Deadline(self.at - milliseconds / 1000, self.clock)

    @property
    def left(self) -> float:
        """Seconds; never negative."""
        return max(0.0, self.at - self.clock())
