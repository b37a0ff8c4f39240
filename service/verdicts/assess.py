"""What the futures say together: a calibrated risk with an interval instead of a show of hands.

The risk is a life table (Aalen-Johansen, from odds instead of counts). At every step the odds of an outcome are their mean over the
futures still open; what is adverse adds to the risk, what ends well closes its share, the rest goes on. Whether a future happened to
end is thus never counted where its odds of ending are known. One that was cut short goes on as hazards usually do (`course`), and so
does the table where no future is left open; where few are, what is usual counts as two of them. (The mean of each future's own
1 - prod(1 - h) is too low once the worst have dropped out: deploy/decisions/0003; 0006 measures what the rest is worth.)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import sqrt

import numpy as np

from service.verdicts.calibrate import calibration
from service.vocabulary.domain import Domain
from service.vocabulary.outcome import OutcomeScale
from service.vocabulary.proposal import Action
from service.vocabulary.rollout import Ending, Rollout
from service.vocabulary.severity import Severity
from service.vocabulary.verdict import Assessment
from service.world.checkpoint import DomainStory

Z = 1.645
"""Half-width of the central 90 % of a normal distribution, in standard deviations."""


CUT_SHORT = (Ending.deadline, Ending.settled)
USUAL = 2.0
"""Futures that the usual course of hazards counts as, beside those still open; chosen on validation (deploy/decisions/0006)."""


@dataclass(frozen=True)
class Lens:
    """How futures are read: what counts as adverse, how alike futures are, and the calibration map.

    `concentration` c: label probabilities of one future are worth c + 1 sampled ones (q ~ Beta(pc, (1-p)c)). `spread`: the
    model's own error by calibrated risk, which no number of futures takes away.
    `course`: how hazards usually go on, step by step, against the first; what was cut short is filled in by it.
    `horizon`: steps asked for; 0 for as many as the longest future took.
    """

    outcomes: OutcomeScale
    adverse_from: Severity
    concentration: float = 4.0
    spread: tuple[tuple[float, float, float], ...] = ()
    course: tuple[float, ...] = ()
    calibrate: Callable[[float], float] = lambda p: p
    horizon: int = 0

    @classmethod
    def of(cls, domain: Domain, action: Action, story: DomainStory, horizon: int | None = None) -> "Lens":
        """How this domain's futures are read when they follow this action; the horizon is the policy's if None."""
        adverse_from, calibrate = domain.adverse_from(action), calibration(story.calibration)
        steps = horizon or domain.policy.horizon
        return cls(domain.outcomes, adverse_from, story.concentration, story.spread, story.course, calibrate, steps)

    def interval(self, probability: float, futures: int) -> tuple[float, float]:
        """Central 90 % of a calibrated risk, as far as the number of futures decides it."""
        return interval(probability, futures * (self.concentration + 1))

    def own(self, probability: float) -> tuple[float, float] | None:
        """Within which nine of ten true risks lay where this one was foretold; None if it was not measured."""
        if not self.spread:
            return None
        risks, lows, highs = zip(*self.spread, strict=True)
        low, high = (float(np.interp(probability, risks, bounds)) for bounds in (lows, highs))
        return min(low, probability), max(high, probability)

    @cached_property
    def adverse(self) -> frozenset[str]:
        return frozenset(self.outcomes.at_least(self.adverse_from))

    @cached_property
    def _critical(self) -> frozenset[str]:
        return frozenset(self.outcomes.at_least(Severity.critical))

    @cached_property
    def _over(self) -> frozenset[str]:
        return self.adverse | {outcome.name for outcome in self.outcomes if outcome.terminal}

    def hazard(self, probabilities: Mapping[str, float]) -> float:
        return min(1.0, sum(p for name, p in probabilities.items() if name in self.adverse))

    def critical(self, probabilities: Mapping[str, float]) -> float:
        return min(1.0, sum(p for name, p in probabilities.items() if name in self._critical))

    def going(self, probabilities: Mapping[str, float]) -> float:
        """P(neither adverse nor an end)."""
        return max(0.0, 1 - sum(p for name, p in probabilities.items() if name in self._over))

    def onward(self, step: int, later: int) -> float:
        """How the hazard of a later step usually compares; as it was, beyond what is known."""
        return self.course[later] / self.course[step] if later < len(self.course) else 1.0

    def went_wrong(self, rollout: Rollout) -> bool:
        return any(outcome in self.adverse for outcome in rollout.outcomes)


def assess(rollouts: Sequence[Rollout], requested: int, lens: Lens) -> Assessment:
    """Evidence of harm counts even when a future was cut short; evidence of safety must be whole."""
    table = life_table(rollouts, lens)
    adverse = sum(lens.went_wrong(rollout) for rollout in rollouts)
    informed = sum(bool(rollout.steps) for rollout in rollouts)
    probability = lens.calibrate(table.adverse)
    return Assessment(
        requested=requested,
        completed=sum(rollout.ending.whole for rollout in rollouts),
        adverse=adverse,
        cut_short=sum(rollout.ending in CUT_SHORT for rollout in rollouts),
        faults=sum(rollout.ending is Ending.fault for rollout in rollouts),
        adverse_probability=probability,
        interval=lens.interval(probability, informed),
        critical_probability=table.critical,
        raw_adverse_probability=table.adverse,
        outcomes=table.outcomes,
        model_interval=lens.own(probability),
        tokens=sum(step.tokens for rollout in rollouts for step in rollout.steps),
    )


@dataclass(frozen=True, slots=True)
class LifeTable:
    """P(adverse), P(critical), and P(each adverse outcome) within the steps that were imagined."""

    adverse: float
    critical: float
    outcomes: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Row:
    """One step of the table: the odds of each outcome while open, and the share that goes on open."""

    odds: Mapping[str, float]
    going: float

    @classmethod
    def of(cls, odds: Mapping[str, float], lens: Lens) -> "Row":
        return cls(odds, lens.going(odds))

    def later(self, ratio: float, lens: Lens) -> "Row":
        """With hazards in this ratio, everything else alike."""
        adverse, ratio = lens.adverse, min(ratio, 1 / max(lens.hazard(self.odds), 1e-9))
        return Row.of({name: p * (ratio if name in adverse else 1.0) for name, p in self.odds.items()}, lens)


CLOSED = Row({}, 0.0)


def life_table(rollouts: Sequence[Rollout], lens: Lens, waiting: bool = False) -> LifeTable:
    """`waiting` reads a future cut short as about to end well: the least the table can come to."""
    still, critical, row = 1.0, 0.0, None
    outcomes = dict.fromkeys(lens.outcomes.at_least(lens.adverse_from), 0.0)
    for step in range(lens.horizon or max((len(rollout.steps) for rollout in rollouts), default=0)):
        usual = row.later(lens.onward(step - 1, step), lens) if row else None
        if usual and waiting:
            usual = Row(usual.odds, going=0.0)
        row = _mean([each for each in (_row(r, step, lens, waiting) for r in rollouts) if each], usual, step, lens)
        if row is None:
            break
        for name in outcomes:
            outcomes[name] += still * row.odds.get(name, 0.0)
        critical += still * lens.critical(row.odds)
        still *= row.going
    return LifeTable(min(1.0, sum(outcomes.values())), min(1.0, critical), outcomes)


def _mean(rows: Sequence[Row], usual: Row | None, step: int, lens: Lens) -> Row | None:
    """Of the futures still open; where the course is known the usual row counts as `USUAL` more, and where none is open it stands alone."""
    if not rows or usual is None:
        return _weighed([(row, 1.0) for row in rows]) if rows else usual
    weight = USUAL if step < len(lens.course) else 0.0
    return _weighed([*((row, 1.0) for row in rows), (usual, weight)])


def _weighed(rows: Sequence[tuple[Row, float]]) -> Row:
    total = sum(weight for _, weight in rows)
    odds: dict[str, float] = {}
    for row, weight in rows:
        for name, p in row.odds.items():
            odds[name] = odds.get(name, 0.0) + p * weight
    return Row({name: p / total for name, p in odds.items()}, sum(row.going * weight for row, weight in rows) / total)


def _row(rollout: Rollout, step: int, lens: Lens, waiting: bool) -> Row | None:
    """This future at this step; None once it is over or cannot be read."""
    if step < len(rollout.steps):
        return Row.of(rollout.steps[step].probabilities, lens)
    if rollout.ending not in CUT_SHORT or lens.went_wrong(rollout):
        return None
    if waiting or not rollout.steps:
        return CLOSED if waiting else None
    last = len(rollout.steps) - 1
    return Row.of(rollout.steps[last].probabilities, lens).later(lens.onward(last, step), lens)


def interval(probability: float, samples: float) -> tuple[float, float]:
    """Wilson's score interval, central 90 %, for a probability worth `samples` independent draws."""
    if samples <= 0:
        return 0.0, 1.0
    centre = probability + Z * Z / (2 * samples)
    reach = Z * sqrt(probability * (1 - probability) / samples + Z * Z / (4 * samples * samples))
    scale = 1 + Z * Z / samples
    return max(0.0, (centre - reach) / scale), min(1.0, (centre + reach) / scale)
