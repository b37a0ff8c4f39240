"""Drawn proposals with their futures, what then happened, and the exact risk: the evidence that every figure of risk is made of.

A trial is played once, with every future run to its own end; estimators of more or fewer futures, maps and thresholds are then read off
the same rollouts. What followed is the drawn history's own sequel; the exact risk is the reference process's, given all that was said.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import count as counting
from itertools import islice
from random import Random

import numpy as np
from tqdm import tqdm

from models.validation.rig import Rig, seeds
from service.anchors.history import draw
from service.deadline import Deadline
from service.domains import catalog, reference
from service.verdicts.assess import Lens, life_table
from service.vocabulary.domain import Domain
from service.vocabulary.proposal import Proposal
from service.vocabulary.reference import Split
from service.vocabulary.rollout import Rollout
from service.world.model import Opening, PromptTooLong

SAMPLES = 4_000
"""Paths behind one exact risk: its own error is at most 0.008 (one standard deviation)."""
PATIENCE_MS = 120_000.0


@dataclass(frozen=True, slots=True)
class Drawn:
    """A proposal by its place in the reference history. `happened`: whether its drawn sequel was adverse within the horizon."""

    number: int
    proposal: Proposal
    exact: float
    happened: bool


@dataclass(frozen=True, slots=True)
class Trial:
    """A drawn proposal and its futures. `lens` reads them without a calibration map."""

    drawn: Drawn
    rollouts: tuple[Rollout, ...]
    lens: Lens

    def raw(self, futures: int, start: int = 0) -> float:
        """P(adverse) by the life table of some of the futures, as yet uncalibrated."""
        return life_table(self.rollouts[start : start + futures], self.lens).adverse

    def counted(self, futures: int, start: int = 0) -> float:
        """The share of some of the futures that went wrong: a show of hands."""
        return float(np.mean([self.lens.went_wrong(rollout) for rollout in self.rollouts[start : start + futures]]))


def draw_trials(domain: Domain, part: str, count: int, split: Split = Split.seen) -> list[Drawn]:
    """The first `count` proposals of a part that would be simulated: of high impact, breaking no hard rule. Exact risks on all cores."""
    numbers = list(islice(_simulated(domain, part, split), count))
    with ProcessPoolExecutor(2) as pool:
        work = partial(_drawn, domain.name, part, split)
        return list(tqdm(pool.map(work, numbers, chunksize=16), f"{domain.name}: exact risks", len(numbers)))


def _simulated(domain: Domain, part: str, split: Split) -> Iterator[int]:
    process = reference(domain.name)
    for number in counting():
        scenario, _ = draw(process, domain, part, number, split)
        proposal = Proposal(domain=domain.name, state=scenario.state, action=scenario.action)
        if domain.high_impact(proposal.action) and not domain.hard_rules(proposal):
            yield number


def _drawn(name: str, part: str, split: Split, number: int) -> Drawn:
    domain, process = catalog()[name], reference(name)
    scenario, trajectory = draw(process, domain, part, number, split)
    bad = domain.outcomes.at_least(domain.adverse_from(scenario.action))
    exact = process.risk(Random(f"exact/{name}/{part}/{number}"), scenario, domain.policy.horizon, SAMPLES)
    return Drawn(
        number,
        Proposal(domain=name, state=scenario.state, action=scenario.action),
        exact,
        any(step.outcome in bad for step in trajectory.transitions),
    )


async def play(rig: Rig, domain: Domain, drawn: Sequence[Drawn], futures: int, told: str = "futures") -> list[Trial]:
    """Every future of every proposal, unsettled. A proposal too long to be read is left out."""
    trials = []
    for each in tqdm(drawn, f"{domain.name}: {told}"):
        opening = await rig.opening(domain, each.proposal)
        try:
            trials.append(Trial(each, await rollouts(rig, opening, futures), raw_lens(rig, opening)))
        except PromptTooLong:
            continue
    return trials


async def rollouts(rig: Rig, opening: Opening, futures: int) -> tuple[Rollout, ...]:
    deadline = Deadline.after(PATIENCE_MS, time.monotonic)
    played = await rig.simulator.simulate(opening, seeds(futures), deadline)
    return played.rollouts


def raw_lens(rig: Rig, opening: Opening) -> Lens:
    return replace(rig.lens(opening), calibrate=lambda risk: risk)
