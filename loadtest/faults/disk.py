"""A small disk that can be full, read-only, or held by somebody else: the place of one ledger."""

import os
import resource
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

MEGABYTES = 4
LEDGER = "ledger.sqlite"


class Disk:
    """A tmpfs of its own where we may mount one (root); else a folder, full by RLIMIT_FSIZE and read-only by its mode."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        told = ("mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "premortem-faults", str(folder))
        self.real = os.geteuid() == 0 and subprocess.run(told, capture_output=True).returncode == 0

    @property
    def kind(self) -> str:
        return f"tmpfs of {MEGABYTES} MB" if self.real else "a folder: RLIMIT_FSIZE and file modes"

    @property
    def ledger(self) -> Path:
        return self.folder / LEDGER

    def lend(self, data: Path) -> None:
        """The service's ledger lies here from now on, and nothing else of it."""
        data.mkdir(parents=True, exist_ok=True)
        (data / LEDGER).unlink(missing_ok=True)
        (data / LEDGER).symlink_to(self.ledger.resolve())

    @contextmanager
    def full(self, pid: int) -> Iterator[None]:
        """To the last byte, for the process with this id; where we cannot mount, no file of its may grow."""
        if not self.real:
            _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, most))
            yield
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))
            return
        filler = self.folder / "filler"
        with filler.open("wb", buffering=0) as file:
            for size in (65_536, 4_096, 1):
                while _fits(file.fileno(), size):
                    pass
        yield
        filler.unlink()

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Before anybody has a file open here."""
        self._allow("ro", 0o555)
        yield
        self._allow("rw", 0o755)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Another process writes, and does not come to an end."""
        with closing(sqlite3.connect(self.ledger, isolation_level=None, timeout=5)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")

    def take_back(self, data: Path) -> None:
        (data / LEDGER).unlink()
        if self.real:
            subprocess.run(("umount", "--lazy", str(self.folder)), check=True)

    def _allow(self, how: str, mode: int) -> None:
        if self.real:
            subprocess.run(("mount", "-o", f"remount,{how}", str(self.folder)), check=True)
        else:
            self.folder.chmod(mode)


def _fits(file: int, size: int) -> bool:
    try:
        return os.write(file, b"\0" * size) > 0
    except OSError:
        return False
