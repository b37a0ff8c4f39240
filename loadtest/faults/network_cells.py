"""The cells of what the service reaches over a network: Qdrant, Redis and vLLM, each behind a proxy that goes wrong."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.engine import Engine
from loadtest.faults.caller import KEYED, LOAD, ONE, Caller
from loadtest.faults.cell import Cell, Row
from loadtest.faults.dependent import NotServing, Service, service
from loadtest.faults.owed import (
    Owed,
    bank_gone,
    bank_there,
    grounding_gone,
    ledger_gone,
    ledger_late,
    normal,
    simulated,
    world_gone,
    world_there,
)
from loadtest.faults.redis_process import redis
from loadtest.faults.stand_in import standing_in
from loadtest.faults.toxic import HTTP_NONSENSE, RESP_NONSENSE, Proxy, Toxic

SCRIPTED: Mapping[str, Any] = {"WORLD": "scripted", "SCRIPTED_LATENCY_MS": 20, "BUNDLED_HISTORY": 60}
"""A world that foresees no harm, in steps that take their time: what may approve, would."""
COMPLETIONS = b"POST /v1/completions"

Start = Callable[[Path], AbstractAsyncContextManager[Service]]


@dataclass(frozen=True, slots=True)
class Part:
    """`after`: what is owed when nothing is wrong; `later`: when it dies once it has answered everybody, if that is another thing.

    `only`: the requests that are answered by nonsense; none is all.
    """

    name: str
    proxy: Proxy
    start: Start
    owed: Callable[[Toxic], Owed]
    after: Owed
    callers: Sequence[Caller] = (ONE, LOAD)
    only: bytes = b""
    at_start: Sequence[Toxic] = (Toxic.down, Toxic.hang)
    later: Owed | None = None

    async def rows(self, data: Path) -> list[Row]:
        """Every toxic before every caller; then starts while nobody is there, or somebody who never answers."""
        await self.proxy.heal()
        found = []
        async with self.start(data) as running:
            for toxic in Toxic:
                for caller in self.callers:
                    found.append(
                        await self.cell(toxic.value, caller, self.owed(toxic)).run(running.client, self.armed(toxic))
                    )
            if self.later is not None:
                for caller in self.callers:
                    cell = self.cell("dies after one answer", caller, self.later)
                    found.append(await cell.run(running.client, self.armed(Toxic.dies, caller.many)))
        for toxic in self.at_start:
            found += await self.begun(data, toxic)
        return found

    async def begun(self, data: Path, toxic: Toxic) -> list[Row]:
        cells = [self.cell(f"{toxic} at start", caller, self.owed(toxic)) for caller in self.callers]
        await self.proxy.arm(toxic)
        try:
            async with self.start(data) as running:
                rows = [await cell.asked(running.client) for cell in cells]
                await self.proxy.heal()
                for cell, row in zip(cells, rows, strict=True):
                    await cell.checked(running.client, row)
                return rows
        except NotServing as error:
            return [cell.lost(str(error)) for cell in cells]
        finally:
            await self.proxy.heal()

    def cell(self, fault: str, caller: Caller, owed: Owed) -> Cell:
        return Cell(self.name, fault, caller, owed, self.after)

    @asynccontextmanager
    async def armed(self, toxic: Toxic, grace: int = 0) -> AsyncIterator[None]:
        await self.proxy.arm(toxic, grace, self.only)
        yield
        await self.proxy.heal()


@asynccontextmanager
async def qdrant_part(folder: Path) -> AsyncIterator[Part]:
    async with standing_in(folder) as upstream, proxied(Proxy(upstream, HTTP_NONSENSE)) as proxy:

        def start(data: Path) -> AbstractAsyncContextManager[Service]:
            return service(data, **SCRIPTED, ANCHORS_URL=f"http://127.0.0.1:{proxy.port}")

        yield Part("qdrant (stand-in)", proxy, start, unless(bank_there, bank_gone), bank_there, later=grounding_gone)


@asynccontextmanager
async def redis_part(folder: Path) -> AsyncIterator[Part]:
    with redis(folder) as upstream:
        async with proxied(Proxy(upstream, RESP_NONSENSE)) as proxy:

            def start(data: Path) -> AbstractAsyncContextManager[Service]:
                return service(data, **SCRIPTED, LEDGER_URL=f"redis://127.0.0.1:{proxy.port}")

            def owed(toxic: Toxic) -> Owed:
                late = toxic in (Toxic.slow, Toxic.trickle)
                return ledger_late if late else unless(normal, ledger_gone)(toxic)

            yield Part("redis", proxy, start, owed, normal, (ONE, KEYED, LOAD))


@asynccontextmanager
async def vllm_part(engine: Engine) -> AsyncIterator[Part]:
    """A hang at start is not among them: the service gives a cold engine 30 s to say who it is."""
    async with proxied(Proxy(engine.port, HTTP_NONSENSE)) as proxy:

        def start(data: Path) -> AbstractAsyncContextManager[Service]:
            told: Mapping[str, Any] = {
                "WORLD": "vllm",
                "VLLM_URLS": f"http://127.0.0.1:{proxy.port}",
                "BUNDLED_HISTORY": 60,
            }
            return service(data, **told)

        yield Part(
            "vllm", proxy, start, unless(world_there, world_gone), simulated, only=COMPLETIONS, at_start=(Toxic.down,)
        )


def unless(calm: Owed, otherwise: Owed) -> Callable[[Toxic], Owed]:
    return lambda toxic: calm if toxic is Toxic.none else otherwise


@asynccontextmanager
async def proxied(proxy: Proxy) -> AsyncIterator[Proxy]:
    async with AsyncExitStack() as closing:
        closing.push_async_callback(proxy.close)
        await proxy.heal()
        yield proxy
