"""Lines that are no language: what a small world model writes when it is far from all it was trained on.

A world model that learned from the made history has no other words than that history's. A line with two neighbouring words that
never stand side by side there ("User can so far.") is garbled. Of a model with words of its own this proves nothing: leave it out.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from random import Random

from service.anchors.history import draw
from service.domains import catalog, reference
from service.vocabulary.domain import Domain
from service.vocabulary.planted import Plant, Steps, retold
from service.vocabulary.reference import Scenario, Split
from service.vocabulary.violation import Detector, each_step

KIND = "garbled"
RECORDED = 1_500
HORIZON = 5


@cache
def recorded_lines(domain: str) -> tuple[str, ...]:
    """Every line of the made history that enough of it shows, in either wording, in order of the alphabet."""
    process, field = reference(domain), catalog()[domain]
    drawn = (draw(process, field, "bundled", number, list(Split)[number % 2], HORIZON) for number in range(RECORDED))
    return tuple(sorted({step.observation for _, told in drawn for step in told.transitions}))


def _neighbours(line: str) -> Iterator[tuple[str, str]]:
    return pairwise(("", *re.findall(r"[\w'&-]+", line.lower()), ""))


def garbled(lines: Iterable[str]) -> Detector:
    """Lines unlike all that were recorded."""
    known = {pair for line in lines for pair in _neighbours(line)}
    return each_step(lambda step: step.observation if not known.issuperset(_neighbours(step.observation)) else "")


def scrambling(domain: Domain, lines: Sequence[str]) -> Plant:
    """Two recorded lines run into one another in mid-sentence."""

    def plant(rng: Random, scenario: Scenario, steps: Steps, wording: Split) -> Steps | None:
        first, second = (rng.choice(lines).split() for _ in range(2))
        line = " ".join(
            (*first[: rng.randint(1, max(1, len(first) - 1))], *second[rng.randint(1, max(1, len(second) - 1)) :])
        )
        return retold(domain, steps, rng.randrange(len(steps)), said=line) if line not in lines else None

    return plant
