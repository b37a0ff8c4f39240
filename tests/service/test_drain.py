"""SIGTERM: unready at once, reachable for a while, and everything that was begun is answered before the end."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.api.draining import Draining
from service.domains import catalog, examples
from service.server import Server
from tests.redis_server import RedisServer
from tests.service.backend import Backend, Balancer
from tests.service.house import CASE

pytestmark = pytest.mark.usefixtures("encoder")
DRAIN_S = 1.0
PATIENT = {"budget_ms": 20_000}


def told(case: dict[str, Any]) -> dict[str, Any]:
    return {name: case[name] for name in ("domain", "state", "action")} | {"options": PATIENT}


@asynccontextmanager
async def started(*backends: Backend) -> AsyncIterator[None]:
    try:
        await asyncio.gather(*(backend.start() for backend in backends))
        yield
    finally:
        for backend in backends:
            await backend.clear()


async def test_sigterm_answers_what_was_begun_is_unready_meanwhile_and_ends_with_status_0(tmp_path: Path) -> None:
    backend = Backend(tmp_path / "data", scripted_latency_ms=200, drain_s=DRAIN_S)
    async with started(backend):
        escalated = (await backend.client.post("/v1/evaluations", json=told(CASE))).json()
        assert escalated["override"], "it waits for a person"
        polls = [
            asyncio.create_task(backend.client.get(f"/v1/decisions/{escalated['decision_id']}/wait?timeout_s=60"))
            for _ in range(3)
        ]
        begun = [asyncio.create_task(backend.client.post("/v1/evaluations", json=told(CASE))) for _ in range(4)]
        await asyncio.sleep(0.7)
        assert not any(each.done() for each in (*begun, *polls))
        backend.terminate()
        at = monotonic()

        async with httpx.AsyncClient(base_url=backend.url, timeout=60) as stranger:
            ready = await stranger.get("/readyz")
            assert (ready.status_code, ready.json()["status"]) == (503, "draining")
            assert ready.headers["connection"] == "close", "whoever asks again comes by another door"
            assert (await stranger.get("/livez")).status_code == 200, "nobody should kill it"
            assert not any(poll.done() for poll in polls) or monotonic() - at > DRAIN_S, "they would ask again at once"
            late = await stranger.post("/v1/evaluations", json=told(CASE))
            assert late.status_code == 200, "reachable, it does its work"

        answers = await asyncio.gather(*begun, *polls)
        assert [answer.status_code for answer in answers] == [200] * 7
        assert {answer.headers["connection"] for answer in answers} == {"close"}
        assert all(answer.json() == escalated | {"permit": None} for answer in answers[4:]), "as it stands"
        assert await backend.ended(10) == 0
        assert monotonic() - at < DRAIN_S + 8
        assert await backend.readiness() == 0

        await backend.start()
        for answer in (late, *answers):
            assert (await backend.client.get(f"/v1/decisions/{answer.json()['decision_id']}")).status_code == 200


@pytest.mark.parametrize("ledger", ["redis", "sqlite"])
async def test_a_rolling_restart_fails_no_request_and_loses_no_decision(ledger: str, tmp_path: Path) -> None:
    """Two services over one ledger, and a balancer that knows no more than what /readyz says."""
    redis = RedisServer(tmp_path / "redis") if ledger == "redis" else None
    shared = {"ledger_url": redis.url()} if redis else {}
    pair = [Backend(tmp_path / name, scripted_latency_ms=20, drain_s=DRAIN_S, **shared) for name in ("first", "second")]
    if not redis:
        (tmp_path / "second" / "ledger.sqlite").symlink_to(tmp_path / "first" / "ledger.sqlite")
    balancer = Balancer(*pair)
    try:
        async with started(*pair), asyncio.TaskGroup() as group:
            probing, over = group.create_task(balancer.probe()), asyncio.Event()
            callers = [group.create_task(_ask(balancer, over)) for _ in range(4)]
            for backend in pair:
                await asyncio.sleep(0.5)
                backend.terminate()
                assert await backend.ended(DRAIN_S + 10) == 0
                await backend.start()
                await balancer.sees(backend)
            await asyncio.sleep(0.5)
            over.set()
            await asyncio.gather(*callers)
            probing.cancel()
            assert balancer.failed == []
            assert len(balancer.answered) > 20 and set(balancer.answered.values()) == set(pair)
            for id in balancer.answered:
                for backend in pair:
                    assert (await backend.client.get(f"/v1/decisions/{id}")).status_code == 200, id
    finally:
        if redis:
            redis.stop()


async def _ask(balancer: Balancer, over: asyncio.Event) -> None:
    cases = [told(case["proposal"]) for name in catalog() for case in examples(name)[:4]]
    for body in cycle(cases):
        if over.is_set():
            return
        await balancer.send(body)


async def test_what_never_ends_is_not_waited_for_forever() -> None:
    app, entered = FastAPI(), asyncio.Event()

    @app.get("/forever")
    async def forever() -> None:
        entered.set()
        await asyncio.Event().wait()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(app, Draining(), "critical", finish_s=1)
        serving = asyncio.create_task(server.serve([listener]))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
            asked = asyncio.create_task(client.get("/forever"))
            await entered.wait()
            server.should_exit = True
            async with asyncio.timeout(5):
                await serving
            with pytest.raises(httpx.HTTPStatusError):
                (await asked).raise_for_status()
