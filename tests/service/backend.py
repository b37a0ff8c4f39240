"""The service as a process of its own, and a balancer before several of them."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from loadtest.served import free_port

ROOT = Path(__file__).parents[2]
START_S, PROBE_S = 60.0, 0.1
SECRET = bytes(range(32))
"""Services over one ledger share what its free text is sealed under."""


class Backend:
    """Without history or keys, and with a world that says what it was told; on the same port and data after each start."""

    def __init__(self, data: Path, **settings: object) -> None:
        data.mkdir(parents=True)
        (data / "cache").symlink_to(ROOT / "build" / "cache")
        (data / "vault.secret").touch(0o600)
        (data / "vault.secret").write_bytes(SECRET)
        told = {"data": data, "port": free_port(), "world": "scripted", "authentication": False, "bundled_history": 0}
        self._environment = {f"PREMORTEM_{name.upper()}": str(value) for name, value in (told | settings).items()}
        self._log = data / "log"
        self.url = f"http://127.0.0.1:{told['port']}"
        self.client = httpx.AsyncClient(base_url=self.url, timeout=60)
        self.process: Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "service", "serve"),
                **{"cwd": ROOT, "env": os.environ | self._environment, "stdin": DEVNULL, "stdout": log, "stderr": log},
            )
        async with asyncio.timeout(START_S):
            while await self.readiness() != 200:
                assert self.process.returncode is None, self._log.read_text()[-2000:]
                await asyncio.sleep(0.02)

    async def readiness(self) -> int:
        """As a balancer asks: over a connection of its own. 0: nobody listens."""
        async with httpx.AsyncClient(base_url=self.url, timeout=10) as stranger:
            with suppress(httpx.TransportError):
                return (await stranger.get("/readyz")).status_code
            return 0

    def terminate(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    async def ended(self, patience_s: float) -> int:
        """The exit status."""
        assert self.process is not None
        async with asyncio.timeout(patience_s):
            return await self.process.wait()

    async def clear(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        await self.client.aclose()


class Balancer:
    """In turn, to those that said that they are ready when they were last asked."""

    def __init__(self, *backends: Backend) -> None:
        self.backends, self.ready = backends, set(backends)
        self.answered: dict[str, Backend] = {}
        self.failed: list[str] = []
        self._turns = count()

    async def probe(self) -> None:
        while True:
            for backend in self.backends:
                (self.ready.add if await backend.readiness() == 200 else self.ready.discard)(backend)
            await asyncio.sleep(PROBE_S)

    async def sees(self, backend: Backend) -> None:
        """Until it is sent to again."""
        async with asyncio.timeout(START_S):
            while backend not in self.ready:  # noqa: ASYNC110
                await asyncio.sleep(PROBE_S)

    async def send(self, body: dict[str, Any]) -> None:
        backend = self.backends[next(self._turns) % len(self.backends)]
        while backend not in self.ready:
            backend = self.backends[next(self._turns) % len(self.backends)]
            assert self.ready, "nobody is ready"
        try:
            answer = await backend.client.post("/v1/evaluations", json=body)
        except httpx.TransportError as error:
            self.failed.append(f"{type(error).__name__}: {error}")
            return
        if answer.status_code == 200:
            self.answered[answer.json()["decision_id"]] = backend
        else:
            self.failed.append(f"{answer.status_code} {answer.text}")
