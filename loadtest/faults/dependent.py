"""The real service as a process whose dependencies may be missing from the start."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import httpx

from loadtest.served import free_port

START_S, STOP_S = 90.0, 10.0


class NotServing(Exception):
    """The process ended instead of listening; its last words."""


@dataclass(frozen=True, slots=True)
class Service:
    client: httpx.AsyncClient
    data: Path
    pid: int


@contextlib.asynccontextmanager
async def service(data: Path, module: str = "service", **told: Any) -> AsyncIterator[Service]:
    """`told`: settings by name; the others are as they come, but that everybody may ask."""
    await asyncio.to_thread(data.mkdir, parents=True, exist_ok=True)
    port, log = free_port(), data / "service.log"
    settled = {"DATA": data, "PORT": port, "AUTHENTICATION": "false"} | told
    environment = os.environ | {f"PREMORTEM_{name}": str(value) for name, value in settled.items()}
    with log.open("ab") as written:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, "serve"), env=environment, stdout=written, stderr=written
        )
        try:
            limits = httpx.Limits(max_connections=64)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20, limits=limits) as client:
                await _up(client, process, log)
                yield Service(client, data, process.pid)
        finally:
            await _stopped(process)


async def ready(client: httpx.AsyncClient, patience_s: float) -> bool:
    """Whether every part can do its work again, in time."""
    until = monotonic() + patience_s
    while (await client.get("/readyz")).status_code != 200:
        if monotonic() > until:
            return False
        await asyncio.sleep(0.05)
    return True


async def _up(client: httpx.AsyncClient, process: asyncio.subprocess.Process, log: Path) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_S):
            while process.returncode is None:
                with contextlib.suppress(httpx.TransportError):
                    await client.get("/livez")
                    return
                await asyncio.sleep(0.05)
    last = (await asyncio.to_thread(log.read_text, errors="replace")).strip().splitlines()[-1:]
    raise NotServing(f"the service did not start: {' '.join(last)[:300]}")


async def _stopped(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()
