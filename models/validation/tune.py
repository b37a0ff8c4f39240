"""What serving must know of a checkpoint, measured on histories that neither training nor the anchors nor any report contain.

`course`: how hazards usually go on after the first step, and so how to read a future that was cut short. `concentration`: how alike
the futures of one proposal are, and so how much each of them proves. `calibration`: the map from the risk as read to the risk as it
is. `familiar`: how alike the nearest recorded case usually is, and so what counts as unfamiliar. All go into the checkpoint's manifest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from math import floor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from models.training.canary import with_canaries
from models.validation.calibration import ALPHAS, conformal_threshold, fitted, spread
from models.validation.rig import Rig, prepare, proposals, rig
from models.validation.trials import Trial, draw_trials, play
from service.domains import catalog
from service.verdicts.assess import Lens, life_table
from service.verdicts.calibrate import calibration
from service.vocabulary.domain import Domain
from service.vocabulary.rollout import Rollout
from service.world.checkpoint import MANIFEST, Checkpoint, DomainStory
from service.world.tree import Engine

FUTURES = 10
PLAYED, RECALLED = 400, 600
"""Proposals a domain whose futures are played out, and whose nearest recorded case is looked up."""
LEAST, MOST = 1.0, 60.0
LEAST_COURSE = 0.01
UNFAMILIAR, LEEWAY = 0.005, 0.1
"""The share of ordinary proposals that would be unfamiliar, and how much less alike plain words nobody drew may be on top of that."""
PART = "valid"

Group = tuple[Sequence[Rollout], Lens]
"""The whole futures of one proposal, and how they are read."""


async def tune(checkpoint: Path, work: Path, history: int, played: int, recalled: int) -> dict[str, DomainStory]:
    """Writes the stories into the manifest and returns them."""
    await prepare(work, history)
    async with rig(checkpoint, work) as fresh:
        stories = {}
        for domain in catalog().values():
            likeness = await likenesses(fresh, domain, recalled)
            trials = await play(fresh, domain, draw_trials(domain, PART, played), FUTURES)
            stories[domain.name] = story(domain, trials, fresh.checkpoint.story(domain.name), familiar(likeness))
        return keep(checkpoint, stories, fresh.checkpoint)


def keep(folder: Path, stories: Mapping[str, DomainStory], opened: Checkpoint) -> dict[str, DomainStory]:
    """The stories into the manifest, with what shows other weights up."""
    engine = Engine(opened.graph)
    told = with_canaries(stories, opened.codec, lambda prompt: engine.tree(prompt, 0).prompt_logits)
    manifest = opened.manifest.model_copy(update={"domains": told})
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
    return told


def story(domain: Domain, trials: Sequence[Trial], before: DomainStory, familiar: float) -> DomainStory:
    """The course first, for the risk is read with it; then the map, on risks so read; then thresholds, on mapped risks."""
    groups = [(whole, trial.lens) for trial in trials if len(whole := _whole(trial)) > 1]
    usual = course(groups, domain.policy.horizon)
    read = [replace(trial, lens=replace(trial.lens, course=usual)) for trial in trials]
    raw = np.array([trial.raw(domain.policy.rollouts) for trial in read])
    exact = np.array([trial.drawn.exact for trial in read])
    points = fitted(raw, exact)
    mapped = np.array(list(map(calibration(points), raw)))
    adverse = mapped[[trial.drawn.happened for trial in read]]
    promised = [(alpha, conformal_threshold(adverse, alpha)) for alpha in ALPHAS]
    return before.model_copy(
        update={
            "concentration": round(concentration([(whole, replace(lens, course=usual)) for whole, lens in groups]), 2),
            "spread": spread(mapped, exact),
            "course": usual,
            "familiar": round(familiar, 3),
            "calibration": points,
            "conformal": tuple((alpha, floor(most * 1e4) / 1e4) for alpha, most in promised if most is not None),
        }
    )


def _whole(trial: Trial) -> list[Rollout]:
    return [rollout for rollout in trial.rollouts if rollout.ending.whole]


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


def concentration(groups: Sequence[Group]) -> float:
    """c of q ~ Beta(pc, (1-p)c): how alike the futures of one proposal are, as the life table reads them.

    Of each group the table's own variance is taken by the jackknife (leave one future out); n times it is that of a single
    future, and p(1-p) over that, less 1, is c. Sums are pooled over the groups. The table of n futures is off by its
    own variance, which is why that is added back to p(1-p).
    """
    if not groups:
        return DomainStory().concentration
    found = np.array([_spread(*group) for group in groups])
    risks, variances, counts = found.T
    room = (risks * (1 - risks) + variances).sum()
    return float(np.clip(room / max((counts * variances).sum(), 1e-12) - 1, LEAST, MOST))


def _spread(rollouts: Sequence[Rollout], lens: Lens) -> tuple[float, float, int]:
    """The table's risk, its variance by the jackknife, and the number of futures."""
    count = len(rollouts)
    without = [life_table([*rollouts[:i], *rollouts[i + 1 :]], lens).adverse for i in range(count)]
    variance = (count - 1) * float(np.var(without))
    return life_table(rollouts, lens).adverse, variance, count


async def likenesses(fresh: Rig, domain: Domain, count: int) -> list[float]:
    """The cosine to the nearest recorded case; 0 where nothing comes near enough to be recalled."""
    found = []
    for proposal in tqdm(islice(proposals(domain, "valid"), count), f"{domain.name}: likeness", count):
        matches = await fresh.recall(domain, proposal)
        found.append(matches[0].similarity if matches else 0.0)
    return found


def familiar(likenesses: Sequence[float]) -> float:
    return float(np.quantile(likenesses, UNFAMILIAR)) - LEEWAY
