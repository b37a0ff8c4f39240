"""The service on a socket."""

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service.api.draining import Draining, LastAnswers
from service.app import create_app, system_chance
from service.house import furnish
from service.log import log_json
from service.settings import Settings

SWITCH_S = 0.0005
FINISH_S = 35
"""What runs when no more is taken may take this long: the longest budget that a caller may ask for, and a moment."""


class NotStarted(Exception):
    """The service cannot be had: its address is taken, or its start failed."""


class Server(uvicorn.Server):
    """Ends in order when SIGTERM asks for it: unready at once, reachable for `drain_s` more, then it finishes what it has.

    With status 0, where uvicorn dies of the signal in the end; without `drain_s` it still does, for there the process has more to
    do than to serve. Ctrl-C is a person's: no balancer is waited for.
    """

    def __init__(
        self, app: FastAPI, draining: Draining, level: str, drain_s: float | None = None, finish_s: int = FINISH_S
    ) -> None:
        last = LastAnswers(app, draining)
        super().__init__(
            uvicorn.Config(last, log_level=level, log_config=None, access_log=False, timeout_graceful_shutdown=finish_s)
        )
        self._draining, self._drain_s, self._until = draining, drain_s, 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._draining.begin()
        if sig != signal.SIGTERM or self._drain_s is None:
            super().handle_exit(sig, frame)
        elif not self.should_exit:
            self.should_exit, self._until = True, monotonic() + self._drain_s

    async def on_tick(self, counter: int) -> bool:
        if not await super().on_tick(counter) or (monotonic() < self._until and not self.force_exit):
            return False
        self._draining.leave()
        return True


async def serve(settings: Settings) -> None:
    """Until it is told to stop. Raises `NotStarted`, and what `furnish` raises."""
    log_json(settings.log_level)
    draining = Draining()
    with _bound(settings) as listener:
        app = create_app(settings, await furnish(settings, system_chance().now()), draining=draining)
        _loop_first()
        await _serve(Server(app, draining, settings.log_level, settings.drain_s), listener)


def _loop_first() -> None:
    """The event loop answers the refused while the world model computes: neither a full collection nor a thread that
    keeps the interpreter should keep it from that."""
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH_S)


@asynccontextmanager
async def running(settings: Settings, say: Callable[[str], object]) -> AsyncIterator[str]:
    """The service in the background, on a free port if the port is 0; yields its URL. Raises as `serve` does."""
    draining = Draining()
    with _bound(settings) as listener:
        app = create_app(settings, await furnish(settings, system_chance().now()), say=say, draining=draining)
        async with listening(app, listener, draining) as url:
            yield url


@asynccontextmanager
async def listening(app: FastAPI, listener: socket.socket, draining: Draining | None = None) -> AsyncIterator[str]:
    """An application in the background; yields its URL."""
    server = Server(app, draining or Draining(), "warning")
    task = asyncio.create_task(_serve(server, listener))
    try:
        while not server.started:
            if task.done():
                task.result()
                raise NotStarted("the service stopped while it was starting")
            await asyncio.sleep(0.01)
        host, port, *_ = listener.getsockname()
        yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    finally:
        server.should_exit = True
        await task


async def _serve(server: uvicorn.Server, listener: socket.socket) -> None:
    """uvicorn ends the process when its start fails; a task must raise something else."""
    try:
        await server.serve([listener])
    except SystemExit as error:
        raise NotStarted("the service failed while it was starting; the log above says why") from error


def _bound(settings: Settings) -> socket.socket:
    """Taken before anything is furnished, which may take minutes; nobody can connect until uvicorn listens."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # unnamed, asyncio leaves Nagle's delay on
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((settings.host, settings.port))
    except OSError as error:
        bound.close()
        raise NotStarted(f"cannot listen on {settings.host} port {settings.port}: {error.strerror}") from error
    return bound
