"""How long a server is waited for, and what becomes of a write that nobody waits for any more."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from redis.exceptions import RedisError

from service.errors import LedgerUnavailable

T = TypeVar("T")


class Patience:
    """Seconds. Every failure is a `LedgerUnavailable`."""

    def __init__(self, patience_s: float) -> None:
        self._patience = patience_s
        self._writes: set[asyncio.Task[Any]] = set()
        self._reads: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def write(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What was begun is finished even if the caller leaves: a half-known write would be worse than a late one."""
        self._refuse_if_closed()
        task = asyncio.create_task(work())
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return await self._answer(task)

    async def read(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Behind the writes that were begun here before it. Who leaves does not wait for the client to let go."""

        async def read() -> T:
            if before:
                await asyncio.wait(before)
            return await work()

        self._refuse_if_closed()
        before = set(self._writes)
        task = asyncio.create_task(read())
        self._reads.add(task)
        task.add_done_callback(self._reads.discard)
        try:
            return await self._answer(task)
        finally:
            task.cancel()

    def close(self) -> bool:
        """Whether it was open."""
        was_open, self._closed = not self._closed, True
        return was_open

    async def finish(self) -> None:
        """Or as long as it is waited for."""
        if under_way := self._writes | self._reads:
            await asyncio.wait(under_way, timeout=self._patience)

    async def _answer(self, task: "asyncio.Task[T]") -> T:
        task.add_done_callback(_heard)
        try:
            async with asyncio.timeout(self._patience):
                return await asyncio.shield(task)
        except TimeoutError as error:
            raise LedgerUnavailable(f"the ledger did not answer within {self._patience} s") from error
        except (RedisError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise LedgerUnavailable(f"the ledger cannot be used: {error}") from error

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise LedgerUnavailable("the ledger is closed")


def _heard(task: asyncio.Task[Any]) -> None:
    """Whoever asked may have gone."""
    if not task.cancelled():
        task.exception()
