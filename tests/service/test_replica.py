"""A server that misbehaves is one kind of failure, is left alone for a while, and is taken back by a probe."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import aiohttp
import pytest

from service.world.model import WorldModelOverloaded, WorldModelUnavailable
from service.world.replica import FAILURES, PATIENCE_S, Replica, ReplicaFailed

GOOD = {"choices": [{"text": "well"}], "system_fingerprint": "build 1"}


def answer(status: int, body: str) -> bytes:
    head = f"HTTP/1.1 {status} Said\r\nContent-Length: {len(body)}\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    return (head + body).encode()


HANG, RESET = b"hang", b"reset"
WAYS = {
    "an engine that died": answer(500, '{"error": "EngineDeadError"}'),
    "a model that is not there": answer(404, '{"error": "no such model"}'),
    "what is no JSON": answer(200, "<html>gateway</html>"),
    "JSON that is no completion": answer(200, '{"choices": []}'),
    "a list": answer(200, "[1, 2]"),
    "nothing at all": answer(200, ""),
    "half an answer": answer(200, json.dumps(GOOD))[:-5],
    "a connection reset": RESET,
}


@dataclass
class Server:
    """A real socket that answers as it is told to."""

    says: bytes = field(default_factory=lambda: answer(200, json.dumps(GOOD)))
    url: str = ""
    asked: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = next((line.split(":")[1] for line in head.splitlines() if line.startswith("content-length")), "0")
            await reader.readexactly(int(length))
            self.asked += "post" in head
            if self.says == HANG:
                await asyncio.sleep(60)
            elif self.says == RESET:
                writer.transport.abort()
            else:
                writer.write(self.says)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Server, Replica]]:
    """The probe is a completion like any other, here."""
    told = Server()
    listener = await asyncio.start_server(told.serve, "127.0.0.1", 0)
    told.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"

    async def identify(replica: Replica) -> str:
        answered = await replica.ask("POST", "/v1/completions", {})
        replica.build = answered["system_fingerprint"]
        return ""

    async with aiohttp.ClientSession() as session:
        replica = Replica(told.url, session, identify)
        await replica.known.wait()
        yield told, replica
        await replica.aclose()
    listener.close()


async def until(replica: Replica, well: bool) -> None:
    for _ in range(500):
        if well is not bool(replica.trouble):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"trouble: {replica.trouble!r}")


@pytest.mark.parametrize("way", WAYS)
async def test_whatever_it_does_wrong_is_one_failure_and_soon_it_is_left_alone(way: str) -> None:
    async with served() as (server, replica):
        assert await replica.complete({}) == GOOD["choices"][0]
        server.says = WAYS[way]
        for _ in range(FAILURES):
            assert replica.trouble == ""
            with pytest.raises(ReplicaFailed):
                await replica.complete({})
        assert "in a row" in replica.trouble
        asked = server.asked
        with pytest.raises(ReplicaFailed, match="in a row"):
            await replica.complete({})
        assert server.asked == asked


async def test_a_server_that_is_well_again_is_taken_back_without_any_caller_trying_it() -> None:
    async with served() as (server, replica):
        good, server.says = server.says, WAYS["an engine that died"]
        for _ in range(FAILURES):
            with suppress(ReplicaFailed):
                await replica.complete({})
        assert replica.trouble
        server.says = good
        await until(replica, well=True)
        assert await replica.complete({}) == GOOD["choices"][0]


async def test_one_answer_between_failures_keeps_it_in_service() -> None:
    async with served() as (server, replica):
        good = server.says
        for _ in range(3):
            server.says = WAYS["a connection reset"]
            for _ in range(FAILURES - 1):
                with suppress(ReplicaFailed):
                    await replica.complete({})
            server.says = good
            await replica.complete({})
        assert replica.trouble == ""


async def test_a_server_with_too_much_to_do_is_told_apart_and_stays_in_service() -> None:
    async with served() as (server, replica):
        server.says = answer(503, "")
        for _ in range(2 * FAILURES):
            with pytest.raises(WorldModelOverloaded):
                await replica.complete({})
        assert replica.trouble == ""


async def test_callers_who_give_up_on_a_server_that_hangs_are_counted_as_its_failures() -> None:
    async with served() as (server, replica):
        server.says = HANG
        for _ in range(FAILURES):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(replica.complete({}), PATIENCE_S + 0.1)
        assert "did not answer" in replica.trouble


async def test_a_caller_who_leaves_early_says_nothing_about_the_server() -> None:
    async with served() as (server, replica):
        server.says = HANG
        for _ in range(2 * FAILURES):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(replica.complete({}), 0.02)
        assert replica.trouble == ""


async def test_another_build_behind_the_same_address_is_not_believed_before_it_is_known() -> None:
    async with served() as (server, replica):
        server.says = answer(200, json.dumps(GOOD | {"system_fingerprint": "build 2"}))
        with pytest.raises(WorldModelUnavailable, match="another server"):
            await replica.complete({})
        await until(replica, well=True)
        assert await replica.complete({}) == GOOD["choices"][0]


async def test_a_server_that_falls_silent_is_noticed_without_traffic() -> None:
    async with served() as (server, replica):
        server.says = RESET
        await until(replica, well=False)
