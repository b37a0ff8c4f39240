"""Maps and thresholds, fitted on the validation part alone and judged elsewhere."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

Floats = NDArray[np.float64]
Points = tuple[tuple[float, float], ...]

KNOTS = 12
APART = 1e-3
BANDS, LEAST, COVERED = 8, 5, 0.9
ALPHAS = (0.01, 0.05, 0.1, 0.2)


def fitted(raw: Floats, truth: Floats, knots: int = KNOTS) -> Points:
    """A monotone map from raw to true risk through (0, 0) and (1, 1): isotonic regression, at the means of equal shares of the proposals.

    `truth` is what happened (0 or 1), or the exact risk where a made history knows it: the same in the mean, with less noise.
    """
    if len(raw) < knots:
        return ((0.0, 0.0), (1.0, 1.0))
    level = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(raw, truth)
    parts = np.array_split(np.argsort(raw, kind="stable"), knots)
    points = [(float(raw[part].mean()), float(level.predict(raw[part]).mean())) for part in parts]
    return _rising(points)


def _rising(points: Sequence[tuple[float, float]]) -> Points:
    """Between the ends, and each at least a thousandth beyond the one before."""
    kept = [(0.0, 0.0)]
    for raw, true in points:
        if kept[-1][0] + APART <= raw <= 1 - APART:
            kept.append((round(raw, 5), round(max(true, kept[-1][1]), 5)))
    return (*kept, (1.0, 1.0))


def spread(risks: Floats, exact: Floats, knots: int = BANDS) -> tuple[tuple[float, float, float], ...]:
    """(calibrated risk, low, high) at the means of equal shares of the proposals: nine of ten true risks lay between. All rise."""
    if len(risks) < knots * LEAST:
        return ()
    parts = np.array_split(np.argsort(risks, kind="stable"), knots)
    tail = (1 - COVERED) / 2
    rows = np.array([[risks[part].mean(), *np.quantile(exact[part], [tail, 1 - tail])] for part in parts])
    rows[:, 2] = np.maximum.accumulate(rows[:, 2])
    rows[:, 1] = np.minimum.accumulate(rows[::-1, 1])[::-1]
    kept = [rows[0], *(row for before, row in pairwise(rows) if row[0] > before[0])]
    return tuple((round(float(risk), 5), round(float(low), 4), round(float(high), 4)) for risk, low, high in kept)


def conformal_threshold(risks: Floats, alpha: float) -> float | None:
    """The highest threshold t with P(risk <= t | adverse) <= alpha for a new adverse case; None if there are too few to promise it.

    Conformal risk control (Angelopoulos et al., 2022): of n exchangeable adverse cases at most (n + 1) alpha - 1 may lie at or
    below t, which takes n >= (1 - alpha) / alpha. The promise holds for cases like those it was fitted on, on average over such fits.
    """
    allowed = int(np.floor((len(risks) + 1) * alpha + 1e-9)) - 1
    if allowed < 0:
        return None
    ordered = np.sort(risks)
    return float(np.nextafter(ordered[allowed], -1.0)) if allowed < len(ordered) else 1.0
