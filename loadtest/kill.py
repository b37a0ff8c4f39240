"""kill -9 at random moments under load: nothing that was acknowledged may be missing, torn, or out of the chain.

    python -m loadtest.kill --kills 500        # make test-kill; two seconds a kill and ledger; writes build/kill.json

Over SQLite it is the service that is killed; over Redis, by chance, the service, Redis, or both at once. Every kill falls into a
run of callers who ask as fast as they are answered; much of what they ask is an escalation that waits for a person. While Redis is
down the service lives on and must refuse (503) whatever it is asked, and once Redis is back it must go on by itself. After each
kill what was acknowledged since the one before is read back as it was answered, and its escalations must still wait. At the end
that is done once more with everything, and the audit chain is exported and verified by the command that anybody would use.
"""

import argparse
import asyncio
import json
import random
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path
from time import monotonic

import httpx
from tqdm import trange

from loadtest.toll import Answer, Toll
from loadtest.victims import Redis, Service, Victim, redis_is_here
from service.domains import catalog, examples

CALLERS = 6
SHORTEST_S, LONGEST_S = 0.05, 0.8
LEDGERS = ("sqlite", "redis")
COUNTS = ("kills", "acknowledged", "missing", "torn", "not_waiting", "not_refused")
LOSSES = COUNTS[2:]
SKIPPED = {"skipped": "there is no redis-server here: apt-get install redis-server"}


def proposals() -> list[Answer]:
    """The worked cases that are decided without a world model that foresees: approvals and escalations."""
    cases = [case["proposal"] for name in catalog() for case in examples(name)]
    return [{key: case[key] for key in ("domain", "state", "action")} for case in cases]


async def run(ledger: str, kills: int, data: Path, seed: int) -> Answer:
    if ledger == "redis" and not redis_is_here():
        return SKIPPED
    shutil.rmtree(data, ignore_errors=True)
    redis = Redis(data / "redis") if ledger == "redis" else None
    killing = Killing(Service(data / "service", redis.url if redis else ""), redis, random.Random(seed))
    try:
        for _ in trange(kills, desc=f"kill -9 over {ledger}", disable=not sys.stderr.isatty()):
            await killing.round()
        return killing.toll.told(chain_ok=await killing.end(data / "audit.jsonl"))
    finally:
        await killing.clear()


class Killing:
    def __init__(self, service: Service, redis: Redis | None, chance: random.Random) -> None:
        self.toll = Toll()
        self._service, self._redis, self._chance = service, redis, chance
        self._victims: dict[str, list[Victim]] = {"service": [service]}
        if redis:
            self._victims |= {"redis": [redis], "both": [service, redis]}

    async def round(self) -> None:
        """What was killed is started and what came before is checked; then load, and another kill."""
        await self._rise()
        await self.toll.reckon(self._service.client)
        named = self._chance.choice(list(self._victims))
        async with self._asking():
            await self._while()
            await asyncio.gather(*(victim.kill() for victim in self._victims[named]))
        self.toll.killed[named] += 1

    async def end(self, export: Path) -> bool:
        """Reads everything back; whether the audit chain is whole."""
        await self._rise()
        await self.toll.reckon(self._service.client, everything=True)
        await self._service.kill()
        return await self._service.command("audit", "export", "--out", str(export)) and await self._service.command(
            "audit", "verify", str(export)
        )

    async def clear(self) -> None:
        for victims in self._victims.values():
            await asyncio.gather(*(victim.kill() for victim in victims))
        await self._service.client.aclose()

    async def _rise(self) -> None:
        """The service first: without its ledger it must live, refuse, and be well again when the ledger is."""
        if self._service.down:
            await self._service.start()
        if self._redis and self._redis.down:
            async with self._asking():
                await self._while()
                await self._redis.start()
                started = monotonic()
                await self._service.ready()
                self.toll.slowest_return_s = max(self.toll.slowest_return_s, monotonic() - started)

    async def _while(self) -> None:
        await asyncio.sleep(self._chance.uniform(SHORTEST_S, LONGEST_S))

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        over, told = asyncio.Event(), proposals()
        firsts = range(0, len(told), max(1, len(told) // CALLERS))[:CALLERS]
        callers = [asyncio.create_task(self._ask(told[first:] + told[:first], over)) for first in firsts]
        try:
            yield
        finally:
            over.set()
            await asyncio.gather(*callers)

    async def _ask(self, bodies: list[Answer], over: asyncio.Event) -> None:
        """Until it is over or the service is killed. An answer counts once its last byte is here."""
        for body in cycle(bodies):
            if over.is_set():
                return
            down = self._without_ledger()
            try:
                answer = await self._service.client.post("/v1/evaluations", json=body)
            except httpx.TransportError:
                if self._service.doomed:
                    return
                raise
            self.toll.heard(answer, down and self._without_ledger())

    def _without_ledger(self) -> bool:
        return self._redis is not None and self._redis.down


def together(by: dict[str, Answer]) -> Answer:
    """One document of both ledgers."""
    ran = [told for told in by.values() if told is not SKIPPED]
    totals = {name: sum(told[name] for told in ran) for name in COUNTS}
    return {**totals, "chain_ok": all(told["chain_ok"] for told in ran), "by": by}


def main() -> None:
    parser = argparse.ArgumentParser("python -m loadtest.kill", description="kill -9 under load")
    parser.add_argument("--kills", type=int, default=500, help="over each ledger")
    parser.add_argument("--ledger", choices=(*LEDGERS, "both"), default="both")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--data", type=Path, default=Path("build/kill"))
    parser.add_argument("--out", type=Path, default=Path("build/kill.json"))
    arguments = parser.parse_args()
    ledgers = LEDGERS if arguments.ledger == "both" else (arguments.ledger,)
    by = {name: asyncio.run(run(name, arguments.kills, arguments.data / name, arguments.seed)) for name in ledgers}
    told = together(by)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(told, indent=2) + "\n")
    print(json.dumps(told))
    raise SystemExit(any(told[name] for name in LOSSES) or not told["chain_ok"])


if __name__ == "__main__":
    main()
