"""The service as it is, but that its time of day can be set by whoever writes seconds into a file: `DATA/jump`.

python -m loadtest.faults.jumping serve        # settings as for `premortem serve`
"""

import asyncio
import socket
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from service.app import create_app, system_chance
from service.house import furnish
from service.server import listening
from service.settings import Settings

JUMP = "jump"


def jump(data: Path, seconds: float) -> None:
    """Every clock in the service's house but the monotonic one is off by this from now on."""
    part = data / f"{JUMP}.part"
    part.write_text(str(seconds))
    part.replace(data / JUMP)


async def serve(settings: Settings) -> None:
    true = system_chance()

    def now() -> datetime:
        with suppress(OSError):
            return true.now() + timedelta(seconds=float((settings.data / JUMP).read_text()))
        return true.now()

    app = create_app(settings, await furnish(settings, true.now()), replace(true, now=now))
    async with listening(app, _bound(settings)):
        await asyncio.Event().wait()


def _bound(settings: Settings) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.bind((settings.host, settings.port))
    return bound


if __name__ == "__main__":
    asyncio.run(serve(Settings()))
