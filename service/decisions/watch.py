"""Wakes whoever waits for a decision to be settled."""

import asyncio
from collections.abc import Awaitable, Callable, Collection

EVERY_S = 0.04


class Watch:
    """However many wait, one question every 40 ms: which of these places in the queue are free? By whatever process, so nothing is told."""

    def __init__(self, free: Callable[[Collection[str]], Awaitable[Collection[str]]]) -> None:
        self._free = free
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def settled(self, due: str, timeout_s: float) -> None:
        """Returns when nobody waits at this place any more, or when the time is over."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(due, set()).add(woken)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            await asyncio.wait_for(woken, timeout_s)
        except TimeoutError:
            return
        finally:
            self._leave(due, woken)

    async def aclose(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})
        for waiting in [each for those in self._waiting.values() for each in those]:
            if not waiting.done():
                waiting.set_result(None)

    async def _look(self) -> None:
        """Ends when nobody waits; what goes wrong goes wrong for all who wait."""
        try:
            while self._waiting:
                for due in await self._free(list(self._waiting)):
                    for woken in self._waiting.get(due, ()):
                        if not woken.done():
                            woken.set_result(None)
                await asyncio.sleep(EVERY_S)
        except Exception as error:
            for woken in [each for those in self._waiting.values() for each in those]:
                if not woken.done():
                    woken.set_exception(error)

    def _leave(self, due: str, woken: asyncio.Future[None]) -> None:
        waiting = self._waiting[due]
        waiting.discard(woken)
        if not waiting:
            del self._waiting[due]
