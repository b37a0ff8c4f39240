"""The calibration map: a monotone line through measured points."""

from bisect import bisect_right
from collections.abc import Callable, Sequence


def calibration(points: Sequence[tuple[float, float]]) -> Callable[[float], float]:
    """Piecewise linear through (raw, calibrated), both rising from 0 to 1. Raises ValueError for any other points."""
    raw, calibrated = [x for x, _ in points], [y for _, y in points]
    ends = (points[0], points[-1]) if points else ()
    if ends != ((0.0, 0.0), (1.0, 1.0)) or raw != sorted(set(raw)) or calibrated != sorted(calibrated):
        raise ValueError("a calibration map rises from (0, 0) to (1, 1)")

    def calibrated_at(p: float) -> float:
        right = min(bisect_right(raw, p), len(raw) - 1)
        span = raw[right] - raw[right - 1]
        share = (p - raw[right - 1]) / span
        return calibrated[right - 1] + share * (calibrated[right] - calibrated[right - 1])

    return calibrated_at
