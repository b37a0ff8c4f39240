"""How long a server is waited for, and what becomes of a write that nobody waits for any more."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from redis.exceptions import RedisError

from service.errors import LedgerUnavailable

T = TypeVar("T")


class Patience:
    """Seconds. Every failure is a `LedgerUnavailable`."""

    def __init__(self, patience_s: float) -> None:
        self._patience = patience_s
        self._writes: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def write(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What was begun is finished even if the caller leaves: a half-known write would be worse than a late one."""
        self._refuse_if_closed()
        task = asyncio.create_task(work())
        self._writes.add(task)
        task.add_done_callback(self._done)
        return await self._answer(asyncio.shield(task))

    async def read(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Behind the writes that were begun here before it."""

        async def read() -> T:
            if before:
                await asyncio.wait(before)
            return await work()

        self._refuse_if_closed()
        before = set(self._writes)
        return await self._answer(read())

    def close(self) -> bool:
        """Whether it was open."""
        was_open, self._closed = not self._closed, True
        return was_open

    async def finish(self) -> None:
        if self._writes:
            await asyncio.wait(self._writes, timeout=self._patience)

    async def _answer(self, answer: Awaitable[T]) -> T:
        try:
            return await asyncio.wait_for(answer, self._patience)
        except TimeoutError as error:
            raise LedgerUnavailable(f"the ledger did not answer within {self._patience} s") from error
        except (RedisError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise LedgerUnavailable(f"the ledger cannot be used: {error}") from error

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._writes.discard(task)
        if not task.cancelled():
            task.exception()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise LedgerUnavailable("the ledger is closed")
