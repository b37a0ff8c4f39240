"""One step of one future as it is written: what an engine must read and say for it, whatever the engine is.

An engine reads how likely each marker is after `ahead`, tells it to `read`, then says whatever is `due` and tells that to
`hear`, until nothing is due. The outcome is drawn here, from the odds and the future's own chance: equal seeds draw equal
outcomes on every engine that reads equal odds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from service.vocabulary.forecast import Forecast
from service.world.codec import Codec
from service.world.model import BadForecast, Detail, Opening, Situation

STEP_LIMIT = 48
"""Tokens of changes, and again of observation; a step that rambles on is a fault."""
LABEL_MASS = 0.5
"""Least probability the domain's outcomes must hold among all markers for the reading to mean anything. Plain tokens do not
count: that the action's text ends here is the codec's word, not the model's guess."""

PANGRAM = 'crew of 12, gusts 23.5 mph; caf\u00e9 \u2014 l\u00e9ger vent, 34 \u00b0c. {"json": [0, -1.0]}'
"""Words, figures, accents and braces: what two tokenizers would have to agree on."""

Weights = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Words:
    """What is to be said next: after these tokens of the future, up to one of `until`, never one of `unsayable`.

    `schema`, where there is one, is the JSON Schema of what may be said, for engines that can be held to one.
    """

    what: str
    after: Sequence[int]
    until: frozenset[int]
    unsayable: frozenset[int]
    temperature: float
    chance: np.random.Generator
    limit: int = STEP_LIMIT
    schema: Mapping[str, Any] = field(default_factory=dict)

    def endless(self) -> BadForecast:
        return BadForecast(f"{self.what} without end")


class Step(Protocol):
    """`ahead`: what this future holds after the prompt. `markers`: the ids whose odds are to be read after it."""

    @property
    def ahead(self) -> Sequence[int]: ...

    @property
    def markers(self) -> Sequence[int]: ...

    def read(self, logits: NDArray[Any]) -> None:
        """Logits or log-probabilities of the markers, in their order. Raises `BadForecast`."""

    def due(self) -> Words | None: ...

    def hear(self, tokens: Sequence[int]) -> None:
        """What was said, without the token that ended it."""

    def forecast(self) -> Forecast:
        """Raises `BadForecast`."""


class Form(Protocol):
    """How situations are put to a language model as token ids, and how what it says is read.

    `probes` are texts with the ids that a server's tokenizer must give them, the first of them ids whose odds may be asked.
    """

    @property
    def fingerprint(self) -> str: ...

    def prompt(self, opening: Opening) -> list[int]:
        """Raises `PromptTooLong`."""

    def step(self, situation: Situation) -> Step: ...

    def probes(self) -> Sequence[tuple[str, list[int]]]: ...


class Marked:
    """The codec's own form."""

    def __init__(self, codec: Codec) -> None:
        self._codec, self.fingerprint = codec, codec.fingerprint

    def prompt(self, opening: Opening) -> list[int]:
        return self._codec.prompt(opening)

    def step(self, situation: Situation) -> Step:
        return MarkedStep(self._codec, situation)

    def probes(self) -> Sequence[tuple[str, list[int]]]:
        markers = self._codec.marker_ids
        return [("".join(markers), [*markers.values()]), (f" {PANGRAM}", self._codec.text(PANGRAM)[0])]


class MarkedStep:
    """A step in the codec's markers, as fine-tuned checkpoints write it."""

    def __init__(self, codec: Codec, situation: Situation) -> None:
        self._codec, self._situation, self._domain = codec, situation, situation.opening.domain
        self.ahead = codec.turns(self._domain, situation.turns)
        self.markers = list(codec.marker_ids.values())
        self._chance = chance_of(situation)
        self._said: list[int] = []

    def read(self, logits: NDArray[Any]) -> None:
        labels = self._codec.outcome_ids(self._domain)
        places = tuple(map(self.markers.index, labels))
        odds, self._mass = distribution(logits, places), label_mass(logits, places)
        drawn = draw_outcome(odds, self._chance)
        self._outcome = tuple(self._domain.outcomes)[drawn]
        self._probabilities = dict(zip(self._domain.outcomes.names, odds.tolist(), strict=True))
        self._adverse = self._outcome.severity >= self._domain.adverse_from(self._situation.opening.action)
        if wanted(self._situation.detail, self._adverse):
            self._said = [labels[drawn]]

    def due(self) -> Words | None:
        codec = self._codec
        if not self._said or codec.step in self._said:
            return None
        if len(self._said) == 1:
            return self._words("changes", codec.sayable, frozenset((codec.step, codec.observed)))
        return self._words("an observation", frozenset((codec.step,)), frozenset((codec.step,)))

    def hear(self, tokens: Sequence[int]) -> None:
        observed = self._codec.observed in self._said
        self._said += tokens
        prose = self._adverse or self._situation.detail is Detail.prose
        self._said.append(self._codec.observed if prose and not observed else self._codec.step)

    def forecast(self) -> Forecast:
        if not self._said:
            return Forecast(self._outcome.name, self._probabilities, self._domain.forecast_type(), mass=self._mass)
        changes, observation = self._codec.read(self._domain, self._said[1:])
        return Forecast(self._outcome.name, self._probabilities, changes, observation, tuple(self._said), self._mass)

    def _words(self, what: str, sayable: frozenset[int], until: frozenset[int]) -> Words:
        unsayable = self._codec.reserved - sayable
        temperature = self._domain.policy.temperature
        return Words(what, [*self.ahead, *self._said], until, unsayable, temperature, self._chance)


def wanted(detail: Detail, adverse: bool) -> bool:
    """Whether more than the outcome is to be written."""
    return detail is not Detail.odds and (adverse or detail is not Detail.outcome)


def chance_of(situation: Situation) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[situation.seed % 2**64, len(situation.turns)]))


def label_mass(logits: NDArray[Any], labels: Sequence[int]) -> float:
    """How much of the probability of all these places the labels have."""
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return float(weights[list(labels)].sum() / weights.sum())


def distribution(logits: NDArray[Any], labels: Sequence[int]) -> Weights:
    """P(outcome) over the scale, of places in `logits`. Raises `BadForecast` if the model named no outcome of the domain."""
    weights = np.exp(logits.astype(np.float64) - logits.max())
    named = weights[list(labels)]
    if not named.sum() >= LABEL_MASS * weights.sum():
        raise BadForecast("no outcome where an outcome was due")
    return np.asarray(named / named.sum())


def draw_outcome(odds: Weights, chance: np.random.Generator) -> int:
    return min(int(np.searchsorted(np.cumsum(odds), chance.random())), len(odds) - 1)
