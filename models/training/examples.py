"""Training examples: whole trajectories as the codec would have met them live, with recorded cases in the prompt."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from random import Random

import numpy as np
from numpy.typing import NDArray

from service.anchors.bank import PRECEDENT_FLOOR, PRECEDENT_TURNS, SIMILARITY_FLOOR
from service.simulator.grounding import ground
from service.vocabulary.anchor import Anchor, Match
from service.vocabulary.domain import Domain
from service.vocabulary.forecast import Forecast
from service.vocabulary.rollout import Trajectory, Transition
from service.world.codec import Codec
from service.world.model import PRECEDENTS, Opening

MASKED, GROUNDED, SPOKEN = 0.12, 0.5, 0.3
"""How often an example withholds its free text; is grounded where it could be; speaks where it need not."""


class Worth(IntEnum):
    """What a token is to the loss: told to the model, said by it, or the outcome it must foresee."""

    told = 0
    said = 1
    outcome = 2


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids, what each is worth as something to predict, and for each outcome token what it should be, over the marker ids."""

    ids: list[int]
    worth: list[Worth]
    odds: list[list[float]]


class Recollection:
    """The anchors of one domain with their vectors, searched as the bank searches them."""

    def __init__(self, anchors: Sequence[Anchor], vectors: NDArray[np.float32]) -> None:
        self._anchors = anchors
        self._vectors = vectors
        self._rows: dict[tuple[str, int], NDArray[np.int64]] = {}
        for place in {(anchor.key.category, anchor.key.turn) for anchor in anchors}:
            rows = [i for i, anchor in enumerate(anchors) if (anchor.key.category, anchor.key.turn) == place]
            self._rows[place] = np.array(rows)

    def nearest(
        self, category: str, turn: int, vector: NDArray[np.float32], floor: float, turns: int = 0
    ) -> tuple[Match, ...]:
        """The closest anchors of the category at most `turns` turns away, best first."""
        places = [(category, near) for near in range(turn - turns, turn + turns + 1)]
        found = [self._rows[place] for place in places if place in self._rows]
        if not found:
            return ()
        rows = np.concatenate(found)
        likeness = self._vectors[rows] @ vector
        best = np.argsort(-likeness)[:PRECEDENTS]
        return tuple(Match(self._anchors[rows[i]], float(likeness[i])) for i in best if likeness[i] >= floor)


class ExampleBuilder:
    """Builds what is said exactly as serving will: the same codec, the same retrieval, the same shortcuts."""

    def __init__(self, codec: Codec, domain: Domain, memory: Recollection, odds: bool = False) -> None:
        """`odds`: an outcome is taught by the odds it was drawn from, where a made history knows them, and not by the draw alone."""
        self._codec, self._domain, self._memory, self._odds = codec, domain, memory, odds

    def build(self, rng: Random, trajectory: Trajectory, vectors: Sequence[NDArray[np.float32]]) -> Example:
        """`vectors` holds the encoded anchor key of every turn at which the trajectory could be grounded; none, and it is not."""
        first = trajectory.transitions[0]
        masked = rng.random() < MASKED
        adverse = self._domain.outcomes.at_least(self._domain.adverse_from(first.action))
        opening = Opening(self._domain, first.state, first.action, self._precedents(first, vectors), masked)
        prompt = self._codec.prompt(opening)
        ids, worth = list(prompt), [Worth.told] * len(prompt)
        odds = [self._target(step) for step in trajectory.transitions]
        following = [*trajectory.transitions[1:], None]
        for turn, (step, after) in enumerate(zip(trajectory.transitions, following, strict=True), start=1):
            written = self._codec.write(self._domain, self._forecast(rng, step, adverse))
            ids += written
            worth += [Worth.outcome] + [Worth.said] * (len(written) - 1)
            if after is None:
                break
            told = self._told(rng, turn, after, vectors)
            ids += told
            worth += [Worth.told] * len(told)
        return Example(ids, worth, odds)

    def _target(self, step: Transition) -> list[float]:
        """What the outcome token should be, over the marker ids: the odds if they are to be learnt, else what happened."""
        known = step.odds if self._odds and step.odds is not None else {step.outcome: 1.0}
        outcome = dict(zip(self._codec.outcome_ids(self._domain), self._domain.outcomes.names, strict=True))
        return [known.get(outcome[id], 0.0) if id in outcome else 0.0 for id in self._codec.marker_ids.values()]

    def _precedents(self, first: Transition, vectors: Sequence[NDArray[np.float32]]) -> tuple[Match, ...]:
        key = self._domain.anchor_key(first.state, first.action)
        return (
            self._memory.nearest(key.category, key.turn, vectors[0], PRECEDENT_FLOOR, PRECEDENT_TURNS)
            if vectors
            else ()
        )

    def _forecast(self, rng: Random, step: Transition, adverse: Collection[str]) -> Forecast:
        spoken = step.outcome in adverse or rng.random() < SPOKEN
        return Forecast(step.outcome, {}, step.changes, step.observation if spoken else "")

    def _told(self, rng: Random, turn: int, after: Transition, vectors: Sequence[NDArray[np.float32]]) -> list[int]:
        grounding: list[int] = []
        place, rest = divmod(turn, self._domain.policy.anchor_interval)
        if vectors and not rest and rng.random() < GROUNDED:
            key = self._domain.anchor_key(after.state, after.action)
            for match in self._memory.nearest(key.category, key.turn, vectors[place], SIMILARITY_FLOOR)[:1]:
                _, told = ground(self._domain, after.state, after.action, match)
                grounding = self._codec.grounding(self._domain, told)
        return [*grounding, *self._codec.action(after.action)]


def keys(domain: Domain, trajectory: Trajectory) -> Iterator[str]:
    """The texts to encode for a trajectory: one for each turn at which it opens or could be grounded."""
    for step in trajectory.transitions[:: domain.policy.anchor_interval]:
        yield domain.anchor_key(step.state, step.action).text
