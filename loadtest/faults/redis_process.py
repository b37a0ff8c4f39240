"""A real redis-server as the service wants it: what it acknowledges is on its disk."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from loadtest.served import free_port

DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction", "--save", "")
START_S = 10.0


def installed() -> bool:
    return shutil.which("redis-server") is not None


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[int]:
    """Its port. Blocks until it listens."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    told = ("redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), *DURABLE)
    with (folder / "redis.log").open("ab") as log:
        process = subprocess.Popen(told, stdout=log, stderr=log)
    try:
        until = time.monotonic() + START_S
        while not _listens(port):
            if time.monotonic() > until:
                raise TimeoutError(f"redis-server does not listen: {folder / 'redis.log'}")
            time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
