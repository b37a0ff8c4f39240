"""Recorded history as it was on some day: what a forecast made then could have recalled."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from service.anchors.bank import SIMILARITY_FLOOR, AnchorBank
from service.vocabulary.anchor import Anchor, AnchorKey, Match


@dataclass(frozen=True, slots=True)
class EarlierBank:
    """Finds only what was recorded before `day`. The bank stays its owner's to close."""

    bank: AnchorBank
    day: datetime
    name: str = "earlier"

    async def add(self, anchors: Sequence[Anchor]) -> None:
        await self.bank.add(anchors)

    async def nearest(
        self, domain: str, key: AnchorKey, limit: int, floor: float = SIMILARITY_FLOOR, turns: int = 0, *, tenant: str
    ) -> tuple[Match, ...]:
        """Asks for more until enough of them are early enough, or there are no more."""
        wanted = limit
        while True:
            wanted *= 2
            found = await self.bank.nearest(domain, key, wanted, floor, turns, tenant=tenant)
            kept = tuple(match for match in found if match.anchor.when < self.day)[:limit]
            if len(kept) == limit or len(found) < wanted:
                return kept

    async def count(self, domain: str) -> int:
        """Of all that is kept, later ones too."""
        return await self.bank.count(domain)

    async def healthy(self) -> bool:
        return await self.bank.healthy()

    async def aclose(self) -> None:
        """Nothing of its own to close."""
