"""A fault put into a history on purpose, to see whether it is found."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from service.vocabulary.domain import Domain
from service.vocabulary.forecast import Forecast
from service.vocabulary.reference import Scenario, Split
from service.vocabulary.rollout import Transition

Steps = tuple[Transition, ...]
Plant = Callable[[Random, Scenario, Steps, Split], Steps | None]
"""The history with one fault in it, told in the words of the recorded histories or in others (`unseen_wording`); None where this
fault has no place. Knows nothing of how faults are looked for."""


def retold(domain: Domain, steps: Sequence[Transition], turn: int, *, said: str = "", **changed: Any) -> Steps:
    """The history with another observation, outcome or changes at one turn, every state after it drawn anew."""
    state, told = steps[0].state, []
    outcome = changed.pop("outcome", steps[turn].outcome)
    for at, step in enumerate(steps):
        if at == turn:
            changes = step.changes.model_copy(update=changed)
            step = replace(step, outcome=outcome, changes=changes, observation=said or step.observation)
        action = domain.continuation(state) if at else step.action
        after = domain.advance(state, action, Forecast(step.outcome, {}, step.changes, step.observation))
        told.append(replace(step, state=state, action=action, next_state=after))
        state = after
    return tuple(told)


def mild(domain: Domain, steps: Sequence[Transition]) -> list[int]:
    """Turns after which the history goes on."""
    return [turn for turn, step in enumerate(steps) if not domain.outcomes[step.outcome].terminal]
