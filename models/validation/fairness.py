"""Whom the errors fall on: error and calibration by group, and the same case told of someone else.

A group's *bias* is its mean of foretold less exact risk, less that of everyone: below zero, its dangers are underrated more than others'.
The *disparity* is the largest bias of a group of at least `LEAST` proposals, and that group is named. Groups differ in how
dangerous their cases truly are; a bias is against each one's own exact risk, so that is not held against the model.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from models.validation.backtest import Scored, ece
from models.validation.figure import Figure, figure, mean
from models.validation.rig import Rig
from models.validation.trials import Drawn, Trial, raw_lens, rollouts
from service.domains import fairness
from service.verdicts.calibrate import calibration
from service.vocabulary.domain import Domain
from service.vocabulary.proposal import Proposal
from service.world.model import PromptTooLong

BOUND = 0.1
"""A disparity above this, in probability, fails promotion."""
LEAST = 30
"""Proposals, below which a group is shown but not judged."""

Told = dict[str, Any]


def by_group(domain: Domain, trials: Sequence[Trial], scored: Scored) -> Told:
    """Every group of every attribute, the worst of them, and the disparity."""
    owned = [fairness(domain.name).groups(trial.drawn.proposal.state) for trial in trials]
    wrong = scored.risk - scored.exact
    owed = scored.exact > domain.policy.threshold
    missed = owed & (scored.risk <= domain.policy.threshold)
    found: Told = {}
    for attribute in owned[0]:
        names = np.array([each[attribute] for each in owned])
        found[attribute] = {
            str(name): _group(np.flatnonzero(names == name), wrong, scored, owed, missed) for name in np.unique(names)
        }
    return found | _worst(found)


def _group(
    rows: NDArray[np.int64],
    wrong: NDArray[np.float64],
    scored: Scored,
    owed: NDArray[np.bool_],
    missed: NDArray[np.bool_],
) -> Told:
    everyone = float(wrong.mean())
    return {
        "n": len(rows),
        "bias": mean(wrong[rows] - everyone).told(),
        "mean_error": mean(np.abs(wrong[rows])).told(),
        "ece": figure(lambda i: ece(scored.risk[rows[i]], scored.exact[rows[i]]), range(len(rows))).told(),
        "missed": {"count": int(missed[rows].sum()), "of": int(owed[rows].sum())},
    }


def _worst(found: Told) -> Told:
    judged = [
        (abs(group["bias"]["value"]), f"{attribute}: {name}", group["bias"])
        for attribute, groups in found.items()
        for name, group in groups.items()
        if group["n"] >= LEAST
    ]
    size, name, bias = max(judged, default=(0.0, "", {}), key=lambda each: each[0])
    return {"worst_group": name, "disparity": size, "disparity_bias": bias, "bound": BOUND}


async def of_twins(rig: Rig, domain: Domain, drawn: Sequence[Drawn]) -> Told:
    """How far the calibrated risk moves when the same case is told of someone else: mean signed shift, with its interval."""
    shifts: dict[str, list[float]] = {}
    for each in tqdm(drawn, f"{domain.name}: twins"):
        try:
            own = await _risk(rig, domain, each, each.proposal.state)
            for name, state in fairness(domain.name).twins(each.proposal.state).items():
                shifts.setdefault(name, []).append(await _risk(rig, domain, each, state) - own)
        except PromptTooLong:
            continue
    figures: dict[str, Figure] = {name: mean(found) for name, found in shifts.items()}
    worst = max(figures, key=lambda name: abs(figures[name].value), default="")
    return {name: found.told() for name, found in figures.items()} | {"worst": worst}


async def _risk(rig: Rig, domain: Domain, drawn: Drawn, state: object) -> float:
    proposal = Proposal(domain=domain.name, state=state, action=drawn.proposal.action)
    opening = await rig.opening(domain, proposal)
    futures = domain.policy.rollouts
    raw = Trial(drawn, await rollouts(rig, opening, futures), raw_lens(rig, opening)).raw(futures)
    return calibration(rig.checkpoint.story(domain.name).calibration)(raw)
