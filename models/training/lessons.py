"""Recorded trajectories as an instruct model learns them: token ids, what of them is said, and what each token weighs."""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from random import Random
from typing import Any

from tqdm import tqdm

from models.training.balance import balanced
from models.training.corpus import ALONE, remembered
from models.training.examples import Example, ExampleBuilder, Recollection, Worth, keys
from service.anchors.encoder import TextEncoder
from service.vocabulary.domain import Domain
from service.vocabulary.rollout import Trajectory
from service.world.codec import Codec
from service.world.model import PromptTooLong

HELD_SHARE = 0.05
"""The latest of a history, by which the loss is watched and from which nothing is learnt."""
UNHEARD = -100
"""The label of a token that carries no loss."""

Row = dict[str, Any]
"""`input_ids`, `labels` and `weights` of one example, equally long."""
Shown = tuple[Example, float]
"""An example, and what its outcome tokens count."""


@dataclass(frozen=True, slots=True)
class Lessons:
    """What is learnt, rare outcomes repeated, and what is held out, each trajectory once."""

    learnt: list[Shown]
    held: list[Shown]

    def rows(self, label_weight: float) -> list[Row]:
        """Weights are scaled to a mean of 1 over the whole history: by batch, repeats would win back what the balance took."""
        weights = [_weights(example, {Worth.outcome: label_weight * share}) for example, share in self.learnt]
        mean = sum(map(sum, weights)) / sum(worth > 0 for example, _ in self.learnt for worth in example.worth)
        scaled = [[weight / mean for weight in row] for row in weights]
        return [_row(example, row) for (example, _), row in zip(self.learnt, scaled, strict=True)]

    def scored(self, of: Worth) -> list[Row]:
        """The held-out examples with every token of one worth at 1 and all others unheard."""
        silent = {worth: 0.0 for worth in Worth} | {of: 1.0}
        return [_row(example, _weights(example, silent)) for example, _ in self.held]

    def digest(self) -> str:
        told = [[example.ids, example.worth, share] for example, share in self.learnt + self.held]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


class Teacher:
    """Makes lessons of one domain's history, each example as serving would have met it, no longer than `longest` tokens."""

    def __init__(self, codec: Codec, domain: Domain, encoder: TextEncoder, longest: int, seed: int) -> None:
        self._codec, self._domain, self._encoder, self._longest = codec, domain, encoder, longest
        self._rng = Random(f"{seed}/{domain.name}")

    def lessons(self, trajectories: Sequence[Trajectory], memory: Recollection | None = None) -> Lessons:
        """Without a memory given, each half of the history is reminded of the other: no case may recall itself."""
        if not trajectories:
            return Lessons([], [])
        by_time = sorted(trajectories, key=attrgetter("when", "id"))
        known = len(by_time) - math.ceil(len(by_time) * HELD_SHARE)
        halves = (by_time[0:known:2], by_time[1:known:2])
        learnt: list[Shown] = []
        for half, other in (halves, halves[::-1]):
            recalled = memory or remembered(self._domain, other, self._encoder)
            shares = balanced(half, self._domain, self._rng)
            learnt += self._examples([(half[place], share) for place, share in shares], recalled)
        recalled = memory or remembered(self._domain, by_time[:known], self._encoder)
        return Lessons(learnt, list(self._examples([(late, 1.0) for late in by_time[known:]], recalled)))

    def _examples(self, shown: Sequence[tuple[Trajectory, float]], memory: Recollection) -> Iterator[Shown]:
        """Repeats differ: each draws anew whether it is masked, grounded, reminded. A prompt too long to serve is left out."""
        builder = ExampleBuilder(self._codec, self._domain, memory)
        for trajectory, share in tqdm(shown, f"{self._domain.name}: examples"):
            asked = list(keys(self._domain, trajectory)) if self._rng.random() >= ALONE else []
            vectors = list(self._encoder.encode(asked)) if asked else []
            try:
                made = builder.build(self._rng, trajectory, vectors)
            except PromptTooLong:
                continue
            yield replace(made, ids=made.ids[: self._longest], worth=made.worth[: self._longest]), share


def _weights(example: Example, of: dict[Worth, float]) -> list[float]:
    """What is told weighs nothing, what is said 1, unless `of` says otherwise."""
    weights = {Worth.told: 0.0, Worth.said: 1.0, Worth.outcome: 1.0} | of
    return [weights[worth] for worth in example.worth]


def _row(example: Example, weights: Sequence[float]) -> Row:
    labels = [id if weight else UNHEARD for id, weight in zip(example.ids, weights, strict=True)]
    return {"input_ids": example.ids, "labels": labels, "weights": weights}
