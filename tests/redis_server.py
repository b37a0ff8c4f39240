"""A real redis-server with the very files that are shipped; only its port, folder and passwords are its own."""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[1] / "deploy" / "redis"
LOCKED = "0" * 64
PASSWORD = "a test's own"


class RedisServer:
    """Killed as a power cut would, and started again on the same folder."""

    def __init__(self, folder: Path, *options: str) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            pytest.skip("there is no redis-server here: apt-get install redis-server")
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        users = (DEPLOY / "users.acl").read_text()
        assert LOCKED in users, "shipped with a password that somebody knows"
        known = hashlib.sha256(PASSWORD.encode()).hexdigest()
        acl = folder / "users.acl"
        acl.write_text(users.replace(LOCKED, known) + f"user operator on #{known} +@all ~* &*\n")
        overridden = ("--port", str(self.port), "--dir", str(folder), "--aclfile", str(acl), *options)
        self._command = [binary, str(DEPLOY / "redis.conf"), *overridden]
        self._log = folder / "log"
        self.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def url(self, user: str = "premortem") -> str:
        return f"redis://{user}:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.port}"

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        for _ in range(500):
            if self._answers():
                return
            assert self._process.poll() is None, self._log.read_text()[-2000:]
            time.sleep(0.02)
        raise AssertionError(self._log.read_text()[-2000:])

    def kill(self) -> None:
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        if self._process.poll() is None:
            self.kill()

    def say(self, *command: str) -> str:
        """As the operator, who may do everything."""
        told = ["redis-cli", "-u", self.url("operator"), "--no-auth-warning", *command]
        return subprocess.run(told, capture_output=True, text=True, timeout=10).stdout.strip()

    def _answers(self) -> bool:
        return self.say("PING") == "PONG"
