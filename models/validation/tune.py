"""What serving must know of a checkpoint, measured on histories that neither training nor the anchors contain.

`concentration`: how alike the futures of one proposal are, and so how much each of them proves. `familiar`: how alike the
nearest recorded case usually is, and so what counts as unfamiliar. `course`: how hazards usually go on after the first step,
and so how to read a future that was cut short. All go into the checkpoint's manifest.
"""

import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from models.validation.rig import Rig, prepare, proposals, rig, seeds
from service.deadline import Deadline
from service.domains import catalog
from service.simulator.anchored import AnchoredSimulator
from service.verdicts.assess import Lens
from service.vocabulary.domain import Domain
from service.vocabulary.rollout import Rollout
from service.world.checkpoint import MANIFEST, DomainStory, Manifest

FUTURES = 10
PLAYED, RECALLED = 120, 600
"""Proposals a domain whose futures are played out, and whose nearest recorded case is looked up."""
LEAST, MOST = 1.0, 60.0
LEAST_COURSE = 0.01
UNFAMILIAR, LEEWAY = 0.005, 0.1
"""The share of ordinary proposals that would be unfamiliar, and how much less alike plain words nobody drew may be on top of that."""
PATIENCE_MS = 60_000.0


async def tune(checkpoint: Path, work: Path, history: int, played: int, recalled: int) -> dict[str, DomainStory]:
    """Writes the stories into the manifest and returns them; the calibration map stays what it was."""
    await prepare(work, history)
    async with rig(checkpoint, work) as fresh:
        stories = {}
        for domain in catalog().values():
            futures = await played_out(fresh, domain, played)
            told = {
                "concentration": round(concentration([risks(*group) for group in futures]), 2),
                "course": course(futures, domain.policy.horizon),
                "familiar": round(familiar(await likenesses(fresh, domain, recalled)), 3),
            }
            stories[domain.name] = fresh.checkpoint.story(domain.name).model_copy(update=told)
    path = checkpoint / MANIFEST
    manifest = Manifest.model_validate_json(path.read_text()).model_copy(update={"domains": stories})
    path.write_text(manifest.model_dump_json(indent=2) + "\n")
    return stories


Group = tuple[Sequence[Rollout], Lens]
"""The whole futures of one proposal, and how they are read."""


async def played_out(fresh: Rig, domain: Domain, count: int) -> list[Group]:
    found: list[Group] = []
    for proposal in tqdm(islice(proposals(domain, "valid"), count), f"{domain.name}: futures", count):
        opening = await fresh.opening(domain, proposal)
        deadline = Deadline.after(PATIENCE_MS, time.monotonic)
        played = await AnchoredSimulator(fresh.world, fresh.bank).simulate(opening, seeds(FUTURES), deadline)
        whole = [rollout for rollout in played.rollouts if rollout.ending.whole]
        if len(whole) > 1:
            found.append((whole, fresh.lens(opening)))
    return found


def risks(rollouts: Sequence[Rollout], lens: Lens) -> list[float]:
    """1 - prod(1 - h) of each future. One that went wrong early is carried on at the hazard of those still at risk.

    Otherwise a future would look safe for having met its harm soon, and futures would look less alike than they are.
    """
    steps = range(max(len(rollout.steps) for rollout in rollouts))
    hazards = [[lens.hazard(step.probabilities) for step in rollout.steps] for rollout in rollouts]
    means = [float(np.mean([row[step] for row in hazards if step < len(row)])) for step in steps]
    wrong = [lens.went_wrong(rollout) for rollout in rollouts]
    rows = [row + means[len(row) :] if bad else row for row, bad in zip(hazards, wrong, strict=True)]
    return [float(1 - np.prod([1 - hazard for hazard in row])) for row in rows]


def course(groups: Sequence[Group], horizon: int) -> tuple[float, ...]:
    """The hazard at each step against the same future's first, over all futures still at risk there."""
    hazards = [
        [lens.hazard(step.probabilities) for step in rollout.steps] for rollouts, lens in groups for rollout in rollouts
    ]
    ratios = []
    for step in range(horizon):
        alive = [row for row in hazards if step < len(row)]
        first = sum(row[0] for row in alive)
        ratios.append(max(LEAST_COURSE, round(sum(row[step] for row in alive) / first, 4)) if first else 1.0)
    return tuple(ratios)


def concentration(groups: Sequence[Sequence[float]]) -> float:
    """c of q ~ Beta(pc, (1-p)c) within each group of futures: p(1-p) / var - 1, both sums pooled over the groups.

    The mean of n futures is off by its own variance, which is why var / n is added back to p(1-p).
    """
    if not groups:
        return DomainStory().concentration
    variances = np.array([np.var(group, ddof=1) for group in groups])
    means = np.array([np.mean(group) for group in groups])
    room = (means * (1 - means) + variances / [len(group) for group in groups]).sum()
    return float(np.clip(room / max(variances.sum(), 1e-12) - 1, LEAST, MOST))


async def likenesses(fresh: Rig, domain: Domain, count: int) -> list[float]:
    """The cosine to the nearest recorded case; 0 where nothing comes near enough to be recalled."""
    found = []
    for proposal in tqdm(islice(proposals(domain, "valid"), count), f"{domain.name}: likeness", count):
        matches = await fresh.recall(domain, proposal)
        found.append(matches[0].similarity if matches else 0.0)
    return found


def familiar(likenesses: Sequence[float]) -> float:
    return float(np.quantile(likenesses, UNFAMILIAR)) - LEEWAY
