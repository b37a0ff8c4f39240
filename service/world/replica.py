"""One vLLM server: who it says it is, and whether it may be asked.

A circuit breaker in front of it opens when it fails several times in a row and is closed by a probe of our own, never by a
caller's request: the probe asks for all that makes this server the one the manifest names.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Any

import aiohttp

from service.world.model import WorldModelOverloaded, WorldModelUnavailable

FAILURES = 3
"""In a row, and no one is sent here until a probe has been answered."""
PATIENCE_S = 0.5
"""A request given up after this long, while nothing else was answered either, is the server's failure."""
BEAT_S, IDENTIFY_S = 1.0, 30.0
"""How often it is asked whether it lives, and who it is."""
PROBE_S, BEAT_PATIENCE_S = 30.0, 2.0
"""Patience with a probe, for a cold engine compiles what it first needs; and with a heartbeat."""
RETRY_S, RETRY_MOST_S = 0.25, 2.0
"""The pause after a probe that failed, which doubles up to the second."""
REQUEST_S = 30.0
"""The longest budget a caller may ask for: nothing waits longer."""

Json = Mapping[str, Any]
Identify = Callable[["Replica"], Awaitable[str]]
"""Why a server is not the one wanted; empty if it is. Raises `ReplicaFailed`."""


class ReplicaFailed(WorldModelUnavailable):
    """This server cannot answer; another might."""


class Replica:
    """`trouble` is why nobody may be sent here, empty if it works.

    `exact`: it tells the odds of the very ids it is asked for. `held`: it can be kept from saying some. Older engines and
    speculating ones do neither.
    """

    def __init__(self, url: str, session: aiohttp.ClientSession, identify: Identify) -> None:
        self.url, self.exact, self.held = url.rstrip("/"), True, True
        self.trouble = f"{self.url} has not been asked yet"
        self._session, self._identify = session, identify
        self.build = ""
        self._failures, self._answered_at = 0, 0.0
        self._doubted = asyncio.Event()
        self.known = asyncio.Event()
        self._watch = asyncio.create_task(self._watched())

    async def complete(self, request: Json) -> Json:
        """The one choice of a completion. Raises `ReplicaFailed`, or `WorldModelOverloaded`."""
        if self.trouble:
            raise ReplicaFailed(self.trouble)
        began = monotonic()
        try:
            told = await self.ask("POST", "/v1/completions", request)
            choice: Json = told["choices"][0]
            self._recognise(told)
            if choice.get("finish_reason") == "abort":  # with 200, from a server that is shutting down
                raise ReplicaFailed(f"{self.url} is shutting down")
        except asyncio.CancelledError:
            if monotonic() - began > PATIENCE_S and self._answered_at < began:
                self._failed(f"{self.url} did not answer within {PATIENCE_S:g} s")
            raise
        except WorldModelOverloaded:
            raise
        except ReplicaFailed as error:
            self._failed(str(error))
            raise
        except (LookupError, TypeError, AttributeError) as error:
            self._failed(f"{self.url} answered what is no completion")
            raise ReplicaFailed(f"{self.url} answered what is no completion") from error
        self._failures, self._answered_at = 0, monotonic()
        return choice

    async def ask(self, method: str, path: str, request: Json | None = None) -> Any:
        """Whoever the server is, and whatever it thinks of itself. The one place where HTTP's failures are translated."""
        try:
            async with self._session.request(method, f"{self.url}{path}", json=request) as answer:
                if answer.status in (429, 503):
                    raise WorldModelOverloaded(f"{self.url} has more to do than it can (HTTP {answer.status})")
                if answer.status >= 400:
                    raise ReplicaFailed(f"{self.url}{path}: HTTP {answer.status}: {(await answer.text())[:200]}")
                return await answer.json(content_type=None) if await answer.read() else {}
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ReplicaFailed(f"{self.url} cannot be asked: {type(error).__name__} {error}".rstrip()) from error

    async def aclose(self) -> None:
        self._watch.cancel()
        await asyncio.gather(self._watch, return_exceptions=True)

    def _recognise(self, told: Json) -> None:
        """Another build that answers is another server behind the same address: nothing it says counts before it is known."""
        if build_of(told) != self.build:
            self.trouble = f"{self.url} is another server than the one that was known there"
            self._doubted.set()
            raise ReplicaFailed(self.trouble)

    def _failed(self, why: str) -> None:
        self._failures += 1
        if self._failures >= FAILURES and not self.trouble:
            self.trouble = f"{self._failures} failures in a row; the last: {why}"
            self._doubted.set()

    async def _watched(self) -> None:
        """Half-open is this: only the probe is let through, and it lets the others in."""
        pause = RETRY_S
        while True:
            self.trouble = await self._probed()
            self.known.set()
            if self.trouble:
                await asyncio.sleep(pause)
                pause = min(2 * pause, RETRY_MOST_S)
                continue
            pause, self._failures = RETRY_S, 0
            self._doubted.clear()
            await self._undoubted()

    async def _probed(self) -> str:
        try:
            async with asyncio.timeout(PROBE_S):
                return await self._identify(self)
        except TimeoutError:
            return f"{self.url} did not answer a probe within {PROBE_S:g} s"
        except Exception as error:  # whatever a server answers: a watch that ends would never let it in again
            return str(error) or f"{self.url} answered a probe with what cannot be read"

    async def _undoubted(self) -> None:
        """Returns when there is a reason to ask again who this is: a failure, another build, or long enough ago."""
        until = monotonic() + IDENTIFY_S
        while monotonic() < until:
            try:
                async with asyncio.timeout(BEAT_S):  # in 3.11 `wait_for` may swallow a cancellation
                    await self._doubted.wait()
                return
            except TimeoutError:
                pass
            try:
                async with asyncio.timeout(BEAT_PATIENCE_S):
                    await self.ask("GET", "/health")
            except (WorldModelUnavailable, TimeoutError) as error:
                self.trouble = str(error) or f"{self.url} did not answer in time"
                return


def build_of(told: Json) -> str:
    """What a vLLM server calls itself in every answer; empty in versions that do not."""
    return str(told.get("system_fingerprint") or "")
