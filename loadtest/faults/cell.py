"""One cell of the fault matrix: something goes wrong, callers ask, and each reply is held against what is owed."""

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import httpx

from loadtest.faults.caller import Caller, Reply, ask, crowd, proposals
from loadtest.faults.dependent import ready
from loadtest.faults.neighbours import Neighbours
from loadtest.faults.owed import Owed, recorded, turned_away

RECOVERY_S = 40.0
"""After a fault is over, until every part is ready again: a probe that a hang swallowed is waited for 30 s."""
SYSTEMATIC_MS = 50.0
"""A cell whose median reply overruns by more is late by design, whatever the machine was doing."""
UNHURRIED_MS = 10_000


@dataclass(eq=False)
class Row:
    """What came of a cell; `wrong` is empty where all was as it is owed. `neighbours`: the machine's share that others took."""

    part: str
    fault: str
    who: str
    replies: list[Reply] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    recovered_s: float = 0.0
    neighbours: float = 0.0

    @property
    def answers(self) -> Counter[str]:
        return Counter(_answer(reply) for reply in self.replies)

    def told(self) -> dict[str, Any]:
        overruns = sorted(reply.overrun_ms for reply in self.replies)
        return {
            **{"part": self.part, "fault": self.fault, "who": self.who, "requests": len(self.replies)},
            "answers": dict(self.answers),
            "took_max_ms": round(max((reply.took_ms for reply in self.replies), default=0.0), 1),
            "overrun_median_ms": round(quantile(overruns, 0.5), 1),
            "overrun_max_ms": round(quantile(overruns, 1.0), 1),
            "recovered_s": round(self.recovered_s, 2),
            "neighbours": round(self.neighbours, 2),
            "wrong": self.wrong,
        }


@dataclass(frozen=True, slots=True)
class Cell:
    """`owed` while the fault lasts, `after` once it is over."""

    part: str
    fault: str
    caller: Caller
    owed: Owed
    after: Owed

    async def run(self, client: httpx.AsyncClient, fault: AbstractAsyncContextManager[object]) -> Row:
        async with fault:
            row = await self.asked(client)
        await self.checked(client, row)
        return row

    async def asked(self, client: httpx.AsyncClient) -> Row:
        """While the fault lasts."""
        others = Neighbours()
        replies = await crowd(client, self.caller, f"{self.part}-{self.fault}".replace(" ", "-"))
        many = len(replies) > 1
        wrong = [wrong for reply in replies if not (many and turned_away(reply)) and (wrong := self.owed(reply))]
        if quantile(sorted(reply.overrun_ms for reply in replies), 0.5) > SYSTEMATIC_MS:
            wrong.append(f"every other reply is more than {SYSTEMATIC_MS:g} ms late")
        return Row(self.part, self.fault, self.caller.name, replies, wrong, neighbours=others.share)

    async def checked(self, client: httpx.AsyncClient, row: Row) -> None:
        """Once it is over: all is well again, and what was answered is in the ledger."""
        began = monotonic()
        recovered = await ready(client, RECOVERY_S)
        row.recovered_s = monotonic() - began
        row.wrong += [] if recovered else [f"not ready {RECOVERY_S:g} s after the fault was over"]
        row.wrong += await recorded(client, row.replies)
        if wrong := self.after(await ask(client, proposals()[0], UNHURRIED_MS)):
            row.wrong.append(f"after the fault: {wrong}")

    def lost(self, why: str) -> Row:
        return Row(self.part, self.fault, self.caller.name, wrong=[why])


class Lateness:
    """How late this process itself wakes up, in milliseconds: what the measuring costs, not the service."""

    def __init__(self) -> None:
        self.late: list[float] = []

    async def watch(self, every_s: float = 0.005) -> None:
        while True:
            due = monotonic() + every_s
            await asyncio.sleep(every_s)
            self.late.append((monotonic() - due) * 1000)


def quantile(values: Sequence[float], share: float) -> float:
    """Of sorted values: the smallest that at least this share does not exceed; 0 of none."""
    return values[max(0, math.ceil(share * len(values)) - 1)] if values else 0.0


def _answer(reply: Reply) -> str:
    told = reply.told
    return f"{told['ruling']} {told['reason']} ({told['basis']})" if reply.status == 200 else str(reply.status)
