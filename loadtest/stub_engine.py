"""An engine that costs what it is told to and thinks nothing: for comparing what is asked of it, and when.

    python -m loadtest.stub_engine --port 8009

As vLLM speaks: `/v1/completions` in token ids with log-probabilities, and `/v1/chat/completions`. An answer takes 20 ms and 2 ms
more for each of its tokens, however many are asked at once. It says that nothing bad happens, in every domain's own words.
"""

import argparse
import asyncio
import math
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from loadtest.engine import Engine, started
from loadtest.served import free_port
from service.anchors.history import draw
from service.domains import catalog, reference
from service.vocabulary.domain import Domain
from service.vocabulary.forecast import Forecast
from service.vocabulary.severity import Severity
from service.world.checkpoint import Checkpoint
from service.world.codec import Codec
from service.world.step import Marked

REQUEST_S, TOKEN_S = 0.020, 0.002
UNLIKELY = -20.0
MODEL = "world"
LARGEST = 2**24
CHAT = "No."
"""To any question; it is counted as its tokens would be."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """What is said in one domain: how its prompts begin, the id of a calm outcome, the changes that follow it."""

    head: tuple[int, ...]
    calm: int
    changes: tuple[int, ...]

    @classmethod
    def of(cls, codec: Codec, domain: Domain) -> "Part":
        """The changes are those of the first recorded step that was calm and changed anything."""
        head = codec.marker_ids["<|domain|>"], *codec.text(domain.name)[0]
        calm = next(o for o in domain.outcomes if not o.terminal and o.severity is Severity.none)
        trajectories = (draw(reference(domain.name), domain, "stub", number)[1] for number in range(200))
        steps = (step for each in trajectories for step in each.transitions if step.outcome == calm.name)
        written = (codec.write(domain, Forecast(calm.name, {calm.name: 1.0}, step.changes)) for step in steps)
        outcome, *changes, _ = next(ids for ids in written if len(ids) > 2)
        return cls(head, outcome, tuple(changes))


class Stub:
    def __init__(self, checkpoint: Checkpoint) -> None:
        self._codec, self._probes = checkpoint.codec, dict(Marked(checkpoint.codec).probes())
        self._parts = [Part.of(checkpoint.codec, domain) for domain in catalog().values()]
        self._canaries = {
            story.canary.prompt: dict(zip(story.canary.labels, story.canary.odds, strict=True))
            for story in checkpoint.manifest.domains.values()
        }
        self.said = 0
        self.app = web.Application(client_max_size=LARGEST)
        self.app.add_routes(
            [
                web.get("/health", self._health),
                web.get("/metrics", self._metrics),
                web.get("/v1/models", self._models),
                web.post("/tokenize", self._tokenize),
                web.post("/v1/completions", self._complete),
                web.post("/v1/chat/completions", self._chat),
            ]
        )

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(text=f"vllm:generation_tokens_total {self.said}\n")

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": MODEL}]})

    async def _tokenize(self, request: web.Request) -> web.Response:
        return web.json_response({"tokens": self._probes[(await request.json())["prompt"]]})

    async def _complete(self, request: web.Request) -> web.Response:
        asked = await request.json()
        read = asked.get("logprob_token_ids")
        said = [0] if read else self._speech(asked["prompt"])[: asked["max_tokens"]]
        await self._take(len(said))
        choice: Json = {"token_ids": said, "finish_reason": "length" if read else "stop"}
        if read:
            choice["logprobs"] = {"top_logprobs": [self._odds(asked["prompt"], read)]}
        return web.json_response({"choices": [choice], "usage": {"completion_tokens": len(said)}})

    async def _chat(self, _: web.Request) -> web.Response:
        await self._take(len(CHAT.split()) + 1)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": CHAT}}
        told = {"id": "stub", "object": "chat.completion", "created": 0, "model": MODEL, "choices": [choice]}
        usage = {"prompt_tokens": 0, "completion_tokens": len(CHAT.split()) + 1, "total_tokens": len(CHAT.split()) + 1}
        return web.json_response(told | {"usage": usage})

    async def _take(self, tokens: int) -> None:
        self.said += tokens
        await asyncio.sleep(REQUEST_S + TOKEN_S * tokens)

    def _part(self, prompt: Sequence[int]) -> Part | None:
        return next((part for part in self._parts if tuple(prompt[: len(part.head)]) == part.head), None)

    def _odds(self, prompt: Sequence[int], ids: Sequence[int]) -> Mapping[str, float]:
        """A canary's are those of the checkpoint that it stands in for, or the service would not have it."""
        part = self._part(prompt)
        odds = self._canaries.get(tuple(prompt)) or ({part.calm: 1.0} if part else {})
        return {f"token_id:{id}": math.log(odds[id]) if odds.get(id) else UNLIKELY for id in ids}

    def _speech(self, prompt: Sequence[int]) -> list[int]:
        """An observation, were one asked for, is nothing at all."""
        part = self._part(prompt)
        changes = part.changes if part and prompt[-1] != self._codec.observed else ()
        return [*changes, self._codec.step]


@contextmanager
def playing(log: Path, port: int = 0) -> Iterator[Engine]:
    """In a process of its own. Raises `OSError` if the port is taken."""
    socket.create_server(("127.0.0.1", port := port or free_port())).close()
    engine = started((sys.executable, "-m", "loadtest.stub_engine", f"--port={port}"), port, log)
    try:
        yield engine
    finally:
        engine.stop()


def main() -> None:
    parser = argparse.ArgumentParser("python -m loadtest.stub_engine", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=8009)
    parser.add_argument("--checkpoint", type=Path, default=Path("models/checkpoints/mini"))
    ask = parser.parse_args()
    web.run_app(Stub(Checkpoint(ask.checkpoint)).app, host="127.0.0.1", port=ask.port, access_log=None, print=None)


if __name__ == "__main__":
    main()
