"""The real service as a process of its own, with a credential for every role."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx

from loadtest.served import free_port
from service.api.callers import Role
from service.api.keys import Key, Keys

START_S, STOP_S = 120.0, 15.0
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Service:
    """Where it listens, what it is let in by, and what it says."""

    url: str
    pid: int
    keys: Mapping[Role, str]
    data: Path
    log: Path
    environment: Mapping[str, str]

    def client(self, role: Role | None = None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.keys[role]}"} if role else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)

    def resident(self) -> int:
        """Bytes of memory that it holds."""
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def started(data: Path, command: tuple[str, ...] = ("-m", "service", "serve"), **settings: object) -> Iterator[Service]:
    """From an empty folder, until the block ends. `command` is what Python is told to run."""
    data.mkdir(parents=True, exist_ok=True)
    keys = Keys(data / "keys.json", lambda: LONG_AGO)
    made = {role: keys.make(Key(name=f"the {role}", role=role)) for role in Role}
    told = {"DATA": data, "WORLD": "scripted", "BUNDLED_HISTORY": 20, "PORT": (port := free_port())} | {
        name.upper(): value for name, value in settings.items()
    }
    environment = os.environ | {f"PREMORTEM_{name}": str(value) for name, value in told.items()}
    log, url = data / "service.log", f"http://127.0.0.1:{port}"
    with log.open("wb") as written:
        process = subprocess.Popen((sys.executable, *command), env=environment, stdout=written, stderr=written)
        try:
            _up(url, process, log)
            yield Service(url, process.pid, made, data, log, environment)
        finally:
            _stop(process)


def _up(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < until:
        try:
            if httpx.get(f"{url}/livez").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise RuntimeError(f"the service did not start: {log.read_text()[-2_000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
