"""What the futures say together: a calibrated risk with an interval instead of a show of hands.

The risk is a life table. At every step the hazard is the mean of P(adverse) over the futures still at risk, and what survives
all steps is safe: p = 1 - prod_t (1 - mean_i h_it). A future that ended well stays at risk of nothing; one that was cut short
leaves the table there. (The mean of each future's own 1 - prod(1 - h) is the same while all are at risk, but is too low once
the worst have dropped out: deploy/decisions/0003.)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

from service.vocabulary.outcome import OutcomeScale
from service.vocabulary.rollout import Ending, Rollout
from service.vocabulary.severity import Severity
from service.vocabulary.verdict import Assessment

Z = 1.645
"""Half-width of the central 90 % of a normal distribution, in standard deviations."""


@dataclass(frozen=True, slots=True)
class Lens:
    """How futures are read: what counts as adverse, how alike futures are, and the calibration map.

    `concentration` c: label probabilities of one future are worth c + 1 sampled ones (q ~ Beta(pc, (1-p)c)).
    """

    outcomes: OutcomeScale
    adverse_from: Severity
    concentration: float = 4.0
    calibrate: Callable[[float], float] = lambda p: p

    @property
    def adverse(self) -> frozenset[str]:
        return frozenset(self.outcomes.at_least(self.adverse_from))

    def hazard(self, probabilities: Mapping[str, float]) -> float:
        return min(1.0, sum(probabilities.get(name, 0.0) for name in self.adverse))

    def critical(self, probabilities: Mapping[str, float]) -> float:
        return min(1.0, sum(probabilities.get(name, 0.0) for name in self.outcomes.at_least(Severity.critical)))

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
        cut_short=sum(rollout.ending in (Ending.deadline, Ending.settled) for rollout in rollouts),
        faults=sum(rollout.ending is Ending.fault for rollout in rollouts),
        adverse_probability=probability,
        interval=interval(probability, informed * (lens.concentration + 1)),
        critical_probability=table.critical,
        raw_adverse_probability=table.adverse,
        outcomes=table.outcomes,
    )


@dataclass(frozen=True, slots=True)
class LifeTable:
    """P(adverse), P(critical), and P(each adverse outcome) within the steps that were imagined."""

    adverse: float
    critical: float
    outcomes: Mapping[str, float]


def life_table(rollouts: Sequence[Rollout], lens: Lens, waiting: bool = False) -> LifeTable:
    """`waiting` reads a future cut short as still at risk of nothing: the least the table can come to."""
    survival, critical = 1.0, 0.0
    outcomes = dict.fromkeys(lens.outcomes.at_least(lens.adverse_from), 0.0)
    for step in range(max((len(rollout.steps) for rollout in rollouts), default=0)):
        at_risk = [rollout for rollout in rollouts if _at_risk(rollout, step, lens, waiting)]
        odds = [rollout.steps[step].probabilities for rollout in at_risk if step < len(rollout.steps)]
        if not odds:
            break
        for name in outcomes:
            outcomes[name] += survival * sum(p.get(name, 0.0) for p in odds) / len(at_risk)
        critical += survival * sum(lens.critical(p) for p in odds) / len(at_risk)
        survival *= 1 - sum(lens.hazard(p) for p in odds) / len(at_risk)
    return LifeTable(1 - survival, min(1.0, critical), outcomes)


def _at_risk(rollout: Rollout, step: int, lens: Lens, waiting: bool) -> bool:
    if step < len(rollout.steps):
        return True
    return not lens.went_wrong(rollout) and (waiting or rollout.ending is Ending.terminal)


def interval(probability: float, samples: float) -> tuple[float, float]:
    """Wilson's score interval, central 90 %, for a probability worth `samples` independent draws."""
    if samples <= 0:
        return 0.0, 1.0
    centre = probability + Z * Z / (2 * samples)
    reach = Z * sqrt(probability * (1 - probability) / samples + Z * Z / (4 * samples * samples))
    scale = 1 + Z * Z / samples
    return max(0.0, (centre - reach) / scale), min(1.0, (centre + reach) / scale)
