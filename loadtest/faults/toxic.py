"""A TCP proxy between the service and what it depends on, that can go wrong in every way a network and a peer can."""

import asyncio
import re
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

from loadtest.served import free_port

CHUNK = 65_536
SLOW_S, TRICKLE_S = 1.0, 0.02
"""An answer comes this late, longer than the budgets that are tried; or byte by byte."""
GARBAGE = Random(7).randbytes(512)
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
HTTP_NONSENSE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n[]"
RESP_NONSENSE = b"$7\r\nbananas\r\n"


class Toxic(StrEnum):
    """`dies`: the request arrives, its answer is lost, and from then on nobody is there. `down`: connections are refused.

    `nonsense` is well-formed and means nothing, `garbage` is neither; `partial` ends in the middle of an answer.
    """

    none = "none"
    down = "down"
    dies = "dies"
    slow = "slow"
    trickle = "trickle"
    hang = "hang"
    reset = "reset"
    garbage = "garbage"
    nonsense = "nonsense"
    partial = "partial"


@dataclass(eq=False)
class Proxy:
    """Listens on `port`. What is armed holds for open connections too."""

    upstream: int
    nonsense: bytes = HTTP_NONSENSE
    port: int = field(default_factory=free_port)
    toxic: Toxic = Toxic.none
    _grace: int = 0
    _only: bytes = b""
    _server: asyncio.Server | None = None
    _clients: set[asyncio.StreamWriter] = field(default_factory=set)

    async def arm(self, toxic: Toxic, grace: int = 0, only: bytes = b"") -> None:
        """`grace`: answers that one who dies still gives. `only`: how a request begins that is answered by nonsense."""
        self.toxic, self._grace, self._only = toxic, grace, only
        if toxic is Toxic.down:
            await self.close()
        elif self._server is None:
            self._server = await asyncio.start_server(self._served, "127.0.0.1", self.port)

    async def heal(self) -> None:
        await self.arm(Toxic.none)

    async def close(self) -> None:
        """Refuses whoever comes, and resets whoever is here."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for client in list(self._clients):
            _reset(client)

    async def _served(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self._clients.add(client)
        try:
            answers, upstream = await asyncio.open_connection("127.0.0.1", self.upstream)
        except OSError:
            _reset(client)
            self._clients.discard(client)
            return
        ways = [
            asyncio.create_task(self._requests(reader, client, upstream)),
            asyncio.create_task(self._answers(answers, client)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            upstream.close()
            client.close()
            self._clients.discard(client)

    async def _requests(
        self, reader: asyncio.StreamReader, client: asyncio.StreamWriter, upstream: asyncio.StreamWriter
    ) -> None:
        """Returns when the client leaves, or is made to."""
        with suppress(OSError, asyncio.IncompleteReadError):
            while asked := await reader.read(CHUNK):
                if self.toxic is Toxic.reset:
                    return _reset(client)
                if self.toxic is Toxic.garbage:
                    client.write(GARBAGE)
                    return await client.drain()
                if self.toxic is Toxic.nonsense and asked.startswith(self._only):
                    await _rest(reader, asked)
                    client.write(self.nonsense)
                elif self.toxic is not Toxic.hang:
                    upstream.write(asked)
                    await upstream.drain()

    async def _answers(self, answers: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while told := await answers.read(CHUNK):
                if self.toxic is Toxic.partial:
                    client.write(told[: len(told) // 2])
                    return await client.drain()
                if self.toxic is Toxic.dies:
                    if not self._grace:
                        return await self.arm(Toxic.down)
                    self._grace -= 1
                await self._passed_on(told, client)

    async def _passed_on(self, told: bytes, client: asyncio.StreamWriter) -> None:
        if self.toxic is Toxic.hang:
            return
        if self.toxic is Toxic.slow:
            await asyncio.sleep(SLOW_S)
        at = 0
        while at < len(told):
            size = 1 if self.toxic is Toxic.trickle else len(told) - at
            client.write(told[at : at + size])
            await client.drain()
            at += size
            if self.toxic is Toxic.trickle:
                await asyncio.sleep(TRICKLE_S)


async def _rest(reader: asyncio.StreamReader, asked: bytes) -> None:
    """What is still to come of an HTTP request's body; anything else is whole as it came."""
    head, _, begun = asked.partition(b"\r\n\r\n")
    if length := LENGTH.search(head):
        await reader.readexactly(max(0, int(length[1]) - len(begun)))


def _reset(client: asyncio.StreamWriter) -> None:
    """RST, not FIN: whatever was under way is lost."""
    if not client.transport.is_closing():
        client.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.transport.abort()
