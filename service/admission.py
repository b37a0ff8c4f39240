"""How much work may be promised at once, so that nothing admitted overruns its deadline."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from service.errors import Overloaded


class Effort(StrEnum):
    """All futures; only as many as a quorum needs; only what recorded history says."""

    full = "full"
    quorum = "quorum"
    history = "history"


@dataclass(eq=False)
class Admission:
    """Counts the evaluations under way. The limits are numbers of evaluations."""

    full: int = 4
    quorum: int = 8
    history: int = 32
    active: int = 0

    @contextmanager
    def admit(self) -> Iterator[Effort]:
        """Raises `Overloaded` when not even history could be asked in time."""
        if self.active >= self.history:
            raise Overloaded("too many evaluations are under way", retry_after=1)
        self.active += 1
        try:
            yield (
                Effort.full
                if self.active <= self.full
                else Effort.quorum
                if self.active <= self.quorum
                else Effort.history
            )
        finally:
            self.active -= 1
