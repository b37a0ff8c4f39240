"""How much may be promised at once, so that nothing admitted overruns its deadline: places, and who waits for one."""

import asyncio
from bisect import insort
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from itertools import count
from math import ceil, inf

from service.concurrency import GradientLimit
from service.deadline import Clock, Deadline
from service.errors import Overloaded
from service.pace import Pace

QUEUE = 256
"""Evaluations that may wait. Far more than any deadline leaves time for; it bounds memory."""
BATCH_TURN = 4
"""Every fourth place goes to a batch that waits, or it would wait for ever."""
CROWDED_S = 1.0
"""How long nothing is done beyond what must be, after somebody found no place."""
HISTORY_SHARE, HISTORY_SAVED_S = 0.02, 0.5
"""Of the time of all places, what recorded cases may take from simulations when these are too many; and how much of it may be saved up."""


class Effort(StrEnum):
    """All futures, and safer alternatives; only as many as a quorum needs; only what recorded history says; nothing."""

    full = "full"
    quorum = "quorum"
    history = "history"
    none = "none"


class Priority(StrEnum):
    """Who waits for the answer: a person, or nobody in particular."""

    interactive = "interactive"
    batch = "batch"


class Place(Enum):
    """What came of looking for one: it was waited for in vain if it was missed."""

    taken = auto()
    missed = auto()
    refused = auto()


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be simulated: so many steps, one after the other, in the time of this kind of work."""

    kind: str
    steps: int
    until: Deadline
    priority: Priority = Priority.interactive


@dataclass(frozen=True, order=True)
class Waiter:
    """`latest`: after that moment not even a quorum could be simulated in time."""

    latest: float
    number: int
    place: asyncio.Future[None] = field(compare=False)

    @property
    def called(self) -> bool:
        return self.place.done() and not self.place.cancelled()


@dataclass(eq=False)
class Admission:
    """Places for as many evaluations as the limit finds good, and two queues in the order of their deadlines."""

    clock: Clock
    limit: GradientLimit = field(default_factory=GradientLimit)
    active: int = 0
    held: Pace = field(default_factory=Pace)
    _waiting: dict[Priority, list[Waiter]] = field(default_factory=lambda: {each: [] for each in Priority})
    _numbers: Iterator[int] = field(default_factory=count)
    _turns: Iterator[int] = field(default_factory=lambda: count(1))
    _steps: dict[str, Pace] = field(default_factory=lambda: defaultdict(Pace))
    _turned_away_at: float = -inf
    _saved_s: float = HISTORY_SAVED_S
    _saved_at: float = 0.0

    @property
    def queued(self) -> int:
        return sum(map(len, self._waiting.values()))

    @property
    def crowded(self) -> bool:
        """Whether somebody found no place lately: then everyone is given less, so that more are given something."""
        return self.clock() - self._turned_away_at < CROWDED_S

    @asynccontextmanager
    async def admit(self, work: Work) -> AsyncIterator[Effort]:
        """Waits for a place as long as that leaves time to simulate. Raises `Overloaded`, nearly always at once."""
        place = await self._place(work)
        if place is not Place.taken:
            with self._history(waited=place is Place.missed) as effort:
                yield effort
            return
        began = self.clock()
        try:
            yield self._effort(work)
        finally:
            self.held.observe(self.clock() - began)
            self._leave()

    @contextmanager
    def spare(self) -> Iterator[Effort]:
        """A place if one is free and nobody waits for it, for what is decided already and could be told better."""
        free = self._free
        self.active += free
        try:
            yield Effort.full if free else Effort.none
        finally:
            if free:
                self._leave()

    def stepped(self, work: Work, seconds: float, steps: int) -> None:
        """So long took so many steps of this work."""
        self._steps[work.kind].observe(seconds / steps)
        self.limit.observe(work.kind, seconds / steps, self.active)
        self._call()

    # places

    @property
    def _free(self) -> bool:
        return self.active < self.limit.places and not self.queued

    async def _place(self, work: Work) -> Place:
        if self._free:
            self.active += 1
            return Place.taken
        self._turned_away_at = self.clock()
        waiter = Waiter(work.until.at - self._likely(work), next(self._numbers), asyncio.Future())
        if self.queued >= QUEUE or self.clock() + self._wait(waiter, work.priority) > waiter.latest:
            return Place.refused
        queue = self._waiting[work.priority]
        insort(queue, waiter)
        try:
            async with asyncio.timeout(max(0.0, waiter.latest - self.clock())):
                await waiter.place
        except TimeoutError:
            pass  # it may have been called in the same moment
        except BaseException:
            if waiter.called:
                self._leave()
            raise
        finally:
            if waiter in queue:
                queue.remove(waiter)
        return Place.taken if waiter.called else Place.missed

    def _leave(self) -> None:
        self.active -= 1
        self._call()

    def _call(self) -> None:
        """Those that wait, as long as there are places."""
        while self.active < self.limit.places and self.queued:
            people, batch = self._waiting[Priority.interactive], self._waiting[Priority.batch]
            turn = batch if not people or (batch and not next(self._turns) % BATCH_TURN) else people
            waiter = turn.pop(0)
            if not waiter.place.done():  # it may have given up in this very moment
                self.active += 1
                waiter.place.set_result(None)

    def _wait(self, waiter: Waiter, priority: Priority) -> float:
        """Until it is its turn, in seconds, if places are given up as they were lately."""
        people, queue = self._waiting[Priority.interactive], self._waiting[priority]
        ahead = sum(each < waiter for each in queue) + (len(people) if queue is not people else 0)
        return (ahead + 1) * self.held.bound / self.limit.places

    # time

    def _effort(self, work: Work) -> Effort:
        """Fewer futures where there are many to be served, or time is short."""
        return Effort.quorum if self.crowded or self._needed(work) > work.until.left else Effort.full

    def _needed(self, work: Work) -> float:
        """Seconds that its steps hardly ever take longer than, as they have lately been."""
        return work.steps * self._steps[work.kind].bound

    def _likely(self, work: Work) -> float:
        seen = self._steps[work.kind]
        return work.steps * (seen.mean + seen.deviation)

    @contextmanager
    def _history(self, waited: bool) -> Iterator[Effort]:
        """A share of the time of all places, and no more: what recorded cases say costs as much as what a quorum says.

        Who waited in vain is told so even when there is nothing left of it.
        """
        began = self.clock()
        earned = (began - self._saved_at) * HISTORY_SHARE * self.limit.places
        self._saved_s, self._saved_at = min(HISTORY_SAVED_S, self._saved_s + earned), began
        if self._saved_s > 0:
            self._saved_s -= self.held.mean
            try:
                yield Effort.history
            finally:
                self._saved_s -= self.clock() - began - self.held.mean
        elif waited:
            yield Effort.none
        else:
            drained = self.queued * self.held.mean / self.limit.places
            raise Overloaded("too many evaluations are under way", retry_after=max(1, ceil(drained)))
