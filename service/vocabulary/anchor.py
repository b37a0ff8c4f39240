"""Real recorded states, and what followed them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class AnchorKey:
    """Where to look for a like situation: within a category, near a turn, close in meaning to `text`."""

    category: str
    turn: int
    text: str


@dataclass(frozen=True, slots=True)
class Anchor:
    """A real state at one turn of a recorded trajectory, and what followed.

    `outcome` is the worst that followed within the trajectory; `state` and `changes` are the domain's types as JSON.
    `tenant` is whose it is; the empty one's are shared: reference history that every tenant sees.
    """

    id: str
    domain: str
    key: AnchorKey
    when: datetime
    source: str
    action_kind: str
    outcome: str
    next_outcome: str
    state: Mapping[str, Any]
    changes: Mapping[str, Any]
    observation: str
    summary: str
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """An anchor and how alike it is: cosine similarity in [-1, 1]."""

    anchor: Anchor
    similarity: float
