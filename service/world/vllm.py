"""The world model in production: a checkpoint served by vLLM, on one server or several.

A step is at most two requests, an adverse one three: read the odds of the outcomes, then have said what follows. The outcome is
drawn here, so equal seeds draw what the local engine would draw. Every future's requests are its own and end with it: closing the
connection frees the engine. The first reading is the same for all futures of one opening and is asked once.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import aiohttp
import numpy as np
from numpy.typing import NDArray

from service.vocabulary.forecast import Forecast
from service.world.checkpoint import Manifest
from service.world.completions import odds, reading, said, speech
from service.world.identity import Identity
from service.world.model import Opening, Situation, WorldModelUnavailable
from service.world.replica import PROBE_S, REQUEST_S, Json, Replica
from service.world.step import Form, Words

STAGES = 256
"""Openings whose prompt is remembered."""

Request = Callable[[Replica], dict[str, Any]]


@dataclass(eq=False)
class Stage:
    """One opening: its prompt, the servers it may be played on, the best first, and the reading all its futures begin with."""

    opening: Opening
    prompt: list[int]
    replicas: Sequence[Replica]
    first: asyncio.Task[NDArray[np.float64]] | None = None
    waiting: int = 0


class VllmWorldModel:
    """`models` is the served model's name by domain. Made by `connect`."""

    def __init__(
        self, form: Form, manifest: Manifest, models: Mapping[str, str], session: aiohttp.ClientSession
    ) -> None:
        self.name = f"vllm:{manifest.name}"
        self.tokens_written = 0
        self._form, self._models, self._session = form, models, session
        self._identity = Identity(form, manifest, models)
        self._replicas: list[Replica] = []
        self._stages: OrderedDict[int, Stage] = OrderedDict()

    @classmethod
    async def connect(
        cls, form: Form, manifest: Manifest, models: Mapping[str, str], urls: Sequence[str], api_key: str = ""
    ) -> Self:
        """Returns when every server has been asked who it is, or was given the time to say so; it may be down for now."""
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        session = aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=REQUEST_S),
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
        )
        model = cls(form, manifest, models, session)
        model._replicas = [Replica(url, session, model._identity) for url in urls]
        asked = [asyncio.create_task(replica.known.wait()) for replica in model._replicas]
        _, late = await asyncio.wait(asked, timeout=PROBE_S)
        for task in late:
            task.cancel()
        return model

    async def forecast(self, situation: Situation) -> Forecast:
        stage, step = self._stage(situation.opening), self._form.step(situation)
        if situation.turns:
            step.read(await self._odds(stage, step.ahead, step.markers))
        else:
            step.read(await self._first(stage, step.markers))
        while words := step.due():
            step.hear(await self._said(stage, words))
        return step.forecast()

    @property
    def servers(self) -> Mapping[str, str]:
        return {replica.url: replica.trouble for replica in self._replicas}

    async def trouble(self) -> str:
        """Only when no server is left: one that is down while another works is not the caller's trouble."""
        troubles = [replica.trouble for replica in self._replicas]
        return "; ".join(troubles) if all(troubles) else ""

    async def aclose(self) -> None:
        await asyncio.gather(*[replica.aclose() for replica in self._replicas])
        await self._session.close()

    def _stage(self, opening: Opening) -> Stage:
        """The futures of one evaluation share their opening object, and so none but their tenant's."""
        key = id(opening)
        if key not in self._stages:
            prompt = self._form.prompt(opening)
            self._stages[key] = Stage(opening, prompt, ranked(self._replicas, prompt))
            while len(self._stages) > STAGES:
                self._stages.popitem(last=False)
        self._stages.move_to_end(key)
        return self._stages[key]

    async def _first(self, stage: Stage, markers: Sequence[int]) -> NDArray[np.float64]:
        """One request for all futures that stand at the beginning; it is given up when the last of them is."""
        if stage.first is None or (stage.first.done() and (stage.first.cancelled() or stage.first.exception())):
            stage.first = asyncio.create_task(self._odds(stage, (), markers))
        stage.waiting += 1
        try:
            return await asyncio.shield(stage.first)
        finally:
            stage.waiting -= 1
            if not stage.waiting:
                stage.first.cancel()

    async def _odds(self, stage: Stage, ahead: Sequence[int], markers: Sequence[int]) -> NDArray[np.float64]:
        model, prompt = self._models[stage.opening.domain.name], [*stage.prompt, *ahead]
        choice = await self._ask(stage, lambda replica: reading(model, prompt, markers, replica.exact))
        return odds(choice, markers)

    async def _said(self, stage: Stage, words: Words) -> list[int]:
        model = self._models[stage.opening.domain.name]
        seed = int(words.chance.integers(2**62))
        choice = await self._ask(stage, lambda replica: speech(model, stage.prompt, words, seed, replica.held))
        tokens = said(choice, words)
        self.tokens_written += len(choice["token_ids"])
        return tokens

    async def _ask(self, stage: Stage, request: Request) -> Json:
        """The stage's own server; if it fails, the next one: ids and seed are all there is, so the future goes on as it was."""
        opening = stage.opening
        salted = {"cache_salt": hashlib.sha256(opening.tenant.encode()).hexdigest()} if opening.tenant else {}
        failed = WorldModelUnavailable("no vLLM server is configured")
        for replica in stage.replicas:
            try:
                return await replica.complete({**request(replica), "priority": opening.rank, **salted})
            except WorldModelUnavailable as error:
                failed = error
        raise failed


def ranked(replicas: Sequence[Replica], prompt: Sequence[int]) -> list[Replica]:
    """By rendezvous hashing: equal prompts go to one server, whose prefix cache knows them; when it is gone, to one other.

    Tenants' equal prompts too: what it knows of them is salted.
    """
    told = np.asarray(prompt, np.int64).tobytes()
    return sorted(replicas, key=lambda replica: hashlib.blake2b(told + replica.url.encode()).digest())
