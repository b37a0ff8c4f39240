"""The service's last seconds, as its callers see them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

CLOSE = (b"connection", b"close")


class Draining:
    """First it is unready and does all its work, so that balancers look elsewhere; then it leaves, and nobody may hold it up."""

    def __init__(self) -> None:
        self.began = self.left = False
        self._waits: set[asyncio.Timeout] = set()

    def begin(self) -> None:
        """May be called by a signal's handler."""
        self.began = True

    def leave(self) -> None:
        self.began = self.left = True
        for wait in self._waits:
            wait.reschedule(0.0)

    @asynccontextmanager
    async def cuts_short(self) -> AsyncIterator[None]:
        """Around what only waits: it ends, quietly, when the service leaves."""
        try:
            async with asyncio.timeout(0.0 if self.left else None) as wait:
                self._waits.add(wait)
                try:
                    yield
                finally:
                    self._waits.discard(wait)
        except TimeoutError:
            if not self.left:
                raise


class LastAnswers:
    """From the beginning of the end every answer says `Connection: close`: whoever asks again comes by another door."""

    def __init__(self, app: ASGIApp, draining: Draining) -> None:
        self._app, self._draining = app, draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def closing(message: Message) -> None:
            if self._draining.began and message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), CLOSE]}
            await send(message)

        await self._app(scope, receive, closing)
