"""What a busy machine itself costs, so that a test of ours measures only us."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lateness() -> Iterator[list[float]]:
    """How late a thread of this process wakes up that does nothing else: what the machine itself costs, in seconds."""
    late, over = [0.0], threading.Event()

    def tick() -> None:
        while not over.is_set():
            due = time.monotonic() + 0.002
            time.sleep(0.002)
            late.append(time.monotonic() - due)

    thread = threading.Thread(target=tick)
    thread.start()
    yield late
    over.set()
    thread.join()
