"""The whole service with the real engine behind it: engines that die, come back, or leave the work to another."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtest.engine import Engine, running, serving
from service.domains import examples
from service.server import running as service_running
from service.settings import Settings

DATA = Path("build") / "test" / "vllm-house"
LOG = Path("build") / "test" / "vllm.log"
NOTICED_S, TAKEN_BACK_S = 3.0, 5.0
CASES = [
    case["proposal"]
    for name in ("safety", "triage")
    for case in examples(name)
    if case["verdict"]["basis"] == "simulated"
]


def told(number: int = 0, **options: Any) -> dict[str, Any]:
    case = CASES[number % len(CASES)]
    asked = {"budget_ms": 10_000, "settle": False, "recommend": False} | options
    return {name: case[name] for name in ("domain", "state", "action")} | {"options": asked}


@asynccontextmanager
async def served(*engines: Engine) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(
        data=DATA,
        port=0,
        world="vllm",
        vllm_urls=tuple(engine.url for engine in engines),
        authentication=False,
        bundled_history=60,
        in_flight=32,
    )
    async with service_running(settings, lambda _: None) as url, httpx.AsyncClient(base_url=url, timeout=30) as client:
        yield client


async def decided(client: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
    answer = await client.post("/v1/evaluations", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def ready(client: httpx.AsyncClient, status: int, patience_s: float) -> float:
    """Seconds until readiness answers so."""
    began = time.monotonic()
    while (answer := await client.get("/readyz")).status_code != status:
        assert time.monotonic() - began < patience_s, answer.text
        await asyncio.sleep(0.05)
    return time.monotonic() - began


async def test_a_caller_who_hangs_up_frees_the_engine(mini_engine: Engine) -> None:
    async with served(mini_engine) as client:
        tasks = [
            asyncio.create_task(client.post("/v1/evaluations", json=told(n, rollouts=50, horizon=20))) for n in range(3)
        ]
        for _ in range(200):
            if await mini_engine.metric("vllm:num_requests_running") > 5:
                break
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await running(mini_engine, 0, patience_s=1.0)


async def test_a_killed_engine_gives_escalations_and_is_taken_back_when_it_is_up_again(mini_engine: Engine) -> None:
    async with serving(Settings().checkpoint, LOG) as engine, served(engine) as client:
        assert (await decided(client, told(1)))["basis"] == "simulated"
        asked = [asyncio.create_task(decided(client, told(n, rollouts=30, horizon=20))) for n in range(4)]
        await asyncio.sleep(0.25)
        await engine.kill()
        for answer in await asyncio.gather(*asked):
            assert answer["ruling"] == "escalate"
            assert answer["basis"] != "none" or answer["reason"] == "world_model_unavailable"
        assert await ready(client, 503, NOTICED_S) < NOTICED_S
        assert engine.url in (await client.get("/readyz")).json()["trouble"]["world"]
        later = await decided(client, told(2))
        assert later["ruling"] == "escalate" and later["basis"] in ("history_only", "none")
        async with serving(Settings().checkpoint, LOG, port=engine.port):
            await ready(client, 200, TAKEN_BACK_S)
            assert (await decided(client, told(1)))["basis"] == "simulated"


async def test_a_replica_that_dies_mid_evaluation_leaves_its_futures_to_the_other(mini_engine: Engine) -> None:
    async with serving(Settings().checkpoint, LOG) as doomed, served(mini_engine, doomed) as client:
        plain = [await decided(client, told(n, include_rollouts=True)) for n in range(6)]
        asked = [asyncio.create_task(decided(client, told(n, include_rollouts=True))) for n in range(6)]
        await running_some(doomed)
        await doomed.kill()
        for before, after in zip(plain, await asyncio.gather(*asked), strict=True):
            assert after["basis"] == "simulated" and after["rollouts"]["faults"] == 0
            assert after["ruling"] == before["ruling"]
            assert after["risk"]["adverse_probability"] == pytest.approx(before["risk"]["adverse_probability"], abs=0.1)
        assert (await client.get("/readyz")).status_code == 200


async def running_some(engine: Engine) -> None:
    for _ in range(300):
        if await engine.metric("vllm:num_requests_running"):
            return
        await asyncio.sleep(0.002)
    raise AssertionError("nothing was ever asked of this replica")


async def test_the_futures_of_an_evaluation_stay_together(mini_engine: Engine) -> None:
    """In most evaluations, over nine tenths of what is written comes from one of the two servers."""
    async with serving(Settings().checkpoint, LOG) as second, served(mini_engine, second) as client:
        shares = []
        for number in range(8):
            before = [await engine.metric("vllm:generation_tokens_total") for engine in (mini_engine, second)]
            await decided(client, told(number))
            after = [await engine.metric("vllm:generation_tokens_total") for engine in (mini_engine, second)]
            spent = [now - then for now, then in zip(after, before, strict=True)]
            shares.append(max(spent) / sum(spent))
        assert sorted(shares)[len(shares) // 2] > 0.9
