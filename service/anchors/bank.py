"""The seam to recorded history."""

from collections.abc import Sequence
from typing import Protocol

from service.vocabulary.anchor import Anchor, AnchorKey, Match

SIMILARITY_FLOOR = 0.75
"""Below this cosine a recorded state is not the same kind of situation and must not ground a future."""

PRECEDENT_FLOOR = 0.5
"""Below this cosine a recorded case is not even worth reminding the world model of."""

PRECEDENT_TURNS = 3
"""A case recorded a few turns earlier or later is still a precedent; to ground a future it must be of the very turn."""


class AnchorBankUnavailable(Exception):
    """Recorded history cannot be read or written now."""


class AnchorBank(Protocol):
    """Whatever is put in can be found again by its own key, by its own tenant; what is shared, by all.

    Raises `AnchorBankUnavailable` and nothing else.
    """

    @property
    def name(self) -> str: ...

    async def add(self, anchors: Sequence[Anchor]) -> None:
        """Keeps the anchors, each once by its id within its tenant; returns when they are durable and searchable."""

    async def nearest(
        self, domain: str, key: AnchorKey, limit: int, floor: float = SIMILARITY_FLOOR, turns: int = 0, *, tenant: str
    ) -> tuple[Match, ...]:
        """The closest anchors of the key's category at most `turns` turns away from its turn, best first, none below `floor`.

        Only those that are shared or the tenant's own; the empty tenant sees what is shared and nothing else.
        """

    async def count(self, domain: str) -> int:
        """How many are shared. Tenants' own do not count: they must not pass for reference history that is there already."""

    async def healthy(self) -> bool: ...

    async def aclose(self) -> None: ...
