"""What was said of one domain's held-out steps, beside what happened: scores, and figures of them by category and by turn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from models.validation.figure import Figure, mean
from models.validation.steps import scores
from models.validation.steps.foresight import Said, Step
from models.validation.steps.scores import Floats, Integers
from service.vocabulary.domain import Domain
from service.world.codec import pairs

Told = dict[str, Any]

LEAST_STEPS = 30
"""A category with fewer steps is reported but never called the worst: chance alone would choose it."""


@dataclass(frozen=True)
class Foreseen:
    """A step that could not be foreseen counts as even odds, and changes that cannot be read as none right."""

    domain: Domain
    steps: Sequence[Step]
    said: Sequence[Said]

    @cached_property
    def odds(self) -> Floats:
        names = self.domain.outcomes.names
        even = dict.fromkeys(names, 1 / len(names))
        given = [said.probabilities if said else even for said in self.said]
        return np.array([[each[name] for name in names] for each in given], float).reshape(-1, len(names))

    @cached_property
    def truths(self) -> Integers:
        return np.array([self.domain.outcomes.names.index(step.truth.outcome) for step in self.steps], np.int64)

    @cached_property
    def fidelity(self) -> Floats:
        """1 - the ranked probability score of every step."""
        return 1 - scores.ranked(self.odds, self.truths)

    @property
    def trajectories(self) -> list[str]:
        return [step.trajectory for step in self.steps]

    def at(self, rows: Sequence[int]) -> "Foreseen":
        return Foreseen(self.domain, [self.steps[row] for row in rows], [self.said[row] for row in rows])

    def right(self) -> "Foreseen":
        """Those alone whose sampled outcome happened: what was written there was written of the right thing."""
        both = enumerate(zip(self.said, self.steps, strict=True))
        return self.at([row for row, (said, step) in both if said and said.outcome == step.truth.outcome])

    def mean(self, values: Sequence[float] | Floats) -> Told | None:
        return told(mean(values, self.trajectories))

    def of_odds(self) -> Told:
        by_category = self._by([step.category for step in self.steps])
        return {
            "overall": self.mean(self.fidelity),
            "worst_category": worst(by_category),
            "by_category": {name: figure.told() for name, figure in by_category.items()},
            "by_turn": {
                name: figure.told() for name, figure in self._by([str(step.turn) for step in self.steps]).items()
            },
            "outcome_match": self.mean(scores.top_hits(self.odds, self.truths)),
            "log_loss": self.mean(scores.log_losses(self.odds, self.truths)),
            "brier": self.mean(scores.briers(self.odds, self.truths)),
            "rps": self.mean(1 - self.fidelity),
            "silent": round(sum(said is None for said in self.said) / len(self.said), 4),
        }

    def of_changes(self) -> Told:
        """Jaccard's overlap of what was said to change with what did: fields alone, then fields with their values."""
        said = [set(pairs(each.changes)) if each and each.changes is not None else None for each in self.said]
        true = [set(pairs(step.truth.changes)) for step in self.steps]
        both = list(zip(said, true, strict=True))
        return {
            "changed_fields": self.mean(
                [0.0 if s is None else scores.overlap(_fields(s), _fields(t)) for s, t in both]
            ),
            "changed_values": self.mean([0.0 if s is None else scores.overlap(s, t) for s, t in both]),
            "unread": round(said.count(None) / max(1, len(said)), 4),
        }

    def _by(self, keys: Sequence[str]) -> dict[str, Figure]:
        found = {}
        for key in sorted(set(keys)):
            rows = [row for row, each in enumerate(keys) if each == key]
            found[key] = mean(self.fidelity[rows], [self.steps[row].trajectory for row in rows])
        return found


def worst(by: Mapping[str, Figure]) -> Told | None:
    """The least faithful of those that are large enough. The least of many is low by chance too: read its interval."""
    name = min(
        (name for name, figure in by.items() if figure.n >= LEAST_STEPS), key=lambda name: by[name].value, default=None
    )
    return None if name is None else {"name": name, **by[name].told()}


def told(figure: Figure) -> Told | None:
    """None of nothing: JSON has no NaN."""
    return dict(figure.told()) if figure.n else None


def _fields(changes: set[tuple[str, str]]) -> set[str]:
    return {name for name, _ in changes}
