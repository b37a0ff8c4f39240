"""What is asked of the service under load, and when: worked cases, states of the made histories, arrivals that wait for no answer."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any

from loadtest.budgets import Profile
from service.domains import examples, reference
from service.vocabulary.reference import Split

Told = dict[str, Any]
WORKED = 0.2
"""The share of worked cases: hard rules and harmless actions are among them, which need no simulation."""
UNSEEN = 0.1
"""Of the drawn states, the share in wordings that the model was never taught."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A proposal, and the second from the beginning at which it is asked, whatever became of those before it."""

    second: float
    domain: str
    body: Told


def arrivals(profile: Profile, seed: int) -> Iterator[Arrival]:
    """A Poisson process, thinned from one of the highest rate. Equal seeds are equal traffic."""
    chance = Random(f"arrivals/{seed}")
    drawn = {domain: bodies(domain, seed) for domain in profile.mix}
    for second in moments(chance, profile.peak, profile.duration_s):
        if chance.random() * profile.peak < profile.rate_at(second):
            (domain,) = chance.choices([*profile.mix], [*profile.mix.values()])
            yield Arrival(second, domain, next(drawn[domain]))


def moments(chance: Random, rate: float, seconds: float) -> Iterator[float]:
    """Of a Poisson process of so many a second."""
    second = 0.0
    while (second := second + chance.expovariate(rate)) < seconds:
        yield second


def bodies(domain: str, seed: int) -> Iterator[Told]:
    """Proposals of a domain, without end."""
    worked, process = [case["proposal"] for case in examples(domain)], reference(domain)
    for number in count():
        chance = Random(f"load/{domain}/{seed}/{number}")
        if chance.random() < WORKED:
            yield chance.choice(worked)
        else:
            scenario = process.scenario(chance, Split.unseen_wording if chance.random() < UNSEEN else Split.seen)
            state, action = (told.model_dump(mode="json") for told in (scenario.state, scenario.action))
            yield {"domain": domain, "state": state, "action": action}
