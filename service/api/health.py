"""Whether the process lives, and whether it can rule."""

import asyncio
from collections.abc import Awaitable, Mapping

from fastapi import APIRouter, Response

from service.guardrail import Rooms

PATIENCE_S = 1.0


def router(rooms: Rooms) -> APIRouter:
    routes = APIRouter(tags=["health"])

    @routes.get("/livez")
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "alive"}

    @routes.get("/readyz", responses={503: {"description": "Some part cannot do its work; `parts` says which"}})
    async def ready(response: Response) -> dict[str, str | dict[str, bool]]:
        """Asks every part now: the world model, the recorded history, and whether the ledger takes a write."""
        asked: Mapping[str, Awaitable[bool]] = {
            "world": rooms.world.healthy(),
            "anchors": rooms.bank.healthy(),
            "ledger": rooms.ledger.healthy(),
        }
        answers = await asyncio.gather(*map(_soon, asked.values()))
        parts = dict(zip(asked, answers, strict=True))
        response.status_code = 200 if all(answers) else 503
        return {"status": "ready" if all(answers) else "not ready", "parts": parts}

    return routes


async def _soon(answer: Awaitable[bool]) -> bool:
    try:
        return await asyncio.wait_for(answer, PATIENCE_S)
    except TimeoutError:
        return False
