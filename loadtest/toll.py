"""What was acknowledged, and what of it could not be found again."""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx

PAGE = 200

Answer = dict[str, Any]


@dataclass(eq=False)
class Toll:
    """Ids by what became of them, with a digest of each answer, and the answers that nobody should have had."""

    acknowledged: dict[str, bytes] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    torn: set[str] = field(default_factory=set)
    not_waiting: set[str] = field(default_factory=set)
    killed: Counter[str] = field(default_factory=Counter)
    refused_while_down: int = 0
    not_refused: int = 0
    slowest_return_s: float = 0.0
    _last: str = ""

    def heard(self, answer: httpx.Response, down: bool) -> None:
        """`down`: there was no ledger from before the question until after the answer."""
        if answer.status_code == 200:
            told = answer.json()
            self.acknowledged[told["decision_id"]] = digest(told)
            self.unread.add(told["decision_id"])
        self.refused_while_down += down and answer.status_code == 503
        self.not_refused += answer.status_code not in ((503,) if down else (200, 503))

    async def reckon(self, client: httpx.AsyncClient, everything: bool = False) -> None:
        """What was acknowledged since the last time, as it was answered? And do its escalations wait?"""
        waiting = await self._waiting(client, "" if everything else self._last)
        for id in sorted(self.acknowledged if everything else self.unread):
            found = await client.get(f"/v1/decisions/{id}")
            if found.status_code != 200:
                self.missing.add(id)
            elif digest(found.json()) != self.acknowledged[id]:
                self.torn.add(id)
            elif found.json()["override"] and id not in waiting:
                self.not_waiting.add(id)
        self.unread.clear()

    def told(self, chain_ok: bool) -> Answer:
        return {
            "kills": self.killed.total(),
            "acknowledged": len(self.acknowledged),
            "missing": len(self.missing),
            "torn": len(self.torn),
            "not_waiting": len(self.not_waiting),
            "not_refused": self.not_refused,
            "chain_ok": chain_ok,
            "killed": dict(sorted(self.killed.items())),
            "refused_while_down": self.refused_while_down,
            "slowest_return_s": round(self.slowest_return_s, 2),
        }

    async def _waiting(self, client: httpx.AsyncClient, after: str) -> set[str]:
        """All are given the same time, so those that came since are behind the last one seen, unless that is gone."""
        found: set[str] = set()
        while True:
            params = {"limit": PAGE} | ({"after": after} if after else {})
            answer = await client.get("/v1/decisions", params=params)
            if after and answer.status_code == 404:
                return await self._waiting(client, "")
            page = answer.raise_for_status().json()
            found |= {each["decision_id"] for each in page}
            if len(page) < PAGE:
                self._last = page[-1]["decision_id"] if page else after
                return found
            after = page[-1]["decision_id"]


def digest(decision: Answer) -> bytes:
    """Of all but the permit, which lasts a moment."""
    return hashlib.sha256(json.dumps({**decision, "permit": None}, sort_keys=True).encode()).digest()
