"""The service on a socket."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from service.app import create_app, furnish
from service.settings import Settings


class NotStarted(Exception):
    """The service cannot be had: its address is taken, or its start failed."""


async def serve(settings: Settings) -> None:
    """Until it is told to stop. Raises `NotStarted`, and what `furnish` raises."""
    with _bound(settings) as listener:
        await _serve(_server(create_app(settings, await furnish(settings)), "info"), listener)


@asynccontextmanager
async def running(settings: Settings, say: Callable[[str], object]) -> AsyncIterator[str]:
    """The service in the background, on a free port if the port is 0; yields its URL. Raises as `serve` does."""
    with _bound(settings) as listener:
        async with listening(create_app(settings, await furnish(settings), say=say), listener) as url:
            yield url


@asynccontextmanager
async def listening(app: FastAPI, listener: socket.socket) -> AsyncIterator[str]:
    """An application in the background; yields its URL."""
    server = _server(app, "warning")
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


def _server(app: FastAPI, level: str) -> uvicorn.Server:
    return uvicorn.Server(uvicorn.Config(app, log_level=level, access_log=False))
