"""Whether the process lives, and whether it can rule."""

import asyncio
from collections.abc import Awaitable, Mapping

from fastapi import APIRouter, Response

from service.api.draining import Draining
from service.guardrail import Rooms

PATIENCE_S = 1.0


def router(rooms: Rooms, draining: Draining) -> APIRouter:
    routes = APIRouter(tags=["health"])

    @routes.get("/livez")
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "alive"}

    @routes.get(
        "/readyz", responses={503: {"description": "Some part cannot do its work; `trouble` says which, and why"}}
    )
    async def ready(response: Response) -> dict[str, str | dict[str, bool] | dict[str, str]]:
        """Asks every part now: the world model, the recorded history, and whether the ledger takes a write. Not when about to end."""
        if draining.began:
            response.status_code = 503
            return {"status": "draining", "parts": {}, "trouble": {"service": "it is about to end: ask another"}}
        asked: Mapping[str, Awaitable[str]] = {
            "world": rooms.world.trouble(),
            "anchors": _unless(rooms.bank.healthy(), "recorded history cannot be asked"),
            "ledger": _unless(rooms.ledger.healthy(), "no decision can be recorded"),
        }
        answers = await asyncio.gather(*map(_soon, asked.values()))
        trouble = {part: why for part, why in zip(asked, answers, strict=True) if why}
        response.status_code = 503 if trouble else 200
        parts = {part: part not in trouble for part in asked}
        return {"status": "not ready" if trouble else "ready", "parts": parts, "trouble": trouble}

    return routes


async def _unless(healthy: Awaitable[bool], trouble: str) -> str:
    return "" if await healthy else trouble


async def _soon(answer: Awaitable[str]) -> str:
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await answer
    except TimeoutError:
        return "no answer in time"
