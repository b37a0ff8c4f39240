"""What stopping early changes, which must be no ruling, and what it saves."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from models.validation.figure import mean
from models.validation.rig import Rig, seeds
from models.validation.trials import PATIENCE_MS, Drawn
from service.deadline import Deadline
from service.verdicts.assess import assess
from service.verdicts.rule import rule
from service.verdicts.settle import settled
from service.vocabulary.domain import Domain
from service.vocabulary.verdict import Basis, Verdict
from service.world.model import Opening, PromptTooLong


async def measure(rig: Rig, domain: Domain, drawn: Sequence[Drawn]) -> dict[str, Any]:
    """The same seeds with and without settling; `saved` is the share of written tokens that settling spared."""
    flips, shifts, spent = [], [], []
    for each in tqdm(drawn, f"{domain.name}: settling"):
        opening = await rig.opening(domain, each.proposal)
        try:
            whole, tokens = await _ruled(rig, opening, settle=False)
            short, fewer = await _ruled(rig, opening, settle=True)
        except PromptTooLong:
            continue
        flips.append(whole.ruling is not short.ruling)
        assert whole.assessment is not None and short.assessment is not None
        shifts.append(abs(whole.assessment.adverse_probability - short.assessment.adverse_probability))
        spent.append((tokens, fewer))
    tokens, fewer = np.array(spent, float).T
    return {
        "n": len(flips),
        "verdict_flips": int(sum(flips)),
        "risk_shift": mean(shifts).told(),
        "saved": round(float(1 - fewer.sum() / tokens.sum()), 4),
    }


async def _ruled(rig: Rig, opening: Opening, settle: bool) -> tuple[Verdict, int]:
    """The ruling, and how many tokens it took."""
    domain, lens = opening.domain, rig.lens(opening)
    stop = partial(settled, policy=domain.policy, lens=lens) if settle else lambda _: False
    before = rig.world.tokens_written
    deadline = Deadline.after(PATIENCE_MS, time.monotonic)
    simulator = rig.simulator
    played = await simulator.simulate(opening, seeds(domain.policy.rollouts), deadline, settled=stop)
    assessment = assess(played.rollouts, domain.policy.rollouts, lens)
    return rule(assessment, domain.policy, Basis.simulated), rig.world.tokens_written - before
