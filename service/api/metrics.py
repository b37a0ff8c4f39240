"""GET /metrics, and the count of what was refused."""

from collections.abc import Callable

from fastapi import APIRouter, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.health import Readiness
from service.guardrail import Guardrail
from service.metrics import CONTENT, Metrics


def router(metrics: Metrics, readiness: Readiness, guardrail: Guardrail) -> APIRouter:
    routes = APIRouter(tags=["health"])

    @routes.get("/metrics", response_class=Response, responses={200: {"content": {CONTENT: {}}}})
    async def scrape() -> Response:
        """OpenMetrics. No label holds anything that a caller wrote."""
        trouble = await readiness.trouble()
        parts = {part: not why for part, why in trouble.items()}
        admission = guardrail.admission
        metrics.stands(parts, guardrail.rooms.split.servers, admission.limit.places, admission.queued)
        return Response(metrics.exposed(), media_type=CONTENT)

    return routes


class Tally:
    """Counts the answers that are problems, by their status; a probe's is none."""

    def __init__(self, app: ASGIApp, counted: Callable[[int], object]) -> None:
        self._app, self._counted = app, counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def told(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400 and scope["path"] != "/readyz":
                self._counted(message["status"])
            await send(message)

        await self._app(scope, receive, told)
