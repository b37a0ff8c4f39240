"""Who may be learnt from and who is judged: by group, never by single records."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Row numbers: the recorded cases (anchors and calibration) and those that are scored."""

    recorded: Rows
    scored: Rows


def rotated(groups: Sequence[Hashable], parts: int, seed: int) -> Iterator[Split]:
    """Each of `parts` equal shares of the groups is scored once, by the others."""
    part = shuffled(groups, parts, seed)
    for number in range(parts):
        yield Split(np.flatnonzero(part != number), np.flatnonzero(part == number))


def by_group(groups: Sequence[Hashable], share: float, seed: int) -> Split:
    """A share of the groups, picked by chance, is scored."""
    part = shuffled(groups, len(set(groups)), seed)
    scored = part < round(share * len(set(groups)))
    return Split(np.flatnonzero(~scored), np.flatnonzero(scored))


def by_time(groups: Sequence[Hashable], when: Sequence[datetime | None], share: float) -> Split:
    """The latest share is scored by what came before; a group that lies on both sides of the cut is in neither.

    Raises ValueError where a time is missing.
    """
    if not all(when):
        raise ValueError("a split by time needs a time in every record")
    times = np.array([each.timestamp() for each in when if each])
    cut = float(np.quantile(times, 1 - share))
    late = times > cut
    early_groups, late_groups = ({group for group, is_late in zip(groups, late, strict=True) if is_late == side}
                                 for side in (False, True))  # fmt: skip
    whole = np.array([not (group in early_groups and group in late_groups) for group in groups])
    return Split(np.flatnonzero(~late & whole), np.flatnonzero(late & whole))


def shuffled(groups: Sequence[Hashable], parts: int, seed: int) -> Rows:
    """The part of each row: groups dealt out evenly in an order of chance."""
    names = list(dict.fromkeys(groups))
    order = np.random.default_rng(seed).permutation(len(names))
    part = {names[name]: place % parts for place, name in enumerate(order)}
    return np.array([part[group] for group in groups], np.int64)
