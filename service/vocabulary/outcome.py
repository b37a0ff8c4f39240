"""What may follow an action, and how bad each of it is."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from service.vocabulary.severity import Severity


@dataclass(frozen=True, slots=True)
class Outcome:
    """A named result. `terminal` ends the future in which it happens."""

    name: str
    severity: Severity
    reward: float
    terminal: bool
    meaning: str


class UnknownOutcome(ValueError):
    """An outcome that is not on the domain's scale: a fault, never neutral."""


@dataclass(frozen=True)
class OutcomeScale:
    """A domain's outcomes, mildest first."""

    outcomes: tuple[Outcome, ...]

    def __post_init__(self) -> None:
        severities = [outcome.severity for outcome in self.outcomes]
        if severities != sorted(severities):
            raise ValueError("an outcome scale lists its outcomes mildest first")
        if len(self.by_name) != len(self.outcomes):
            raise ValueError("an outcome scale names each outcome once")

    @cached_property
    def by_name(self) -> Mapping[str, Outcome]:
        return {outcome.name: outcome for outcome in self.outcomes}

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(outcome.name for outcome in self.outcomes)

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self.outcomes)

    def __getitem__(self, name: str) -> Outcome:
        try:
            return self.by_name[name]
        except KeyError:
            raise UnknownOutcome(f"{name!r} is not one of {', '.join(self.names)}") from None

    def at_least(self, severity: Severity) -> tuple[str, ...]:
        return tuple(outcome.name for outcome in self.outcomes if outcome.severity >= severity)
