"""Chains of steps: those that happened and those that were imagined."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from service.vocabulary.proposal import Action


@dataclass(frozen=True, slots=True)
class Transition:
    """One step: from a state, through an action, to what followed.

    `odds` is known only of a made history: P(outcome) given what was told, at the first step; given the hidden cause too, later.
    """

    state: Any
    action: Action
    outcome: str
    changes: Any
    observation: str
    next_state: Any
    reward: float
    odds: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Transitions that happened, with where and when they were recorded."""

    id: str
    domain: str
    source: str
    when: datetime
    transitions: tuple[Transition, ...]


class Ending(StrEnum):
    """Why a future stopped: a word, never a pair of booleans."""

    terminal = "terminal"
    horizon = "horizon"
    deadline = "deadline"
    settled = "settled"
    fault = "fault"

    @property
    def whole(self) -> bool:
        """Only a future that ran to its own end is evidence of safety."""
        return self in (Ending.terminal, Ending.horizon)


@dataclass(frozen=True, slots=True)
class Imagined:
    """One imagined step: a transition, the odds it was drawn from, the anchor that grounded it, if any, and what it took to write.

    A step that no language model wrote counts as one token. `mass` is as in a `Forecast`.
    """

    transition: Transition
    probabilities: Mapping[str, float]
    grounded_by: str | None = None
    tokens: int = 1
    mass: float = 1.0


@dataclass(frozen=True, slots=True)
class Rollout:
    """One imagined future."""

    seed: int
    steps: tuple[Imagined, ...]
    ending: Ending
    fault: str = ""

    @property
    def outcomes(self) -> tuple[str, ...]:
        return tuple(step.transition.outcome for step in self.steps)
