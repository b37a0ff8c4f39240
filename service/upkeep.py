"""What the service does without being asked: it ends what ran out, notes what changed, and reads what was switched off or set."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from logging import getLogger
from typing import Any

from service.decisions.chain import Kind
from service.decisions.entry import NoteKind
from service.decisions.ledger import Ledger
from service.decisions.switches import Switches, Target
from service.errors import LedgerUnavailable
from service.metrics import Metrics
from service.policies import Policies
from service.vocabulary.proposal import HOUSE

LOG = getLogger("premortem")
EVERY_S = 1.0
Circumstances = Mapping[tuple[NoteKind, str, str], Mapping[str, Any]]
"""What is so now, by kind, tenant and subject."""
GONE: Mapping[str, Any] = {"gone": True}


@dataclass(eq=False)
class Upkeep:
    """`circumstances` are the models, the policies and the keys as they are when it is asked."""

    ledger: Ledger
    switches: Switches
    now: Callable[[], datetime]
    circumstances: Callable[[], Circumstances]
    metrics: Metrics
    policies: Policies
    _noted: dict[tuple[NoteKind, str, str], Mapping[str, Any]] = field(default_factory=dict)

    async def forever(self) -> None:
        """Each part by itself: whatever becomes of one keeps nothing from the others, and it is tried again."""
        while True:
            for part in (self.expire, self.note, self.reload, self.switches.refresh, self.count):
                try:
                    await part()
                except LedgerUnavailable:
                    pass  # readiness says so
                except Exception:
                    LOG.exception("upkeep failed")
            await asyncio.sleep(EVERY_S)

    async def expire(self) -> None:
        """An escalation on which nobody ruled in time is over, whether or not anybody asks."""
        while expired := await self.ledger.expire(self.now()):
            for decision in expired:
                self.metrics.ruled(decision)

    async def count(self) -> None:
        self.metrics.pending.set(await self.ledger.waiting())
        for target in Target:
            self.metrics.off.labels(target).set(self.switches.count(target))

    async def reload(self) -> None:
        """The policy files, if they have changed: in the audit chain first, then in force."""
        edition = await asyncio.to_thread(self.policies.look)
        self.metrics.policies_refused.set(bool(self.policies.refused))
        if edition:
            for name, domain in edition.domains.items():
                await self.ledger.note(Kind.policy, name, domain.policy.told(), self.now(), HOUSE)
            self.policies.put(edition)
        for name, domain in self.policies.items():
            self.metrics.policy.labels(name).info({"policy": domain.policy.name})

    async def note(self) -> None:
        """Into the audit chain: what is another than it was, and the keys and models that are gone."""
        current = dict(self.circumstances())
        if current == self._noted:
            return
        for kind in (Kind.key, Kind.model):
            for event in await self.ledger.noted(kind):
                current.setdefault((kind, event.tenant, event.subject), GONE)
        for (kind, tenant, subject), body in current.items():
            await self.ledger.note(kind, subject, body, self.now(), tenant)
        self._noted = dict(self.circumstances())
