"""The risk figures of one domain: backtest, calibration, estimator, settling, sensitivity, fairness, all on part `test`."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.validation import backtest, estimator, fairness, sensitivity, settling
from models.validation.backtest import Scored
from models.validation.figure import mean
from models.validation.rig import Rig
from models.validation.trials import Drawn, Trial, draw_trials, play
from service.verdicts.assess import Lens
from service.vocabulary.domain import Domain
from service.vocabulary.reference import Split
from service.world.checkpoint import DomainStory

PART = "test"
Told = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Effort:
    """Proposals a domain for each kind of figure; the first is the headline's."""

    proposals: int = 400
    unseen: int = 120
    settled: int = 100
    asked_otherwise: int = 50
    counted: int = 30

    @classmethod
    def scaled(cls, scale: float) -> "Effort":
        whole = cls()
        return cls(*(max(2, round(getattr(whole, name) * scale)) for name in cls.__slots__))


async def measure(rig: Rig, domain: Domain, effort: Effort) -> Told:
    drawn = draw_trials(domain, PART, effort.proposals)
    story, policy = rig.checkpoint.story(domain.name), domain.policy
    trials = await play(rig, domain, drawn, max(10, policy.rollouts))
    scored = Scored.of(trials, policy, story.calibration)
    counted = await play(rig, domain, drawn[: effort.counted], estimator.MOST, "80 futures")
    return {
        "data_sha256": digest(drawn),
        "backtest": backtest.told(scored, policy) | coverage(scored, domain, trials[0].lens),
        "unseen": {
            split.value: await _unseen(rig, domain, split, effort.unseen)
            for split in (Split.unseen_wording, Split.unseen_family)
        },
        "calibration": {"map": story.calibration, "thresholds": thresholds(trials, scored, domain, story)},
        "estimator": estimator.measure(counted),
        "settling": await settling.measure(rig, domain, drawn[: effort.settled]),
        "sensitivity": await sensitivity.measure(rig, domain, drawn[: effort.asked_otherwise]),
        "fairness": fairness.by_group(domain, trials, scored)
        | {"twins": await fairness.of_twins(rig, domain, drawn[: effort.asked_otherwise])},
    }


async def _unseen(rig: Rig, domain: Domain, split: Split, count: int) -> Told:
    trials = await play(rig, domain, draw_trials(domain, PART, count, split), domain.policy.rollouts, split.value)
    told = backtest.told(Scored.of(trials, domain.policy, rig.checkpoint.story(domain.name).calibration), domain.policy)
    return {name: told[name] for name in ("n", "auroc", "ece_before", "ece_after", "mean_error")}


def coverage(scored: Scored, domain: Domain, lens: Lens) -> Told:
    """How often the exact risk lies in the interval of the futures' noise, and how often in that of the model's own error."""
    bounds = {
        "noise_coverage": [lens.interval(risk, domain.policy.rollouts) for risk in scored.risk],
        "coverage": [lens.own(risk) or (risk, risk) for risk in scored.risk],
    }
    return {
        name: mean([low <= exact <= high for (low, high), exact in zip(each, scored.exact, strict=True)]).told()
        for name, each in bounds.items()
    }


def thresholds(trials: list[Trial], scored: Scored, domain: Domain, story: DomainStory) -> list[Told]:
    """The policy's threshold and those with a promise, each with what it lets through of what followed, and what it stops."""
    happened = np.array([trial.drawn.happened for trial in trials])
    rows: list[tuple[float | None, float]] = [(None, domain.policy.threshold), *story.conformal]
    return [
        {
            "promised": alpha,
            "threshold": threshold,
            "missed": mean(scored.risk[happened] <= threshold).told(),
            "escalated": mean(scored.risk > threshold).told(),
        }
        for alpha, threshold in rows
    ]


def digest(drawn: list[Drawn]) -> str:
    """Of the proposals and what followed, so that two reports can be known to be of the same cases."""
    lines = [
        json.dumps(
            [each.number, each.proposal.model_dump(mode="json", exclude={"bound"}), each.happened], sort_keys=True
        )
        for each in drawn
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
