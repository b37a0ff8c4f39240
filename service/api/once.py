"""Idempotency-Key: a request is carried out once, however often it is sent."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Annotated

from fastapi import Header, Request, Response

from service.api.callers import Caller
from service.deadline import Deadline
from service.decisions.claim import Answered, Begun, Claim, InFlight
from service.decisions.ledger import Ledger
from service.errors import LedgerUnavailable, RequestInFlight

JSON = "application/json"
REPLAYED = "Idempotency-Replayed"
RETRY_S = 1

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Send it again and the first answer comes back, byte for byte, for 24 hours; with another body: 422",
    ),
]


class Once:
    """Keeps answers that were given (200) and nothing else: a request that could not be carried out may be sent again."""

    def __init__(self, ledger: Ledger, now: Callable[[], datetime]) -> None:
        self._ledger, self._now = ledger, now

    async def answer(
        self,
        request: Request,
        caller: Caller,
        key: str | None,
        work: Callable[[], Awaitable[bytes]],
        until: Deadline | None = None,
    ) -> Response:
        """Raises `KeyReused`, `RequestInFlight`, and what `work` raises."""
        if key is None:
            return Response(await work(), media_type=JSON)
        body_hash = hashlib.sha256(await request.body()).hexdigest()
        claim = Claim(f"{caller.tenant}\n{caller.name}", f"{request.method} {request.url.path}", key, body_hash)
        async with _by(until):
            standing = await self._ledger.begin(claim, self._now())
        if isinstance(standing, Answered):
            return Response(standing.body, standing.status, {REPLAYED: "true"}, JSON)
        if isinstance(standing, InFlight):
            raise RequestInFlight("the same request is being carried out", retry_after=RETRY_S)
        return Response(await self._carried_out(standing, work, until), media_type=JSON)

    async def _carried_out(self, begun: Begun, work: Callable[[], Awaitable[bytes]], until: Deadline | None) -> bytes:
        try:
            body = await work()
        except BaseException:
            with suppress(LedgerUnavailable):  # then the claim's lease runs out
                async with _by(until):
                    await asyncio.shield(self._ledger.abandon(begun))
            raise
        async with _by(until):
            await self._ledger.finish(begun, 200, body)
        return body


@asynccontextmanager
async def _by(until: Deadline | None) -> AsyncIterator[None]:
    """A claim costs its caller time too: it is in the budget. What was begun at the ledger ends there all the same."""
    try:
        async with asyncio.timeout(max(until.left, 0.001) if until else None):
            yield
    except TimeoutError as error:
        raise LedgerUnavailable("the claim could not be recorded within the budget") from error
