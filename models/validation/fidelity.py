"""How faithfully a world model foresees recorded histories it never saw, step by step, given the true past.

The headline `fidelity` is 1 minus the mean ranked probability score over the outcome scale. In plain words: at every step
the model gives odds for every rung of the ladder from "nothing happened" to "the worst"; fidelity says how close those odds
came to the rung that history then stood on. 1 is foresight. To expect a first-aid case where there was a near miss costs a
little, to expect nothing where someone died costs a lot, and always guessing "nothing" does not pay, as it would in a count of hits.

The past is told as serving tells it: an observation only of an adverse step. No step is grounded, for the past is already true.
"""

import asyncio
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from tqdm import tqdm

from models.validation import scores
from models.validation.rig import Rig, rig
from service.anchors.history import draw
from service.domains import catalog, reference
from service.vocabulary.domain import Domain
from service.vocabulary.forecast import Forecast
from service.vocabulary.proposal import Proposal
from service.vocabulary.rollout import Trajectory
from service.world.cases import CasesWorldModel
from service.world.codec import pairs
from service.world.model import BadForecast, Detail, Opening, Situation, Turn, WorldModel, WorldModelUnavailable

Told = dict[str, float]
SEED = 5_003


@dataclass(eq=False)
class Tally:
    """What one world model said of one domain's steps, beside what happened."""

    domain: Domain
    odds: list[list[float]] = field(default_factory=list)
    truths: list[int] = field(default_factory=list)
    fields: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    silent: int = 0

    def add(self, said: Forecast | None, trajectory: Trajectory, turn: int) -> None:
        """A step that the model could not foresee counts as even odds, and changes that cannot be read as none right."""
        step, names = trajectory.transitions[turn], self.domain.outcomes.names
        even = dict.fromkeys(names, 1 / len(names))
        self.truths.append(names.index(step.outcome))
        self.odds.append([(said.probabilities if said else even)[name] for name in names])
        self.silent += said is None
        changed = set(pairs(said.changes)) if said and said.changes is not None else None
        true = set(pairs(step.changes))
        self.fields.append(scores.overlap(_names(changed), _names(true)) if changed is not None else 0.0)
        self.values.append(scores.overlap(changed, true) if changed is not None else 0.0)

    def told(self) -> Told:
        odds, truths = np.array(self.odds), np.array(self.truths)
        return {
            "fidelity": 1 - scores.ranked(odds, truths),
            "log_loss": scores.log_loss(odds, truths),
            "brier": scores.brier(odds, truths),
            "outcome_match": scores.top_match(odds, truths),
            "changed_fields": mean(self.fields),
            "changed_values": mean(self.values),
            "silent": self.silent / len(truths),
            "steps": float(len(truths)),
        }


def _names(changes: set[tuple[str, str]]) -> set[str]:
    return {name for name, _ in changes}


async def foresee(world: WorldModel, opening: Opening, trajectory: Trajectory, tally: Tally) -> None:
    """Every step from the true past; all of them at once, for none waits on another."""
    past = true_past(opening, trajectory)
    asked = [
        Situation(opening, past[:turn], step.state, SEED + turn, Detail.changes)
        for turn, step in enumerate(trajectory.transitions)
    ]
    for turn, said in enumerate(await asyncio.gather(*(_said(world, situation) for situation in asked))):
        tally.add(said, trajectory, turn)


async def _said(world: WorldModel, situation: Situation) -> Forecast | None:
    """One sampled forecast; its odds alone, changes None, if the changes cannot be read; None if nothing can."""
    try:
        return await world.forecast(situation)
    except WorldModelUnavailable:
        return None
    except BadForecast:
        pass
    try:
        odds = await world.forecast(replace(situation, seed=situation.seed + SEED, detail=Detail.odds))
    except (BadForecast, WorldModelUnavailable):
        return None
    return replace(odds, changes=None)


def true_past(opening: Opening, trajectory: Trajectory) -> tuple[Turn, ...]:
    """What happened, as turns of a future: each with what was done next."""
    adverse = opening.domain.outcomes.at_least(opening.domain.adverse_from(opening.action))
    steps = trajectory.transitions
    return tuple(
        Turn(
            Forecast(step.outcome, {}, step.changes, step.observation if step.outcome in adverse else ""), after.action
        )
        for step, after in pairwise(steps)
    )


async def measure(checkpoint: Path, work: Path, count: int) -> dict[str, Any]:
    """Over the first `count` held-out trajectories of every domain; the headline is the mean of the domains'."""
    async with rig(checkpoint, work) as fresh:
        cases = CasesWorldModel(fresh.bank)
        found: dict[str, dict[str, Told]] = {"checkpoint": {}, "cases": {}}
        for domain in catalog().values():
            told = await _domain(fresh, cases, domain, count)
            for name, scored in zip(found, told, strict=True):
                found[name][domain.name] = {key: round(value, 4) for key, value in scored.items()}
    return {
        "fidelity": {name: round(mean(each["fidelity"] for each in by.values()), 4) for name, by in found.items()},
        "fidelity_detail": found,
        "fidelity_trajectories": count,
    }


async def _domain(fresh: Rig, cases: WorldModel, domain: Domain, count: int) -> tuple[Told, Told]:
    model, baseline = Tally(domain), Tally(domain)
    for number in tqdm(range(count), f"{domain.name}: fidelity"):
        trajectory = draw(reference(domain.name), domain, "test", number)[1]
        first = trajectory.transitions[0]
        opening = await fresh.opening(domain, Proposal(domain=domain.name, state=first.state, action=first.action))
        await foresee(fresh.world, opening, trajectory, model)
        await foresee(cases, opening, trajectory, baseline)
    return model.told(), baseline.told()
