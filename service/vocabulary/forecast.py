"""What the world model writes for one step."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.vocabulary.frozen import Frozen


class Changes(Frozen):
    """What differs after a step. Each domain has its own type; every field has a default that means "no change"."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """One step of one future.

    `probabilities` holds P(outcome) for every outcome of the scale, summing to 1, read given state and action alone,
    before anything else of the step was written. `outcome` is the one sampled; `changes` and `observation` follow it.
    `mass` is how much of all its probability the model had put on outcomes, before they were made to sum to 1.
    `ids` are the tokens it was written in, if a language model wrote it: to continue a future they are resent as they are.
    """

    outcome: str
    probabilities: Mapping[str, float]
    changes: Any
    observation: str = ""
    ids: tuple[int, ...] = ()
    mass: float = 1.0
