"""The processes that are killed: the service, and the Redis that keeps its decisions."""

import asyncio
import hashlib
import os
import shutil
import sys
from asyncio.subprocess import DEVNULL, Process
from contextlib import suppress
from pathlib import Path

import httpx

from loadtest.served import free_port

DEPLOY = Path(__file__).parents[1] / "deploy" / "redis"
REDIS = "redis-server"
LOCKED, PASSWORD = "0" * 64, "loadtest"
START_S, READY_S = 120.0, 30.0


def redis_is_here() -> bool:
    return shutil.which(REDIS) is not None


class Victim:
    """`doomed` from just before it is killed, `down` from when it is known to be dead until just before it is started again."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.doomed = self.down = True
        self._process: Process | None = None

    @property
    def ended(self) -> bool:
        """By itself, which none of them should."""
        return not self.doomed and self._process is not None and self._process.returncode is not None

    async def kill(self) -> None:
        self.doomed = True
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        self.down = True

    async def _spawn(self, *command: str, **environment: str) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.doomed = self.down = False
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command, env=os.environ | environment, stdin=DEVNULL, stdout=log, stderr=log
            )


class Redis(Victim):
    """With the files that are shipped; only its port, folder and password are its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder.with_suffix(".log"))
        folder.mkdir(parents=True)
        port, acl = str(free_port()), folder / "users.acl"
        acl.write_text(
            (DEPLOY / "users.acl").read_text().replace(LOCKED, hashlib.sha256(PASSWORD.encode()).hexdigest())
        )
        self.url = f"redis://premortem:{PASSWORD}@127.0.0.1:{port}"
        own = ("--port", port, "--dir", str(folder.resolve()), "--aclfile", str(acl.resolve()))
        self._command = (REDIS, str(DEPLOY / "redis.conf"), *own)

    async def start(self) -> None:
        await self._spawn(*self._command)


class Service(Victim):
    def __init__(self, data: Path, ledger_url: str) -> None:
        super().__init__(data.with_suffix(".log"))
        told = {
            "DATA": data,
            "WORLD": "scripted",
            "AUTHENTICATION": "false",
            "BUNDLED_HISTORY": 20,
            "LEDGER_URL": ledger_url,
        }
        self._environment = {f"PREMORTEM_{name}": str(value) for name, value in told.items()}
        self.client = httpx.AsyncClient()

    async def start(self) -> None:
        """Until it answers. On another port each time."""
        await self.client.aclose()
        port = free_port()
        self.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10)
        await self._spawn(sys.executable, "-m", "service", "serve", **self._environment, PREMORTEM_PORT=str(port))
        await self._answers("/livez", START_S)

    async def ready(self) -> None:
        """Readiness is told from the last seconds, in which its ledger may have died: it must read from it as well."""
        await self._answers("/readyz", READY_S)
        await self._answers("/v1/decisions?limit=1", READY_S)

    async def command(self, *words: str) -> bool:
        """Whether `premortem` with these words, over the same data, ends well."""
        await self._spawn(sys.executable, "-m", "service", *words, **self._environment)
        assert self._process is not None
        ended = await self._process.wait()
        self.doomed = self.down = True
        return ended == 0

    async def _answers(self, path: str, patience_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while not self.ended:
                    with suppress(httpx.TransportError):
                        if (await self.client.get(path)).status_code == 200:
                            return
                    await asyncio.sleep(0.02)
        why = "the service ended by itself" if self.ended else f"no {path} of the service within {patience_s:.0f} s"
        raise RuntimeError(f"{why}: {self.log}")
