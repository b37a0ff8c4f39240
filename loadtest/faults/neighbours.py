"""What else the machine was doing while we measured: the processor time that went to nobody of ours."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic

TICKS_S = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")
SESSION = PROC / "self" / "autogroup"
AHEAD = -10
"""The priority of what is measured, where we may set it (root): so that it is ours and not the neighbours' time."""


class Neighbours:
    """From its making on. Ours is this process with its children, living or waited for; theirs is all else, stolen time included."""

    def __init__(self) -> None:
        self._began, self._busy, self._ours = monotonic(), _busy(), _ours()

    @property
    def share(self) -> float:
        """Of all cores, what others took; 0 is a machine of our own."""
        cores = (monotonic() - self._began) * (os.cpu_count() or 1)
        return max(0.0, (_busy() - self._busy) - (_ours() - self._ours)) / cores


@contextmanager
def ahead() -> Iterator[int]:
    """This process, and all that it starts meanwhile, before its neighbours; yields its niceness.

    Where the kernel groups processes by session, it is the session that has to go first.
    """
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, AHEAD)
        SESSION.write_text(str(AHEAD))
    try:
        yield os.getpriority(os.PRIO_PROCESS, 0)
    finally:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, before)
            SESSION.write_text("0")


def _busy() -> float:
    """Seconds: user, nice, system, irq, softirq, steal."""
    told = [int(word) for word in (PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(told) - told[3] - told[4]) / TICKS_S


def _ours() -> float:
    spent = sum(os.times()[:4])
    for path in PROC.glob("[0-9]*/stat"):
        try:
            told = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(told[1]) == os.getpid():
            spent += sum(int(word) for word in told[11:15]) / TICKS_S
    return spent
