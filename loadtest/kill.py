"""kill -9 of the service at random moments under load: nothing that it acknowledged may be missing, torn, or out of the chain.

    python -m loadtest.kill --kills 500        # make test-kill; about two seconds a kill; writes build/kill.json

Every kill falls into a run of callers who ask as fast as they are answered; much of what they ask is an escalation that waits
for a person. After each restart what was acknowledged since the kill before is read back as it was answered, and its escalations
must still wait. At the end that is done once more with everything, and the audit chain is exported and verified by the command
that anybody would use.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
from tqdm import trange

from loadtest.served import free_port
from service.domains import catalog, examples

CALLERS = 6
START_S = 120.0
SHORTEST_S, LONGEST_S = 0.05, 0.8
PAGE = 200

Answer = dict[str, Any]


@dataclass(eq=False)
class Toll:
    """What was acknowledged, what of it since the last kill, and what could not be found again."""

    acknowledged: dict[str, Answer] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    torn: set[str] = field(default_factory=set)
    not_waiting: set[str] = field(default_factory=set)
    kills: int = 0


def proposals() -> list[Answer]:
    """The worked cases that are decided without a world model that foresees: approvals and escalations."""
    cases = [case["proposal"] for name in catalog() for case in examples(name)]
    return [{key: case[key] for key in ("domain", "state", "action")} for case in cases]


async def run(kills: int, data: Path, seed: int, ledger_url: str = "") -> Answer:
    """`{kills, acknowledged, missing, torn, not_waiting, chain_ok}`."""
    shutil.rmtree(data, ignore_errors=True)
    chance, toll = random.Random(seed), Toll()
    told = {
        "DATA": data,
        "WORLD": "scripted",
        "AUTHENTICATION": "false",
        "BUNDLED_HISTORY": 20,
        "LEDGER_URL": ledger_url,
    }
    environment = os.environ | {f"PREMORTEM_{name}": str(value) for name, value in told.items()}
    for _ in trange(kills, desc="kill -9", disable=not sys.stderr.isatty()):
        await _round(environment, chance.uniform(SHORTEST_S, LONGEST_S), toll)
    await _round(environment, 0.0, toll)
    chain_ok = await asyncio.to_thread(_verified, environment, data / "audit.jsonl")
    return {
        "kills": toll.kills - 1,
        "acknowledged": len(toll.acknowledged),
        "missing": len(toll.missing),
        "torn": len(toll.torn),
        "not_waiting": len(toll.not_waiting),
        "chain_ok": chain_ok,
    }


async def _round(environment: dict[str, str], seconds: float, toll: Toll) -> None:
    """Start, check what came before, load, kill."""
    port = free_port()
    log = Path(environment["PREMORTEM_DATA"]).with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as written:
        service = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "service", "serve"),
            env=environment | {"PREMORTEM_PORT": str(port)},
            stdout=written,
            stderr=written,
        )
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
        try:
            await _up(client, service, log)
            await _reckon(client, toll, everything=not seconds)
            asking = [asyncio.create_task(_ask(client, number, toll)) for number in range(CALLERS if seconds else 0)]
            await asyncio.sleep(seconds)
        finally:
            service.send_signal(signal.SIGKILL)
            await service.wait()
        await asyncio.gather(*asking)
    toll.kills += 1


async def _up(client: httpx.AsyncClient, service: asyncio.subprocess.Process, log: Path) -> None:
    async with asyncio.timeout(START_S):
        while service.returncode is None:
            try:
                if (await client.get("/livez")).status_code == 200:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.05)
    raise RuntimeError(f"the service ended while it started: {log}")


async def _ask(client: httpx.AsyncClient, number: int, toll: Toll) -> None:
    """Until the connection breaks. An answer counts once its last byte is here."""
    told = proposals()
    for body in cycle(told[number % len(told) :] + told[: number % len(told)]):
        try:
            answer = await client.post("/v1/evaluations", json=body)
        except httpx.TransportError:
            return
        if answer.status_code == 200:
            id = answer.json()["decision_id"]
            toll.acknowledged[id] = answer.json()
            toll.unread.add(id)


async def _reckon(client: httpx.AsyncClient, toll: Toll, everything: bool) -> None:
    waiting = await _waiting(client)
    for id in sorted(toll.acknowledged if everything else toll.unread):
        answered, found = toll.acknowledged[id], await client.get(f"/v1/decisions/{id}")
        if found.status_code != 200:
            toll.missing.add(id)
        elif {**found.json(), "permit": None} != {**answered, "permit": None}:
            toll.torn.add(id)
        elif answered["override"] and id not in waiting:
            toll.not_waiting.add(id)
    toll.unread.clear()


async def _waiting(client: httpx.AsyncClient) -> set[str]:
    found: list[str] = []
    while True:
        after = {"after": found[-1]} if found else {}
        page = (await client.get("/v1/decisions", params={"limit": PAGE, **after})).raise_for_status().json()
        found += [each["decision_id"] for each in page]
        if len(page) < PAGE:
            return set(found)


def _verified(environment: dict[str, str], export: Path) -> bool:
    for arguments in (("export", "--out", str(export)), ("verify", str(export))):
        if subprocess.run((sys.executable, "-m", "service", "audit", *arguments), env=environment).returncode:
            return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser("python -m loadtest.kill", description="kill -9 under load")
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--data", type=Path, default=Path("build/kill/data"))
    parser.add_argument("--out", type=Path, default=Path("build/kill.json"))
    arguments = parser.parse_args()
    told = asyncio.run(run(arguments.kills, arguments.data, arguments.seed))
    arguments.out.write_text(json.dumps(told, indent=2) + "\n")
    print(json.dumps(told))
    raise SystemExit(bool(told["missing"] or told["torn"] or told["not_waiting"] or not told["chain_ok"]))


if __name__ == "__main__":
    main()
