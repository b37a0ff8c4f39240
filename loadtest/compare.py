"""What playing futures side by side is worth: the service, the plain loop, and a peer's guardrail server, over one stub engine.

    python -m loadtest.compare                                # make compare; three minutes; writes build/compare.json
    python -m loadtest.compare --peer http://127.0.0.1:9000   # and a guardrail server of yours

The engine takes 20 ms for a request and 2 ms for each token, however many are asked at once (`loadtest.stub_engine`). The service is
asked over HTTP for five futures of five steps, all played to their end. The plain loop asks the engine the very same bytes that
the service was seen to ask for the same proposal, but one after another: future by future, step by step; it reads, judges and
records nothing. A peer is any server with an OpenAI-compatible `/v1/chat/completions`, put in front of the stub by whoever runs it
(its model's address: http://127.0.0.1:PORT/v1, see --port); it is told the proposal in words and asked once. That is less work than
five futures: its figures tell what its own checks cost, not which is faster. Every proposal is asked once in each way, of a service
just started that remembers none of its texts. Callers ask again as soon as they are answered.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from loadtest.engine import Engine
from loadtest.stub_engine import MODEL, REQUEST_S, TOKEN_S, playing
from loadtest.vllm_bench import SAID, Case, ask, bodies, client, put, record, recorded, service
from models.validation.machine import machine, revision

Told = dict[str, Any]
Way = Callable[[Case], Awaitable[bool]]
"""Decides, and says whether all of it was done: every future to its own end."""
WORK, OUT = Path("build/compare"), Path("build/compare.json")
PORT, BUDGET_MS = 8009, 10_000
NO_PEER = "no peer guardrail server was named (--peer URL): the service stands beside the plain loop alone"


@dataclass(frozen=True, slots=True)
class Plan:
    """How many proposals each crowd of callers asks, and recorded cases a domain."""

    asked: dict[int, int] = field(default_factory=lambda: {1: 40, 8: 160, 32: 160})
    history: int = 200

    @property
    def most(self) -> int:
        return max(self.asked.values())


QUICK = Plan(asked={1: 1, 4: 4}, history=20)


async def ask_service(session: aiohttp.ClientSession, case: Case) -> bool:
    return (await put(session, case[0], BUDGET_MS)).whole


async def ask_engine(session: aiohttp.ClientSession, case: Case) -> bool:
    """The plain loop: a future to its end, then the next."""
    waiting = [*case[1]][::-1]
    while waiting:
        branch = waiting.pop()
        await ask(session, branch.asked)
        waiting += branch.then[::-1]
    return True


async def ask_peer(model: str, session: aiohttp.ClientSession, case: Case) -> bool:
    content = f"May this be done?\n{json.dumps(case[0])}"
    asked = {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 16}
    async with session.post("/v1/chat/completions", json=asked) as answer:
        answer.raise_for_status()
        await answer.read()
    return True


async def crowded(way: Way, cases: Sequence[Case], clients: int, engine: Engine, told: str) -> Told:
    waiting = iter(tqdm(cases, told))

    async def caller() -> list[tuple[float, bool]]:
        return [await _timed(way, case) for case in waiting]

    said, began = await engine.metric(SAID), time.perf_counter()
    asked = [each for part in await asyncio.gather(*(caller() for _ in range(clients))) for each in part]
    seconds = time.perf_counter() - began
    p50, p99 = (round(float(np.percentile([ms for ms, _ in asked], share)), 1) for share in (50, 99))
    tokens = round((await engine.metric(SAID) - said) / len(cases), 1)
    counts = {"n": len(cases), "whole": sum(whole for _, whole in asked)}
    return counts | {"p50_ms": p50, "p99_ms": p99, "a_second": round(len(cases) / seconds, 2), "tokens": tokens}


async def _timed(way: Way, case: Case) -> tuple[float, bool]:
    began = time.perf_counter()
    whole = await way(case)
    return (time.perf_counter() - began) * 1000, whole


async def measure(plan: Plan, port: int = 0, peer: str = "", peer_model: str = MODEL) -> Told:
    where, drawn, found = machine(), bodies(), dict[str, Told]()
    with playing(WORK / "engine.log", port) as engine:
        places = 2 * max(plan.asked)
        start = partial(service, WORK / "service", plan.history, world="vllm", vllm_model=MODEL, in_flight=places)
        async with client(engine.url) as bare, client(peer or None) as other:
            ways: dict[str, Way] = {"plain loop": partial(ask_engine, bare)}
            if peer:
                ways["peer"] = partial(ask_peer, peer_model, other)
                await ways["peer"]((next(drawn), []))
            async with recorded(engine.url) as (recorder, url), start(vllm_urls=url) as asking:
                at = str((await put(asking, next(drawn), BUDGET_MS)).decision["at"])
                cases = await record(asking, recorder, drawn, plan.most)
            for clients, count in plan.asked.items():
                async with start(vllm_urls=engine.url) as asking:
                    await put(asking, next(drawn), BUDGET_MS)
                    rows = {
                        name: await crowded(way, cases[:count], clients, engine, f"{name}, {clients} at once")
                        for name, way in ({"service": partial(ask_service, asking)} | ways).items()
                    }
                found[f"c{clients}"] = rows | {"ratio": ratio(rows["service"], rows["plain loop"])}
    stub = {"request_ms": REQUEST_S * 1000, "token_ms": TOKEN_S * 1000}
    return {"date": at[:10], "revision": revision(), "machine": where, "engine": stub, "peer": peer, "clients": found}


def ratio(service: Told, loop: Told) -> Told:
    """How many times as fast the service is, and how many times as much it does."""
    return {
        "p50": round(loop["p50_ms"] / service["p50_ms"], 2),
        "a_second": round(service["a_second"] / loop["a_second"], 2),
    }


def show(told: Told, console: Console) -> None:
    where = told["machine"]
    console.rule(f"[bold]side by side and one after another, {told['date']}, {told['revision']}")
    console.print(f"{where['processor']}, {where['cores']} cores, load {where['load']} before it began")
    table = Table("clients", "way", "p50 ms", "p99 ms", "evaluations/s", "tokens each", "whole")
    for crowd, rows in told["clients"].items():
        times = rows["ratio"]
        for name, row in rows.items():
            if name != "ratio":
                figures = (str(row[key]) for key in ("p50_ms", "p99_ms", "a_second", "tokens"))
                table.add_row(crowd[1:], name, *figures, f"{row['whole']}/{row['n']}")
        table.add_row(
            "", "[bold]service : plain loop", f"{times['p50']} x", "", f"{times['a_second']} x", end_section=True
        )
    console.print(table)
    console.print(f"peer: {told['peer']}" if told["peer"] else NO_PEER)


def main() -> None:
    parser = argparse.ArgumentParser("python -m loadtest.compare", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer", default="", help="a guardrail server's address; it asks the stub engine")
    parser.add_argument("--peer-model", default=MODEL)
    parser.add_argument("--port", type=int, default=PORT, help="the stub engine's, which the peer is pointed at")
    parser.add_argument("--quick", action="store_true", help="a proof that it works, not a measurement")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    told = asyncio.run(measure(QUICK if asked.quick else Plan(), asked.port, asked.peer, asked.peer_model))
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(told, indent=2))
    show(told, Console(width=110))


if __name__ == "__main__":
    main()
