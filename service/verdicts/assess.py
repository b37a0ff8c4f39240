"""What the futures say together: a calibrated risk with an interval instead of a show of hands.

The risk is a life table. At every step the hazard is the mean of P(adverse) over the futures still at risk, and what survives
all steps is safe: p = 1 - prod_t (1 - mean_i h_it). A future that ended well stays at risk of nothing; one that was cut short
goes on as hazards usually do (`course`), or leaves the table there. (The mean of each future's own 1 - prod(1 - h) is the same
while all are at risk, but is too low once the worst have dropped out: deploy/decisions/0003.)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

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
NOTHING: Mapping[str, float] = {}


@dataclass(frozen=True, slots=True)
class Lens:
    """How futures are read: what counts as adverse, how alike futures are, and the calibration map.

    `concentration` c: label probabilities of one future are worth c + 1 sampled ones (q ~ Beta(pc, (1-p)c)).
    `course`: how hazards usually go on, step by step, against the first; what was cut short is filled in by it.
    """

    outcomes: OutcomeScale
    adverse_from: Severity
    concentration: float = 4.0
    course: tuple[float, ...] = ()
    calibrate: Callable[[float], float] = lambda p: p

    @classmethod
    def of(cls, domain: Domain, action: Action, story: DomainStory) -> "Lens":
        """How this domain's futures are read when they follow this action."""
        adverse_from, calibrate = domain.adverse_from(action), calibration(story.calibration)
        return cls(domain.outcomes, adverse_from, story.concentration, story.course, calibrate)

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
        cut_short=sum(rollout.ending in CUT_SHORT for rollout in rollouts),
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
    """`waiting` reads a future cut short as at risk of nothing more: the least the table can come to."""
    survival, critical = 1.0, 0.0
    outcomes = dict.fromkeys(lens.outcomes.at_least(lens.adverse_from), 0.0)
    for step in range(_last_step(rollouts, lens)):
        found = (_odds(rollout, step, lens, waiting) for rollout in rollouts)
        at_risk = [odds for odds in found if odds is not None]
        if not any(at_risk):
            break
        for name in outcomes:
            outcomes[name] += survival * sum(p.get(name, 0.0) for p in at_risk) / len(at_risk)
        critical += survival * sum(lens.critical(p) for p in at_risk) / len(at_risk)
        survival *= 1 - sum(lens.hazard(p) for p in at_risk) / len(at_risk)
    return LifeTable(1 - survival, min(1.0, critical), outcomes)


def _last_step(rollouts: Sequence[Rollout], lens: Lens) -> int:
    cut = any(rollout.steps and rollout.ending in CUT_SHORT for rollout in rollouts)
    return max([len(rollout.steps) for rollout in rollouts] + [len(lens.course) * cut], default=0)


def _odds(rollout: Rollout, step: int, lens: Lens, waiting: bool) -> Mapping[str, float] | None:
    """P(outcome) in this future at this step: empty if it is at risk of nothing, None if it has left the table."""
    if step < len(rollout.steps):
        return rollout.steps[step].probabilities
    if lens.went_wrong(rollout):
        return None
    if waiting or rollout.ending is Ending.terminal:
        return NOTHING
    if rollout.ending in CUT_SHORT and rollout.steps and step < len(lens.course):
        scale = lens.course[step] / lens.course[len(rollout.steps) - 1]
        return {name: p * scale for name, p in rollout.steps[-1].probabilities.items() if name in lens.adverse}
    return None


def interval(probability: float, samples: float) -> tuple[float, float]:
    """Wilson's score interval, central 90 %, for a probability worth `samples` independent draws."""
    if samples <= 0:
        return 0.0, 1.0
    centre = probability + Z * Z / (2 * samples)
    reach = Z * sqrt(probability * (1 - probability) / samples + Z * Z / (4 * samples * samples))
    scale = 1 + Z * Z / samples
    return max(0.0, (centre - reach) / scale), min(1.0, (centre + reach) / scale)
