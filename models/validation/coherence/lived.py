"""Imagined futures that were looked through, and the figures of many of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from models.validation.coherence.detectors import HORIZON
from models.validation.figure import mean
from service.vocabulary.rollout import Ending, Rollout
from service.vocabulary.violation import Violation

INTERVALS = (2, 4, 5, 8, HORIZON + 1)
OFF = INTERVALS[-1]
BANDS = ((1, 5), (6, 10), (11, 15), (16, 20))
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Lived:
    """One future of an opening at one interval, and what is wrong with it."""

    opening: tuple[str, int]
    interval: int
    rollout: Rollout
    wrong: tuple[Violation, ...]
    bank_late: bool = False

    def turns(self, first: int = 1, last: int = HORIZON) -> range:
        """Turns lived in a band, from 0."""
        return range(first - 1, min(last, len(self.rollout.steps)))

    def sound(self, turn: int) -> bool:
        return all(each.turn != turn for each in self.wrong)


def told(lived: Sequence[Lived], usual: set[int]) -> dict[str, Any]:
    """All figures of some futures; `usual` is the interval that serves."""
    served = [each for each in lived if each.interval in usual]
    free = [each for each in lived if each.interval == OFF]
    arms = {"anchored": served, "unanchored": free}
    return {
        **{name: consistent(each) for name, each in arms.items()},
        **{f"{name}_turns_16_20": consistent(each, *BANDS[-1]) for name, each in arms.items()},
        "by_interval": {
            "off" if interval == OFF else str(interval): arm([each for each in lived if each.interval == interval])
            for interval in INTERVALS
        },
        "by_band": {
            name: {f"{first}-{last}": consistent(each, first, last) for first, last in BANDS}
            for name, each in arms.items()
        },
        "by_kind": {name: by_kind(each) for name, each in arms.items()},
    }


def consistent(lived: Sequence[Lived], first: int = 1, last: int = HORIZON) -> dict[str, float | int]:
    """Share of the turns of a band that are sound."""
    turns = [(each.opening, each.sound(turn)) for each in lived for turn in each.turns(first, last)]
    return mean([sound for _, sound in turns], [opening for opening, _ in turns]).told()


def arm(lived: Sequence[Lived]) -> dict[str, Any]:
    """One interval: its turns, its whole futures, how many of the turns due were grounded, and how many futures broke off.

    Where the bank was late, a future went on ungrounded.
    """
    due = [(each.opening, turn, each) for each in lived for turn in each.turns() if turn and turn % each.interval == 0]
    grounded = [each.rollout.steps[turn].grounded_by is not None for _, turn, each in due]
    return {
        "turns": consistent(lived),
        "turns_16_20": consistent(lived, *BANDS[-1]),
        "rollouts": _share(lived, lambda each: not each.wrong),
        "faults": _share(lived, lambda each: each.rollout.ending is Ending.fault),
        "grounded": mean(grounded, [opening for opening, _, _ in due]).told(),
        "bank_late": _share(lived, lambda each: each.bank_late),
        "reached": {f"{first}-{last}": sum(len(each.turns(first)) > 0 for each in lived) for first, last in BANDS},
    }


def _share(lived: Sequence[Lived], holds: Callable[[Lived], bool]) -> dict[str, float | int]:
    return mean([holds(each) for each in lived], [each.opening for each in lived]).told()


def by_kind(lived: Sequence[Lived]) -> dict[str, Any]:
    """Share of all turns that suffer each kind, and a few that do, in words."""
    kinds = sorted({wrong.kind for each in lived for wrong in each.wrong})
    turns = [(each, turn) for each in lived for turn in each.turns()]
    return {
        kind: {
            "turns": mean(
                [any((wrong.turn, wrong.kind) == (turn, kind) for wrong in each.wrong) for each, turn in turns],
                [each.opening for each, _ in turns],
            ).told(),
            "seen": [wrong.seen for each in lived for wrong in each.wrong if wrong.kind == kind][:SHOWN],
        }
        for kind in kinds
    }
