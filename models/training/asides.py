"""Things said beside the point: a share of the examples is told one more sentence that changes nothing.

Without them the model has never met a remark that bears on nothing, and takes every strange one for a sign.
"""

from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from service.world.codec import ACTION, DOMAIN, FIELD, IS, Codec, fold

Ids = NDArray[np.int64]


class Asides:
    """Knows each domain's remarks and the fields they may stand in."""

    def __init__(self, codec: Codec, share: float) -> None:
        frame = codec.marker_ids
        self._share, self._field, self._is, self._action = share, frame[FIELD], frame[IS], frame[ACTION]
        told = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
        self._asides = {
            (frame[DOMAIN], *codec.text(name)[0]): (
                codec.text(*each["fields"]),
                codec.text(*map(fold, each["remarks"])),
            )
            for name, each in told.items()
        }

    def __call__(self, ids: Ids, worth: Ids, rng: np.random.Generator) -> tuple[Ids, Ids]:
        """The remark is a field of its own, last before the action. A prompt without any free text stays without."""
        head = next((head for head in self._asides if tuple(ids[: len(head)]) == head), None)
        if head is None or rng.random() >= self._share:
            return ids, worth
        names, remarks = self._asides[head]
        told = ids[: int(np.argmax(ids == self._action))]
        if not any(self._holds(told, [self._field, *name, self._is]) for name in names):
            return ids, worth
        name, remark = names[0], remarks[rng.integers(len(remarks))]
        added = np.array([self._field, *name, self._is, *remark])
        at = len(told)
        return np.insert(ids, at, added), np.insert(worth, at, np.zeros(len(added), np.int64))

    @staticmethod
    def _holds(ids: Ids, part: list[int]) -> bool:
        windows = np.lib.stride_tricks.sliding_window_view(ids, min(len(part), len(ids)))
        return bool((windows == np.array(part[: windows.shape[1]])).all(axis=1).any())
