"""The real service as a process of its own, and a client with an agent's key."""

import asyncio
import contextlib
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

START_S, STOP_S = 900.0, 15.0
"""A first start indexes the bundled history."""


@contextlib.asynccontextmanager
async def served(data: Path, checkpoint: Path, history: int) -> AsyncIterator[httpx.AsyncClient]:
    """`data` keeps its anchors from one run to the next; keys and ledger start afresh."""
    _afresh(data)
    url = f"http://127.0.0.1:{(port := free_port())}"
    told = {"DATA": data, "CHECKPOINT": checkpoint, "BUNDLED_HISTORY": history, "PORT": port}
    environment = {f"PREMORTEM_{name}": str(value) for name, value in told.items()}
    command = (sys.executable, "-m", "service", "serve")
    with (data / "service.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, env=os.environ | environment | {"PYTHONUNBUFFERED": "1"}, stdin=DEVNULL, stdout=PIPE, stderr=log
        )
        try:
            async with asyncio.timeout(START_S):
                key = await _agent_key(process, data)
            headers = {"Authorization": f"Bearer {key}"}
            async with httpx.AsyncClient(base_url=url, timeout=60, headers=headers) as client:
                await _ready(client, process, data)
                yield client
        finally:
            await _stop(process)


def _afresh(data: Path) -> None:
    data.mkdir(parents=True, exist_ok=True)
    for name in ("keys.json", "ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"):
        (data / name).unlink(missing_ok=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _agent_key(process: Process, data: Path) -> str:
    """As the service shows it at its first start."""
    assert process.stdout is not None
    async for line in process.stdout:
        words = line.decode().split()
        if words[:1] == ["agent"]:
            return words[-1]
    raise RuntimeError(f"the service did not start: {data / 'service.log'}")


async def _ready(client: httpx.AsyncClient, process: Process, data: Path) -> None:
    """The service warms up before it listens."""
    while process.returncode is None:
        with contextlib.suppress(httpx.TransportError):
            if (await client.get("/readyz")).status_code == 200:
                return
        await asyncio.sleep(0.2)
    raise RuntimeError(f"the service ended while it started: {data / 'service.log'}")


async def _stop(process: Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()
