"""The world model without a language model: it replays what really followed in the nearest recorded cases."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.random import Generator, Philox
from numpy.typing import NDArray
from pydantic import ValidationError

from service.anchors.bank import PRECEDENT_FLOOR, AnchorBank, AnchorBankUnavailable
from service.vocabulary.anchor import AnchorKey, Match
from service.vocabulary.domain import Domain
from service.vocabulary.forecast import Changes, Forecast
from service.vocabulary.outcome import OutcomeScale
from service.world.model import Opening, Situation, WorldModelUnavailable

Floats = NDArray[np.float64]

LIMIT = 25
"""Cases that are asked, none below the precedents' floor; their weight falls fast with their likeness."""

SHARPNESS = 0.05
"""Softmax temperature of cosines: 0.05 less alike, e times lighter."""

OTHER_ACTION = 0.1
"""Weight of a case in which something else was done, beside an equally like one of the same kind of action."""

PRIOR = 0.5
"""Cases' worth of evidence spread evenly over the scale, so that what was never seen is not impossible."""

REMEMBERED = 32

_Search = asyncio.Task[tuple[Match, ...]]
_Key = tuple[str, AnchorKey, str]


class CasesWorldModel:
    """Outcomes by their frequency after the most alike states; the fallback, and the baseline to beat.

    It reads no text, so a masked opening changes nothing. The bank stays its owner's to close.
    """

    name = "cases"

    def __init__(self, bank: AnchorBank) -> None:
        self._bank = bank
        self._searches: OrderedDict[_Key, tuple[Opening, _Search]] = OrderedDict()

    async def forecast(self, situation: Situation) -> Forecast:
        domain = situation.opening.domain
        cases = [match for match in await self._cases(situation) if _on_scale(match, domain.outcomes)]
        if not cases:
            raise WorldModelUnavailable("no recorded cases like this one")
        weights = _weights(cases, situation.action.kind)
        odds = _odds(cases, weights, domain.outcomes)
        chance = _chance(situation)
        outcome = domain.outcomes.names[_drawn(odds, chance)]
        changes, observation = _replayed(cases, weights, outcome, domain, chance)
        return Forecast(outcome, dict(zip(domain.outcomes.names, odds.tolist(), strict=True)), changes, observation)

    @property
    def servers(self) -> Mapping[str, str]:
        return {}

    async def trouble(self) -> str:
        return "" if await self._bank.healthy() else "recorded cases cannot be read"

    async def aclose(self) -> None:
        self._searches.clear()

    async def _cases(self, situation: Situation) -> tuple[Match, ...]:
        """One search for all futures of a tenant that stand in the same place; one that gives up takes it from no other."""
        try:
            return await asyncio.shield(self._search(situation))
        except AnchorBankUnavailable as error:
            raise WorldModelUnavailable(f"recorded cases cannot be read: {error}") from error

    def _search(self, situation: Situation) -> _Search:
        """The search under way, or the one done for this opening: a later evaluation must see what was added since."""
        opening, domain = situation.opening, situation.opening.domain
        anchor_key = domain.anchor_key(situation.state, situation.action)
        key = (domain.name, anchor_key, opening.tenant)
        known = self._searches.get(key)
        if known is not None and _serves(*known, opening):
            return known[1]
        search = asyncio.create_task(self._nearest(domain, anchor_key, opening.tenant))
        self._searches[key] = opening, search
        self._searches.move_to_end(key)
        if len(self._searches) > REMEMBERED:
            self._searches.popitem(last=False)
        return search

    async def _nearest(self, domain: Domain, key: AnchorKey, tenant: str) -> tuple[Match, ...]:
        """History is kept every `anchor_interval` turns: the reach is such that one of them is always near enough."""
        reach = domain.policy.anchor_interval // 2
        return await self._bank.nearest(domain.name, key, LIMIT, PRECEDENT_FLOOR, turns=reach, tenant=tenant)


def _serves(owner: Opening, search: _Search, opening: Opening) -> bool:
    if not search.done():
        return True
    return owner is opening and not search.cancelled() and search.exception() is None


def _on_scale(match: Match, scale: OutcomeScale) -> bool:
    return match.anchor.next_outcome in scale.by_name


def _weights(cases: Sequence[Match], kind: str) -> Floats:
    """Sums to 1; the closest case weighs most."""
    likeness = np.array([case.similarity for case in cases])
    weights: Floats = np.exp((likeness - likeness.max()) / SHARPNESS)
    weights *= [1.0 if case.anchor.action_kind == kind else OTHER_ACTION for case in cases]
    return np.asarray(weights / weights.sum())


def _odds(cases: Sequence[Match], weights: Floats, scale: OutcomeScale) -> Floats:
    """Weighted frequencies in the scale's order; they count for as many cases as share the weight (Kish's size)."""
    odds = np.zeros(len(scale.names))
    np.add.at(odds, [scale.names.index(case.anchor.next_outcome) for case in cases], weights)
    evidence = 1.0 / np.square(weights).sum()
    return np.asarray((odds * evidence + PRIOR / len(odds)) / (evidence + PRIOR))


def _chance(situation: Situation) -> Generator:
    return Generator(Philox(key=np.array([situation.seed % 2**64, len(situation.turns)], np.uint64)))


def _drawn(odds: Floats, chance: Generator) -> int:
    return min(int(np.searchsorted(np.cumsum(odds), chance.random(), side="right")), len(odds) - 1)


def _replayed(
    cases: Sequence[Match], weights: Floats, outcome: str, domain: Domain, chance: Generator
) -> tuple[Changes, str]:
    """What one of the cases with that outcome changed and looked like, drawn by weight; nothing if none can be read."""
    order = np.argsort(-(np.log(weights) + chance.gumbel(size=len(weights))))
    for anchor in (cases[index].anchor for index in order):
        if anchor.next_outcome == outcome:
            try:
                return domain.forecast_type.model_validate(anchor.changes), anchor.observation
            except ValidationError:
                continue
    return domain.forecast_type(), ""
