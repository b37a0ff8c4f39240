"""What each system foretells of real cases, by others of the same history.

`cases`       what followed in the nearest recorded cases
`checkpoint`  the weights as shipped, reminded of the nearest recorded cases; nothing of it is fitted but the calibration
`both`        these two, stacked
`probe`       logistic regression of words, bands, pairs of codes and the sentence vector, fitted on the recorded cases
`combined`    cases, checkpoint and probe, stacked
`baseline`    TF-IDF of words and word pairs with logistic regression, fitted on the recorded cases

The calibrations and stacks are fitted on recorded cases, each foretold by those of other parts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from models.extraction.extract import Case
from models.extraction.split import Split, rotated
from models.validation.histories import linear
from models.validation.histories.neighbours import Nearest, Readings
from models.validation.histories.stacking import LOOSE, TIGHT, fitted
from service.verdicts.assess import Lens
from service.vocabulary.anchor import Anchor, Match
from service.vocabulary.domain import Domain
from service.world.model import PRECEDENTS, BadForecast, Detail, Opening, PromptTooLong, Situation, WorldModel

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Risks = dict[str, Floats]

FOLDS = 5
CALIBRATION = 1_000
"""Recorded cases, at most, on which calibrations and stacks are fitted."""
ALONE = ("cases", "checkpoint", "probe", "baseline")
STACKED: Mapping[str, tuple[str, ...]] = {
    "both": ("cases", "checkpoint"),
    "combined": ("cases", "checkpoint", "probe"),
}
NAMES = ("cases", "checkpoint", "both", "probe", "combined", "baseline")
UNKNOWN = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class History:
    """The cases of one question, and what is read of each: words and bands, pairs of codes, the sentence vector."""

    domain: Domain
    cases: Sequence[Case]
    adverse: Floats
    groups: Rows
    words: Sequence[list[str]]
    pairs: Sequence[list[str]]
    dense: NDArray[np.float32] | None

    @classmethod
    def of(cls, domain: Domain, cases: Sequence[Case], dense: NDArray[np.float32] | None) -> "History":
        adverse = np.array([case.adverse for case in cases], float)
        order = {group: number for number, group in enumerate(dict.fromkeys(case.group for case in cases))}
        groups = np.array([order[case.group] for case in cases], np.int64)
        words = [linear.tokens(case, domain) for case in cases]
        return cls(domain, cases, adverse, groups, words, [linear.pairs(case) for case in cases], dense)


@dataclass(frozen=True)
class Foretold:
    """Calibrated risks of the scored rows by system, the weights of the stacks, and what the checkpoint could not read."""

    rows: Rows
    risks: Risks
    weights: Mapping[str, Mapping[str, float]]
    unread: int


async def foretell(history: History, split: Split, world: WorldModel, seed: int) -> Foretold:
    groups = [history.cases[row].group for row in split.recorded]
    kept = np.random.default_rng(seed).permutation(len(groups))[:CALIBRATION]
    crossed: Risks = {name: np.empty(len(groups)) for name in ALONE}
    for fold in rotated(groups, min(FOLDS, len(set(groups))), seed):
        asked = np.intersect1d(fold.scored, kept)
        alone = await _alone(history, split.recorded[fold.recorded], split.recorded[asked], world)
        for name, risk in alone.items():
            crossed[name][asked] = risk
    raw = await _alone(history, split.recorded, split.scored, world)
    unread = int(np.isnan(raw["checkpoint"]).sum())
    calibration = {name: risk[kept] for name, risk in crossed.items()}
    risks, weights = _calibrated(calibration, raw, history.adverse[split.recorded[kept]])
    return Foretold(split.scored, risks, weights, unread)


def _calibrated(crossed: Risks, raw: Risks, adverse: Floats) -> tuple[Risks, dict[str, dict[str, float]]]:
    """What cannot be read says as much as the overall frequency: nothing."""
    seen, told, weights = {}, {}, {}
    for name in ALONE:
        typical = float(np.nanmean(crossed[name])) if not np.isnan(crossed[name]).all() else 0.5
        filled = [np.where(np.isnan(each[name]), typical, each[name]) for each in (crossed, raw)]
        map_ = fitted(filled[:1], adverse, LOOSE)
        seen[name], told[name] = map_(filled[:1]), map_(filled[1:])
    for name, parts in STACKED.items():
        stack = fitted([seen[part] for part in parts], adverse, TIGHT)
        told[name] = stack([told[part] for part in parts])
        weights[name] = {part: round(float(weight), 3) for part, weight in zip(parts, stack.weights, strict=True)}
    return told, weights


async def _alone(history: History, recorded: Rows, asked: Rows, world: WorldModel) -> Risks:
    """Every system by itself, of the asked rows, by the recorded ones."""
    adverse = history.adverse
    words, pairs = (linear.rarity(told, recorded) for told in (history.words, history.pairs))
    sparse = words if pairs is None else linear.beside([words, pairs]) * np.sqrt(0.5)
    near = Readings(sparse, history.dense, history.groups).nearest(asked, recorded)
    return {
        "cases": near.risk(adverse, float(adverse[recorded].mean())),
        "checkpoint": await _checkpoint(history, asked, near, world),
        "probe": linear.risks(linear.beside([words, pairs, history.dense]), recorded, adverse)[asked],
        "baseline": linear.baseline(history.cases, recorded, adverse)[asked],
    }


async def _checkpoint(history: History, asked: Rows, near: Nearest, world: WorldModel) -> Floats:
    """P(as bad as the adverse outcome, or worse) at the first step; NaN where the checkpoint cannot read the case."""
    found = []
    for place, row in enumerate(tqdm(asked, "checkpoint", leave=False, disable=None)):
        pairs = zip(near.rows[place, :PRECEDENTS], near.meaning[place, :PRECEDENTS], strict=True)
        precedents = tuple(Match(anchor(history.domain, history.cases[other]), float(alike)) for other, alike in pairs)
        case = history.cases[row]
        found.append(await _hazard(world, Opening(history.domain, case.state, case.action, precedents), case))
    return np.array(found)


async def _hazard(world: WorldModel, opening: Opening, case: Case) -> float:
    lens = Lens(opening.domain.outcomes, opening.domain.outcomes[case.harm].severity)
    try:
        forecast = await world.forecast(Situation(opening, (), opening.state, 0, Detail.odds))
    except (BadForecast, PromptTooLong):
        return float("nan")
    return lens.hazard(forecast.probabilities)


def anchor(domain: Domain, case: Case) -> Anchor:
    return Anchor(
        id=case.id,
        domain=domain.name,
        key=domain.anchor_key(case.state, case.action),
        when=case.when or UNKNOWN,
        source="history",
        action_kind=case.action.kind,
        outcome=case.outcome,
        next_outcome=case.outcome,
        state={},
        changes={},
        observation="",
        summary=case.action.text,
    )
