"""A user's own trajectories, one JSON object a line (plain or gzipped):

    {"id": "t-1", "domain": "helpdesk", "source": "service desk", "when": "2026-03-01T08:30:00Z", "transitions":
      [{"state": {...}, "action": {"kind": "...", "text": "..."}, "outcome": "resolved", "changes": {...}, "observation": "..."}]}

State and changes are the domain's own, as `GET /v1/domains/{name}` tells them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, Field

from models.extraction.sources import Rejection, records
from service.domains import catalog
from service.vocabulary.domain import Domain
from service.vocabulary.forecast import Forecast
from service.vocabulary.frozen import Frozen
from service.vocabulary.proposal import Action
from service.vocabulary.rollout import Trajectory, Transition


class Step(Frozen):
    state: dict[str, Any]
    action: Action
    outcome: str
    changes: dict[str, Any] = {}
    observation: str = ""

    def transition(self, domain: Domain) -> Transition:
        state, changes = domain.state_type.model_validate(self.state), domain.forecast_type.model_validate(self.changes)
        reward = domain.outcomes[self.outcome].reward
        after = domain.advance(state, self.action, Forecast(self.outcome, {}, changes, self.observation))
        return Transition(state, self.action, self.outcome, changes, self.observation, after, reward)


class Line(Frozen):
    id: str
    domain: str
    source: str = "recorded"
    when: AwareDatetime
    transitions: tuple[Step, ...] = Field(min_length=1)

    def trajectory(self) -> Trajectory:
        if self.domain not in catalog():
            raise ValueError(f"{self.domain} is not one of {', '.join(catalog())}")
        steps = tuple(step.transition(catalog()[self.domain]) for step in self.transitions)
        return Trajectory(self.id, self.domain, self.source, self.when, steps)


def recorded(*paths: Path) -> Iterator[Trajectory]:
    """Raises ValueError at the first line that cannot be read: what is missing from a training nobody would notice."""
    for path in paths:
        for record in records(path):
            try:
                if isinstance(record, Rejection):
                    raise ValueError(record.reason)
                yield Line.model_validate(record.content).trajectory()
            except ValueError as error:
                raise ValueError(f"{path}:{record.line}: {error}") from error
