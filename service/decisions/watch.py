"""Wakes whoever waits for a ruling."""

import asyncio
from collections.abc import Awaitable, Callable, Collection

EVERY_S = 0.04


class Watch:
    """However many wait, one question every 40 ms: which of these have been ruled on? By whatever process, so nothing is told."""

    def __init__(self, ruled: Callable[[Collection[str]], Awaitable[Collection[str]]]) -> None:
        self._ruled = ruled
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def ruling(self, decision_id: str, timeout_s: float) -> None:
        """Returns when there is a ruling, or when the time is over."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(decision_id, set()).add(woken)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            await asyncio.wait_for(woken, timeout_s)
        except TimeoutError:
            return
        finally:
            self._leave(decision_id, woken)

    async def aclose(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})
        for waiting in [each for ids in self._waiting.values() for each in ids]:
            if not waiting.done():
                waiting.set_result(None)

    async def _look(self) -> None:
        """Ends when nobody waits; what goes wrong goes wrong for all who wait."""
        try:
            while self._waiting:
                for decision_id in await self._ruled(list(self._waiting)):
                    for woken in self._waiting.get(decision_id, ()):
                        if not woken.done():
                            woken.set_result(None)
                await asyncio.sleep(EVERY_S)
        except Exception as error:
            for woken in [each for ids in self._waiting.values() for each in ids]:
                if not woken.done():
                    woken.set_exception(error)

    def _leave(self, decision_id: str, woken: asyncio.Future[None]) -> None:
        waiting = self._waiting[decision_id]
        waiting.discard(woken)
        if not waiting:
            del self._waiting[decision_id]
