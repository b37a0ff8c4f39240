"""The seam to the record of what was decided."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from service.decisions.chain import Event
from service.decisions.claim import Begun, Claim, Standing
from service.decisions.entry import HOUSE, NoteKind
from service.decisions.outcome import OutcomeReport
from service.vocabulary.decision import Decision, Override


class Ledger(Protocol):
    """Whatever is appended can be read back, for ever, and is an event in the audit chain, or neither.

    A write returns once it would survive a power cut. Raises `LedgerUnavailable`, what is said below, and nothing else.
    """

    @property
    def name(self) -> str: ...

    async def append(self, decision: Decision, tenant: str = HOUSE) -> None:
        """The same again changes nothing; another under its id is refused."""

    async def find(self, decision_id: str) -> Decision | None: ...

    async def override(self, override: Override) -> Decision:
        """Keeps a supervisor's ruling, once. Raises `UnknownDecision`; `OverrideRefused` if there is one already."""

    async def pending(self, limit: int, after: str = "") -> tuple[Decision, ...]:
        """Escalations that nobody has ruled on, the soonest to end first, after the one named. Raises `UnknownDecision`."""

    async def expire(self, now: datetime) -> tuple[Decision, ...]:
        """Denies, in nobody's name, every escalation whose time was over before now; those."""

    async def wait(self, decision_id: str, timeout_s: float) -> Decision:
        """As it is once it has been ruled on, by whatever process, or when time is up. Raises `UnknownDecision`."""

    async def report(self, report: OutcomeReport) -> None:
        """What really happened. The same again changes nothing. Raises `UnknownDecision`."""

    async def reports(self, decision_id: str) -> tuple[OutcomeReport, ...]:
        """Oldest first."""

    async def note(
        self, kind: NoteKind, subject: str, body: Mapping[str, Any], at: datetime, tenant: str = HOUSE
    ) -> None:
        """A policy, a model or a key that is as `body` from now on. What was noted of it last, again, changes nothing."""

    async def events(self, after: int, limit: int) -> tuple[Event, ...]:
        """The audit chain, from the event behind the one named."""

    async def begin(self, claim: Claim, now: datetime) -> Standing:
        """Whether to carry a request out. Raises `KeyReused` if the same key came with another body."""

    async def finish(self, begun: Begun, status: int, body: bytes) -> None:
        """Keeps the answer for `KEPT` from the beginning."""

    async def abandon(self, begun: Begun) -> None:
        """Nothing came of it: the next may try."""

    async def healthy(self) -> bool:
        """Whether it could take a decision now."""

    async def aclose(self) -> None: ...
