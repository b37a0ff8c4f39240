"""How long something takes, as it has lately: mean and deviation, smoothed as TCP smooths its round trips (RFC 6298)."""

from dataclasses import dataclass

MEAN_SHARE, DEVIATION_SHARE, DEVIATIONS = 1 / 8, 1 / 4, 2


@dataclass(eq=False)
class Pace:
    """In seconds. Before anything was seen it is taken to take no time."""

    mean: float = 0.0
    deviation: float = 0.0
    seen: int = 0

    def observe(self, seconds: float) -> None:
        if self.seen:
            self.deviation += DEVIATION_SHARE * (abs(seconds - self.mean) - self.deviation)
            self.mean += MEAN_SHARE * (seconds - self.mean)
        else:
            self.mean, self.deviation = seconds, seconds / 2
        self.seen += 1

    @property
    def bound(self) -> float:
        """What it hardly ever takes longer than."""
        return self.mean + DEVIATIONS * self.deviation
