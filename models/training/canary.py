"""What shows a server up that serves other weights: in each domain a prompt, and what these weights read after it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from service.anchors.history import draw
from service.domains import catalog, reference
from service.world.checkpoint import Canary, DomainStory
from service.world.codec import Codec
from service.world.model import Opening
from service.world.step import distribution

Logits = Callable[[Sequence[int]], NDArray[Any]]
"""Of the whole vocabulary, after a prompt."""


def with_canaries(stories: Mapping[str, DomainStory], codec: Codec, logits: Logits) -> dict[str, DomainStory]:
    """The stories, one for every domain that the codec knows, each with its canary: the first recorded proposal, without precedents."""
    told = dict(stories)
    for name, domain in catalog().items():
        if not codec.knows(domain):
            continue
        scenario, _ = draw(reference(name), domain, "canary", 0)
        prompt, labels = codec.prompt(Opening(domain, scenario.state, scenario.action)), codec.outcome_ids(domain)
        odds = distribution(logits(prompt)[list(labels)], range(len(labels)))
        canary = Canary(prompt=tuple(prompt), labels=labels, odds=tuple(round(float(each), 4) for each in odds))
        told[name] = told.get(name, DomainStory()).model_copy(update={"canary": canary})
    return told
