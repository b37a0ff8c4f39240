"""The seam to whatever imagines: one situation in, one forecast out."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol

from service.vocabulary.anchor import Match
from service.vocabulary.domain import Domain, Fact
from service.vocabulary.forecast import Forecast
from service.vocabulary.proposal import Action

PRECEDENTS = 6
"""How many recorded cases a world model is reminded of."""


@dataclass(frozen=True, slots=True)
class Opening:
    """Where every future of one evaluation begins. `masked` withholds all free text and the precedents.

    `tenant` shares nothing with another's, not even a cache; of two that wait, the lower `rank` goes first.
    """

    domain: Domain
    state: Any
    action: Action
    precedents: tuple[Match, ...] = ()
    masked: bool = False
    tenant: str = ""
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Grounding:
    """What a real state said at this turn: what followed there, and the facts that the imagined state took from it."""

    anchor_id: str
    outcome: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Turn:
    """A step this future has already taken, and what is done next in it."""

    forecast: Forecast
    action: Action
    grounding: Grounding | None = None


class Detail(IntEnum):
    """How much of a step is worth writing; every token costs time. Harm is always written out: someone will read it."""

    odds = 0
    """P(outcome) and the outcome drawn, nothing else."""
    outcome = 1
    """As odds; changes and observation only of an adverse outcome."""
    changes = 2
    """Changes of every step; the observation only of an adverse outcome."""
    prose = 3
    """Everything."""


@dataclass(frozen=True, slots=True)
class Situation:
    """One future, so far. `state` is the current one; equal seeds draw equal chances at equal turns."""

    opening: Opening
    turns: tuple[Turn, ...]
    state: Any
    seed: int
    detail: Detail = Detail.changes

    @property
    def action(self) -> Action:
        return self.turns[-1].action if self.turns else self.opening.action


class WorldModelUnavailable(Exception):
    """The world model cannot answer now: down, overloaded or unreadable."""


class WorldModelOverloaded(WorldModelUnavailable):
    """It works, and has more to do than it can."""


class BadForecast(Exception):
    """One forecast that cannot be read: a fault of its own future, not of its siblings."""


class PromptTooLong(ValueError):
    """What is told about the proposal does not fit the world model's attention."""


class WorldModel(Protocol):
    """Raises `BadForecast`, `PromptTooLong` or `WorldModelUnavailable` and nothing else; stops working as soon as it is cancelled."""

    @property
    def name(self) -> str: ...

    @property
    def servers(self) -> Mapping[str, str]:
        """Those that it asks, by address, each with why it is left alone, empty if it is not; none where it works in process."""

    async def forecast(self, situation: Situation) -> Forecast: ...

    async def trouble(self) -> str:
        """Why it cannot answer now, in words for an operator; empty if it can."""

    async def aclose(self) -> None: ...
