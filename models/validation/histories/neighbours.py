"""What followed in the most alike recorded cases, where likeness is part meaning, part the very words and codes.

Meaning is the cosine of sentence vectors; words and codes are compared by their rarity (TF-IDF). Neither alone is as good on
short texts. The mean over several neighbourhoods did better than the one that leaving groups out would choose (LOG.md).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import expit, logit

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

MEANING = 0.4
"""Its share in likeness."""
NEIGHBOURHOODS = ((25, 0.1), (50, 0.2), (100, 0.1), (200, 0.1))
"""So many cases, and how sharply their weight falls: this much less alike, e times lighter."""
LIMIT = max(size for size, _ in NEIGHBOURHOODS)
PRIOR = 2.0
"""Cases' worth of the overall frequency mixed in."""
CHUNK = 512


@dataclass(frozen=True)
class Readings:
    """Every case as it is compared, in unit rows. `dense` is None where there is nothing to mean anything."""

    sparse: csr_matrix
    dense: NDArray[np.float32] | None
    groups: NDArray[np.int64]

    def nearest(self, asked: Rows, recorded: Rows) -> "Nearest":
        """Nobody is told of their own group."""
        found = [self._nearest(asked[at : at + CHUNK], recorded) for at in range(0, len(asked), CHUNK)]
        return Nearest(
            *(np.concatenate([getattr(each, name) for each in found]) for name in ("rows", "likeness", "meaning"))
        )

    def _nearest(self, asked: Rows, recorded: Rows) -> "Nearest":
        alike = np.asarray((self.sparse[asked] @ self.sparse[recorded].T).todense(), np.float32)
        meaning = alike if self.dense is None else self.dense[asked] @ self.dense[recorded].T
        alike = (1 - MEANING) * alike + MEANING * meaning
        alike[self.groups[asked][:, None] == self.groups[recorded][None, :]] = -1.0
        most = min(LIMIT, len(recorded))
        top = np.argpartition(-alike, most - 1, axis=1)[:, :most]
        order = np.lexsort((top, -np.take_along_axis(alike, top, 1)), axis=1)
        top = np.take_along_axis(top, order, 1)
        likeness, meant = (np.take_along_axis(each, top, 1).astype(float) for each in (alike, meaning))
        return Nearest(recorded[top], likeness, meant)


@dataclass(frozen=True)
class Nearest:
    """Rows of the recorded cases, most alike first, with their likeness and its part that is meaning: [asked, LIMIT]."""

    rows: Rows
    likeness: Floats
    meaning: Floats

    def risk(self, adverse: Floats, overall: float) -> Floats:
        """The weighted share that was adverse, shrunk to the overall one; the mean, in logits, over neighbourhoods."""
        found = [self._share(adverse, overall, size, sharpness) for size, sharpness in NEIGHBOURHOODS]
        return np.asarray(expit(np.mean(logit(found), axis=0)))

    def _share(self, adverse: Floats, overall: float, size: int, sharpness: float) -> Floats:
        likeness, rows = self.likeness[:, :size], self.rows[:, :size]
        weight = np.exp((likeness - likeness[:, :1]) / sharpness)
        return np.asarray(((weight * adverse[rows]).sum(axis=1) + PRIOR * overall) / (weight.sum(axis=1) + PRIOR))
