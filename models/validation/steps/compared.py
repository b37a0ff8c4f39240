"""Several that foresaw the very same steps, side by side; figures of one domain, or of the mean over domains."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.validation.figure import Figure, figure
from models.validation.steps.baselines import exact
from models.validation.steps.foreseen import Foreseen
from models.validation.steps.scores import Integers

CHECKPOINT, CASES, FREQUENCIES, CEILING = "checkpoint", "cases", "frequencies", "ceiling"


@dataclass(frozen=True)
class Compared:
    """By name, each over equal steps in equal order."""

    by: Mapping[str, Foreseen]

    @property
    def size(self) -> int:
        return len(self.by[CHECKPOINT].steps)

    def first(self) -> "Compared":
        """The first steps alone; where the made history tells their exact odds, only those, and these odds as the ceiling."""
        steps = self.by[CHECKPOINT].steps
        rows = [row for row, step in enumerate(steps) if step.turn == 1]
        known = [row for row in rows if steps[row].truth.odds is not None]
        rest = {name: foreseen.at(known or rows) for name, foreseen in self.by.items()}
        if not known:
            return Compared(rest)
        first = rest[CHECKPOINT]
        return Compared(rest | {CEILING: Foreseen(first.domain, first.steps, [exact(step) for step in first.steps])})


Statistic = Callable[[Compared, Integers], float]


def fidelity(name: str) -> Statistic:
    return lambda compared, rows: float(compared.by[name].fidelity[rows].mean())


def above(name: str) -> Statistic:
    """How much more faithful the checkpoint is, on the very same steps."""
    return lambda compared, rows: fidelity(CHECKPOINT)(compared, rows) - fidelity(name)(compared, rows)


def skill(name: str) -> Statistic:
    """1 - RPS / RPS of the frequencies: 0 is as good as counting, 1 is foresight."""

    def of(compared: Compared, rows: Integers) -> float:
        mine, theirs = (1 - fidelity(each)(compared, rows) for each in (name, FREQUENCIES))
        return 1 - mine / theirs if theirs else float("nan")

    return of


def figure_of(statistic: Statistic, domains: Sequence[Compared]) -> Figure:
    """The mean of the domains' own, whole trajectories resampled."""
    ends = np.cumsum([each.size for each in domains])
    places = [(each, end - each.size, end) for each, end in zip(domains, ends, strict=True)]
    groups = [(number, name) for number, each in enumerate(domains) for name in each.by[CHECKPOINT].trajectories]

    def of(rows: Integers) -> float:
        parts = [(each, rows[(rows >= start) & (rows < end)] - start) for each, start, end in places]
        if not all(len(own) for _, own in parts):
            return float("nan")
        return float(np.mean([statistic(each, own) for each, own in parts]))

    return figure(of, groups)
