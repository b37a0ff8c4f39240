"""How much risk depends on what was chosen rather than learnt: temperature, anchor interval, number of recorded cases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from loadtest.statistics import spearman
from models.validation.figure import mean
from models.validation.rig import Rig
from models.validation.trials import Drawn, Trial, raw_lens, rollouts
from service.vocabulary.domain import Domain
from service.world.model import PRECEDENTS, Opening, PromptTooLong


@dataclass(frozen=True, slots=True)
class Setting:
    """One way of asking; None leaves the policy's own."""

    temperature: float | None = None
    anchor_interval: int | None = None
    precedents: int = PRECEDENTS

    def applied(self, opening: Opening) -> Opening:
        policy = opening.domain.policy
        changed = replace(
            policy,
            temperature=self.temperature or policy.temperature,
            anchor_interval=self.anchor_interval or policy.anchor_interval,
        )
        domain: Any = opening.domain
        return replace(
            opening, domain=replace(domain, policy=changed), precedents=opening.precedents[: self.precedents]
        )


NEVER = 1_000
SETTINGS: Mapping[str, Setting] = {
    "as served": Setting(),
    "temperature 0.4": Setting(temperature=0.4),
    "temperature 1.2": Setting(temperature=1.2),
    "anchors every 2": Setting(anchor_interval=2),
    "never grounded": Setting(anchor_interval=NEVER),
    "3 recorded cases": Setting(precedents=3),
    "no recorded cases": Setting(precedents=0),
}


async def measure(rig: Rig, domain: Domain, drawn: Sequence[Drawn]) -> dict[str, Any]:
    """Of every setting: rank correlation with and mean distance from the exact risk, and from the risk as served. Uncalibrated."""
    risks: dict[str, list[float]] = {name: [] for name in SETTINGS}
    exact = []
    for each in tqdm(drawn, f"{domain.name}: sensitivity"):
        opening = await rig.opening(domain, each.proposal)
        try:
            found = {name: await _risk(rig, setting.applied(opening), each) for name, setting in SETTINGS.items()}
        except PromptTooLong:
            continue
        exact.append(each.exact)
        for name, risk in found.items():
            risks[name].append(risk)
    served = np.array(risks["as served"])
    return {
        name: {
            "spearman": round(spearman(found, exact), 4),
            "mean_error": mean(np.abs(np.array(found) - exact)).told(),
            "shift": mean(np.abs(np.array(found) - served)).told(),
        }
        for name, found in risks.items()
    }


async def _risk(rig: Rig, opening: Opening, drawn: Drawn) -> float:
    futures = opening.domain.policy.rollouts
    return Trial(drawn, await rollouts(rig, opening, futures), raw_lens(rig, opening)).raw(futures)
