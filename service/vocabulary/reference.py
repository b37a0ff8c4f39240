"""A made history with known odds, to learn from and to be judged by until a user brings a real one."""

from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any, Protocol

from service.vocabulary.proposal import Action
from service.vocabulary.rollout import Trajectory


class Split(StrEnum):
    """What a draw may contain. Training and anchors see only `seen`."""

    seen = "seen"
    unseen_wording = "unseen_wording"
    unseen_family = "unseen_family"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A drawn proposal. `said` is all that its text tells, in the process's own terms: exact odds are given that alone."""

    state: Any
    action: Action
    family: str
    said: Any


class Reference(Protocol):
    """A hand-written stochastic process with hidden causes."""

    def scenario(self, rng: Random, split: Split = Split.seen) -> Scenario: ...

    def trajectory(self, rng: Random, scenario: Scenario, horizon: int, id: str) -> Trajectory:
        """One history of the scenario, its hidden cause drawn from what the scenario's text leaves open."""

    def risk(self, rng: Random, scenario: Scenario, horizon: int, samples: int) -> float:
        """P(an adverse outcome within `horizon` steps | what is said, the action), by Monte Carlo."""
