"""Whether the process lives, and whether it can rule."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from math import inf

from fastapi import APIRouter, Response

from service.api.draining import Draining
from service.deadline import Clock
from service.guardrail import Rooms

Canary = Callable[[], Awaitable[str]]
"""Why a known case could not be read; empty if it could."""
PATIENCE_S = 3.0
FRESH_S, STALE_S = 2.0, 10.0
"""How old an answer may be before it is asked for again, and before nothing but a new one will do."""
SOON_S = 0.5
"""How long a new one is waited for before it is told as it was."""

CANARY = {"world": "canary", "candidate": "candidate_canary"}
"""What reading a known case through each world model is called."""
SPARED = {"candidate", "candidate_canary"}
"""Told, but no reason to be unready: what serves everyone else stays."""


class Readiness:
    """What each part says when it is asked. `canaries` read a known case through bank and world model, each through another.

    However often it is asked, bank, ledger and canary are asked every two seconds at most; a slow one is told as it was
    meanwhile, for under load a service that is slow must not be taken for one that is gone. The world model says at once.
    """

    def __init__(self, rooms: Rooms, canaries: Mapping[str, Canary], clock: Clock) -> None:
        self._rooms, self._canaries, self._clock = rooms, canaries, clock
        self._asking: asyncio.Task[None] | None = None
        self._told: dict[str, str] = {}
        self._told_at = -inf

    async def trouble(self) -> Mapping[str, str]:
        """Of each part why it cannot do its work, empty if it can."""
        age = self._clock() - self._told_at
        if age > FRESH_S and self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        if self._asking is not None:
            await asyncio.wait((self._asking,), timeout=None if age > STALE_S else SOON_S)
        contenders = self._rooms.split.by_role
        return {role: await _soon(each.world.trouble()) for role, each in contenders.items()} | self._told

    async def _ask(self) -> None:
        """Whatever a part does, it is asked again: `_soon` raises nothing."""
        asked: Mapping[str, Awaitable[str]] = {
            "anchors": _unless(self._rooms.bank.healthy(), "recorded history cannot be asked"),
            "ledger": _unless(self._rooms.ledger.healthy(), "no decision can be recorded"),
            **{part: canary() for part, canary in self._canaries.items()},
        }
        answers = await asyncio.gather(*map(_soon, asked.values()))
        self._told, self._told_at = dict(zip(asked, answers, strict=True)), self._clock()
        self._asking = None


def router(readiness: Readiness, draining: Draining) -> APIRouter:
    routes = APIRouter(tags=["health"])

    @routes.get("/livez")
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "alive"}

    @routes.get(
        "/readyz", responses={503: {"description": "Some part cannot do its work; `trouble` says which, and why"}}
    )
    async def ready(response: Response) -> dict[str, str | dict[str, bool] | dict[str, str]]:
        """World model, recorded history, a write to the ledger, and a known case read, within the last seconds."""
        if draining.began:
            response.status_code = 503
            return {"status": "draining", "parts": {}, "trouble": {"service": "it is about to end: ask another"}}
        asked = await readiness.trouble()
        trouble = {part: why for part, why in asked.items() if why}
        unready = bool(trouble.keys() - SPARED)
        response.status_code = 503 if unready else 200
        parts = {part: not why for part, why in asked.items()}
        return {"status": "not ready" if unready else "ready", "parts": parts, "trouble": trouble}

    return routes


async def _unless(healthy: Awaitable[bool], trouble: str) -> str:
    return "" if await healthy else trouble


async def _soon(answer: Awaitable[str]) -> str:
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await answer
    except TimeoutError:
        return "no answer in time"
    except Exception as error:
        return f"it failed: {type(error).__name__}"
