"""Whether a server is the one the manifest names: its models, its tokenizer, its weights."""

from collections.abc import Mapping

import numpy as np

from service.world.checkpoint import Canary, Manifest
from service.world.completions import NEVER, odds, reading
from service.world.model import BadForecast
from service.world.replica import Json, Replica, ReplicaFailed, build_of
from service.world.step import Form, distribution

CONTEXT = 2_048
"""Tokens a server must read: the longest prompt, twenty steps of a future, and what is still to be said."""
TOLERANCE = 0.05
"""How far a probability may be from the manifest's and be of the same weights: quantisation moves it by less, other weights by more."""


class Identity:
    """`models` is the served model's name by domain: one for all, or an adapter each."""

    def __init__(self, form: Form, manifest: Manifest, models: Mapping[str, str]) -> None:
        self._form, self._manifest, self._models = form, manifest, models
        self._name = f"{manifest.name} (codec {form.fingerprint})"

    async def __call__(self, replica: Replica) -> str:
        """What differs, in words; empty if nothing does. Learns on the way how the server tells odds."""
        served = {model["id"]: model for model in (await replica.ask("GET", "/v1/models"))["data"]}
        for model in sorted(set(self._models.values())):
            if model not in served:
                return f"{replica.url} serves {', '.join(served)} and no {model}"
            if (reads := served[model].get("max_model_len") or CONTEXT) < CONTEXT:
                return f"{replica.url}: {model} reads {reads} tokens, not {CONTEXT}"
            if differs := await self._tokenizer(replica, model):
                return f"{replica.url}: the tokenizer of {model} is not that of {self._name}: {differs}"
            await self._learn_how_odds_are_told(replica, model)
        for domain, model in self._models.items():
            story = self._manifest.domains.get(domain)
            if story and story.canary.prompt and (differs := await _weights(replica, model, story.canary)):
                return f"{replica.url}: the weights of {model} are not those of {self._name}: in {domain}, {differs}"
        return ""

    async def _tokenizer(self, replica: Replica, model: str) -> str:
        for text, ids in self._form.probes():
            asked = {"model": model, "prompt": text, "add_special_tokens": False}
            told = (await replica.ask("POST", "/tokenize", asked))["tokens"]
            if told != ids:
                at = next((n for n, pair in enumerate(zip(told, ids, strict=False)) if pair[0] != pair[1]), -1)
                return (
                    f"token {at} of {text[:60]!r} is {told[at]}, not {ids[at]}"
                    if told
                    else f"it reads nothing in {text[:60]!r}"
                )
        return ""

    async def _learn_how_odds_are_told(self, replica: Replica, model: str) -> None:
        """Fields that an older engine does not know it ignores without a word, and one that speculates refuses; so they are tried."""
        wanted = self._form.probes()[0][1]
        plain = {"model": model, "prompt": wanted[:2], "max_tokens": 1}
        replica.build = build_of(await replica.ask("POST", "/v1/completions", plain))
        replica.held = await _takes(replica, plain | {"logit_bias": {str(wanted[0]): NEVER}}) is not None
        told = await _takes(replica, reading(model, wanted[:2], wanted, exact=True))
        replica.exact = told is not None and bool(np.isfinite(odds(told["choices"][0], wanted)).all())


async def _takes(replica: Replica, request: Json) -> Json | None:
    try:
        answered: Json = await replica.ask("POST", "/v1/completions", request)
    except ReplicaFailed:
        return None
    return answered


async def _weights(replica: Replica, model: str, canary: Canary) -> str:
    asked = reading(model, canary.prompt, canary.labels, replica.exact)
    told = (await replica.ask("POST", "/v1/completions", asked))["choices"][0]
    try:
        read = distribution(odds(told, canary.labels), range(len(canary.labels)))
    except BadForecast as error:
        return str(error)
    apart = np.abs(read - np.array(canary.odds))
    worst = int(apart.argmax())
    if apart[worst] <= TOLERANCE:
        return ""
    return f"P(outcome {worst + 1}) is {read[worst]:.3f} where the manifest says {canary.odds[worst]:.3f}"
