"""Callers who put worked cases to the service and stop the time it takes to the last byte of the answer."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from time import monotonic
from typing import Any

import httpx

from service.domains import catalog, examples

PATIENCE_S = 15.0
CASES = ("routine-password-reset", "tested-pilot-in-staging", "pour-on-a-mild-morning", "reversing-by-day")
"""High impact, no rule broken, and history knows them: with all parts at work and a world that foresees no harm they are approved."""

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Caller:
    """`many` at once, each `each` times in a row. `budget_ms`: none is the policy's. `keyed`: with an Idempotency-Key."""

    name: str
    many: int = 1
    each: int = 1
    budget_ms: int | None = None
    keyed: bool = False


ONE, KEYED, LOAD = (
    Caller("one"),
    Caller("keyed", budget_ms=400, keyed=True),
    Caller("load", many=8, each=2),
)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. `status` 0: no answer at all. Times in milliseconds, as the caller sees them."""

    status: int
    media_type: str
    told: Answer
    took_ms: float
    budget_ms: int

    @property
    def overrun_ms(self) -> float:
        return max(0.0, self.took_ms - self.budget_ms)

    @property
    def approved(self) -> bool:
        return self.told.get("ruling") == "approve"


@cache
def proposals(names: Sequence[str] = CASES) -> Sequence[Answer]:
    """Read once: to read them while the clock runs would be measured too."""
    cases = [case["proposal"] for domain in catalog() for case in examples(domain) if case["name"] in names]
    return [{part: case[part] for part in ("domain", "state", "action")} for case in cases]


@cache
def budget_ms(domain: str) -> int:
    """The policy's own."""
    return catalog()[domain].policy.budget_ms


async def crowd(client: httpx.AsyncClient, caller: Caller, label: str) -> list[Reply]:
    """Everybody's replies. `label` makes their keys nobody else's."""
    for body in proposals():
        budget_ms(body["domain"])
    asked = [_in_a_row(client, caller, number, label) for number in range(caller.many)]
    return [reply for replies in await asyncio.gather(*asked) for reply in replies]


async def _in_a_row(client: httpx.AsyncClient, caller: Caller, number: int, label: str) -> list[Reply]:
    bodies = proposals()
    told: Sequence[Answer] = [bodies[(number + turn) % len(bodies)] for turn in range(caller.each)]
    keys = [f"{label}-{number}-{turn}" if caller.keyed else "" for turn in range(caller.each)]
    return [await ask(client, body, caller.budget_ms, key) for body, key in zip(told, keys, strict=True)]


async def ask(client: httpx.AsyncClient, body: Answer, budget: int | None = None, key: str = "") -> Reply:
    due = budget or budget_ms(body["domain"])
    options = {"options": {"budget_ms": budget}} if budget else {}
    headers = {"Idempotency-Key": key} if key else {}
    began = monotonic()
    try:
        answer = await client.post("/v1/evaluations", json=body | options, headers=headers, timeout=PATIENCE_S)
    except httpx.TransportError as error:
        return Reply(0, type(error).__name__, {}, (monotonic() - began) * 1000, due)
    took_ms = (monotonic() - began) * 1000
    media_type = answer.headers.get("content-type", "").partition(";")[0]
    return Reply(answer.status_code, media_type, answer.json() if "json" in media_type else {}, took_ms, due)
