"""The world model that says what it was told: for tests, documents and load traffic."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import isclose
from typing import Any

from pydantic import ValidationError

from service.vocabulary.domain import Domain
from service.vocabulary.forecast import Forecast
from service.vocabulary.severity import Severity
from service.world.model import BadForecast, Situation


@dataclass(frozen=True, slots=True)
class Line:
    """One step to be said. Without `probabilities` the outcome is certain; those given must sum to 1.

    An empty outcome is the domain's first that neither ends nor harms.
    One that is not on the domain's scale is said all the same: that is how to play a model that babbles.
    """

    outcome: str
    probabilities: Mapping[str, float] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)
    observation: str = ""

    def __post_init__(self) -> None:
        if self.probabilities and not isclose(sum(self.probabilities.values()), 1.0, abs_tol=1e-6):
            raise ValueError(f"the probabilities of a line sum to 1: {dict(self.probabilities)}")


class Silence(Enum):
    """`hang`: no answer, ever; only cancellation ends it."""

    hang = "hang"


Script = Sequence[Line | Exception | Silence]
"""Turn by turn: what to say, what to raise, or to hang. The last one repeats."""


class ScriptedWorldModel:
    """Plays `futures[seed % len(futures)]`, or those of `by_kind` when the action on trial is of that kind.

    `masked` is played instead when free text is withheld. `latency`, in seconds, precedes every answer. `calls` counts
    the forecasts asked for, `cancelled` those that were cancelled before their answer.
    """

    name = "scripted"

    def __init__(
        self,
        *futures: Script,
        by_kind: Mapping[str, Sequence[Script]] | None = None,
        masked: Script | None = None,
        latency: float = 0.0,
    ) -> None:
        self._futures = futures
        self._by_kind = by_kind or {}
        self._masked = masked
        self._latency = latency
        self._closed = False
        self.calls = 0
        self.cancelled = 0

    async def forecast(self, situation: Situation) -> Forecast:
        self.calls += 1
        try:
            return await self._answer(situation)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    @property
    def servers(self) -> Mapping[str, str]:
        return {}

    async def trouble(self) -> str:
        return "the script is closed" if self._closed else ""

    async def aclose(self) -> None:
        self._closed = True

    async def _answer(self, situation: Situation) -> Forecast:
        script = self._script(situation)
        step = script[min(len(situation.turns), len(script) - 1)]
        await asyncio.sleep(self._latency)
        if isinstance(step, Silence):
            await asyncio.Event().wait()
        if isinstance(step, Exception):
            raise step
        assert isinstance(step, Line)
        return _said(step, situation.opening.domain)

    def _script(self, situation: Situation) -> Script:
        if situation.opening.masked and self._masked is not None:
            return self._masked
        futures = self._by_kind.get(situation.opening.action.kind, self._futures)
        return futures[situation.seed % len(futures)]


def _said(line: Line, domain: Domain) -> Forecast:
    outcome = line.outcome or next(o.name for o in domain.outcomes if not o.terminal and o.severity is Severity.none)
    probabilities = dict.fromkeys(domain.outcomes.names, 0.0) | dict(line.probabilities or {outcome: 1.0})
    try:
        changes = domain.forecast_type.model_validate(line.changes)
    except ValidationError as error:
        raise BadForecast(f"the script's changes are not {domain.name}'s: {error}") from error
    return Forecast(outcome, probabilities, changes, line.observation)
