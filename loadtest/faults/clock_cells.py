"""The cells of the time of day: it jumps while requests are under way, and what waits for a person must not care which way."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx

from loadtest.faults.caller import KEYED, LOAD, ONE, Answer, ask, proposals
from loadtest.faults.cell import Cell, Row
from loadtest.faults.dependent import service
from loadtest.faults.jumping import JUMP, jump
from loadtest.faults.network_cells import SCRIPTED
from loadtest.faults.owed import normal

PART = "clock"
FAR_S = timedelta(days=2).total_seconds()
"""Longer than anything that is kept for a time: overrides an hour, idempotency keys a day."""
UNDER_WAY_S = 0.1
NOTICED_S = 3.0
"""Escalations that ran out are looked for every second."""


async def clock_rows(data: Path) -> list[Row]:
    found = []
    async with service(data, "loadtest.faults.jumping", **SCRIPTED) as running:
        for name, jumps in {"forward": [FAR_S], "back": [-FAR_S], "to and fro": [FAR_S, -FAR_S] * 4}.items():
            for caller in (ONE, KEYED, LOAD):
                cell = Cell(PART, name, caller, normal, normal)
                found.append(await cell.run(running.client, jumping(data, jumps)))
        found.append(await _standing(running.client, data))
        found.append(await _keyed(running.client, data))
    (data / JUMP).unlink()
    return found


@asynccontextmanager
async def jumping(data: Path, jumps: Sequence[float]) -> AsyncIterator[None]:
    """One jump after another, the first while the first requests are under way; set right at the end."""

    async def jumped() -> None:
        for seconds in jumps:
            await asyncio.sleep(UNDER_WAY_S)
            jump(data, seconds)

    task = asyncio.create_task(jumped())
    yield
    await task
    jump(data, 0)


async def _standing(client: httpx.AsyncClient, data: Path) -> Row:
    """An escalation outlives a jump back; one that ran out in a jump forward has ended for good, though time comes back."""
    row = Row(PART, "an escalation that waits", ONE.name)
    row.replies = [await ask(client, _escalating(), 400) for _ in range(2)]
    waiting, _ = (f"/v1/decisions/{reply.told['decision_id']}" for reply in row.replies)
    jump(data, -FAR_S)
    await asyncio.sleep(NOTICED_S / 2)
    if (await client.get(waiting)).json()["overridden"] is not None:
        row.wrong.append("a jump back ended the wait for a person")
    jump(data, FAR_S)
    await asyncio.sleep(NOTICED_S)
    jump(data, 0)
    ended = (await client.get(waiting)).json()["overridden"]
    if ended is None or ended["ruling"] == "approved":
        row.wrong.append(f"its time was over by the clock, and its wait was not: {ended}")
    told = {"ruling": "approved", "code": "mitigated", "reason": "Seen in person, all is well."}
    if (again := await client.post(f"{waiting}/override", json=told)).status_code != 409:
        row.wrong.append(f"time came back, and with it what had ended: {again.status_code}")
    return row


async def _keyed(client: httpx.AsyncClient, data: Path) -> Row:
    """What was carried out once is not carried out again because the clock went back."""
    row = Row(PART, "a key that was used", KEYED.name)
    for seconds in (0.0, -FAR_S, 0.0):
        jump(data, seconds)
        row.replies.append(await ask(client, proposals()[0], 400, "used-before"))
    if len({reply.told.get("decision_id") for reply in row.replies}) != 1:
        row.wrong.append("one key, several decisions")
    return row


def _escalating() -> Answer:
    """A worked case that a rule stops."""
    return proposals(("mfa-switched-off",))[0]
