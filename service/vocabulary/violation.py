"""What makes an imagined future hard to believe: a step that cannot follow from those before it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, pairwise
from typing import Any

from service.vocabulary.rollout import Transition

Sighting = tuple[int, str]
"""The turn (from 0) and what was seen there."""
Detector = Callable[[Sequence[Transition]], Iterator[Sighting]]

STUCK = 5
"""The same line five times running: with the five to ten lines a mild outcome has in the made histories, chance does it
in fewer than 1 of 600 turns; a world that no longer reacts does it always."""


class Kind(StrEnum):
    """The violations that every domain can suffer; each adds its own."""

    problem_drift = "problem_drift"
    contradiction = "contradiction"
    ignored_agent = "ignored_agent"
    status_regression = "status_regression"


@dataclass(frozen=True, slots=True)
class Violation:
    """`turn` counts from 0."""

    turn: int
    kind: str
    seen: str


def violations(detectors: Mapping[str, Detector], steps: Sequence[Transition]) -> tuple[Violation, ...]:
    """Each kind at most once a turn, in order of turns."""
    found = {
        (turn, kind): Violation(turn, kind, seen) for kind, look in detectors.items() for turn, seen in look(steps)
    }
    return tuple(found[at] for at in sorted(found))


def either(*detectors: Detector) -> Detector:
    return lambda steps: chain.from_iterable(look(steps) for look in detectors)


def each_step(look: Callable[[Transition], str]) -> Detector:
    """What can be told of one step by itself; "" is nothing."""
    return lambda steps: ((turn, seen) for turn, step in enumerate(steps) if (seen := look(step)))


def gone_on(ended: Callable[[Transition], str]) -> Detector:
    """Turns that follow although the matter had ended."""

    def look(steps: Sequence[Transition]) -> Iterator[Sighting]:
        for turn, (before, _) in enumerate(pairwise(steps), 1):
            if seen := ended(before):
                yield turn, f"it goes on after: {seen}"

    return look


def backwards(name: str, read: Callable[[Any], float | None]) -> Detector:
    """A count of a state that can only grow, within a step or between two."""

    def look(steps: Sequence[Transition]) -> Iterator[Sighting]:
        states = [(turn, state) for turn, step in enumerate(steps) for state in (step.state, step.next_state)]
        for (_, before), (turn, after) in pairwise((turn, read(state)) for turn, state in states):
            if before is not None and (after is None or after < before):
                yield turn, f"{name} from {before:g} to {after}"

    return look


def stuck(steps: Sequence[Transition]) -> Iterator[Sighting]:
    """The same line over and over, whatever is done."""
    run = 1
    for turn, (before, after) in enumerate(pairwise(steps), 1):
        run = run + 1 if after.observation and after.observation == before.observation else 1
        if run >= STUCK:
            yield turn, f"{run} times running: {after.observation}"
