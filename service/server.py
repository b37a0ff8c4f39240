"""The service on a socket."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import uvicorn

from service.app import create_app, furnish
from service.settings import Settings


async def serve(settings: Settings) -> None:
    """Until it is told to stop."""
    await _server(settings, await _app(settings, print)).serve()


@asynccontextmanager
async def running(settings: Settings, say: Callable[[str], object]) -> AsyncIterator[str]:
    """The service in the background, on a free port if the port is 0; yields its URL."""
    server = _server(settings, await _app(settings, say), quiet=True)
    task = asyncio.create_task(server.serve())
    while not server.started:
        if task.done():
            task.result()
            raise RuntimeError("the service did not start")
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://{settings.host}:{port}"
    finally:
        server.should_exit = True
        await task


async def _app(settings: Settings, say: Callable[[str], object]):  # type: ignore[no-untyped-def]
    return create_app(settings, await furnish(settings), say=say)


def _server(settings: Settings, app: object, quiet: bool = False) -> uvicorn.Server:
    level = "warning" if quiet else "info"
    return uvicorn.Server(uvicorn.Config(app, settings.host, settings.port, log_level=level, access_log=False))  # type: ignore[arg-type]
