"""The seam to the record of what was decided."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from service.decisions.chain import Event
from service.decisions.claim import Begun, Claim, Standing
from service.decisions.entry import NoteKind
from service.decisions.outcome import OutcomeReport
from service.vocabulary.decision import Decision, Override


class Ledger(Protocol):
    """Whatever is appended can be read back, for ever, and is an event in the audit chain, or neither.

    A write returns once it would survive a power cut. Raises `LedgerUnavailable`, what is said below, and nothing else.
    """

    @property
    def name(self) -> str: ...

    async def append(self, decision: Decision, tenant: str, supersede: Override | None = None) -> None:
        """The same again changes nothing; another under its id is refused.

        With the ruling that it takes another decision's place, in one step: raises as `override`, and keeps neither.
        """

    async def find(self, decision_id: str, tenant: str) -> Decision | None:
        """As it stands. Another tenant's is as unknown as one that never was, here and below."""

    async def override(self, override: Override, tenant: str) -> Decision:
        """Keeps a ruling that `ruling.admit` lets in, and answers how the decision stands then.

        Raises `UnknownDecision`, `OverrideRefused`.
        """

    async def pending(self, tenant: str, limit: int, after: str = "") -> tuple[Decision, ...]:
        """Escalations that wait for a person, the soonest to end first, after the one named. Raises `UnknownDecision`."""

    async def waiting(self) -> int:
        """How many escalations wait for a person, of all tenants."""

    async def expire(self, now: datetime) -> tuple[Decision, ...]:
        """Rules, in nobody's name, that every escalation whose time was over before now is expired; those, of all tenants."""

    async def wait(self, decision_id: str, tenant: str, timeout_s: float) -> Decision:
        """As it is once it has been ruled on, by whatever process, or when time is up. Raises `UnknownDecision`."""

    async def report(self, report: OutcomeReport, tenant: str) -> None:
        """What really happened. The same again changes nothing. Raises `UnknownDecision`."""

    async def reports(self, decision_id: str, tenant: str) -> tuple[OutcomeReport, ...]:
        """Oldest first; none of an unknown decision."""

    async def history(self, decision_id: str, tenant: str) -> tuple[Event, ...]:
        """Every event of the decision in the audit chain, oldest first, its body as it was before it was sealed.

        Raises `UnknownDecision`.
        """

    async def note(self, kind: NoteKind, subject: str, body: Mapping[str, Any], at: datetime, tenant: str) -> None:
        """A policy, a model, a key or a switch that is as `body` from now on. What was noted of it last, again, changes nothing."""

    async def noted(self, kind: NoteKind) -> tuple[Event, ...]:
        """What was noted last of every subject of every tenant."""

    async def events(self, after: int, limit: int) -> tuple[Event, ...]:
        """The audit chain as it is signed, free text sealed, from the event behind the one named."""

    async def erase(self, decision_id: str, tenant: str, at: datetime, by: str) -> None:
        """Makes the free text of the decision, its rulings and its reports unreadable for ever; the chain stays whole, and says so.

        Raises `UnknownDecision`.
        """

    async def begin(self, claim: Claim, now: datetime) -> Standing:
        """Whether to carry a request out. Raises `KeyReused` if the same key came with another body."""

    async def finish(self, begun: Begun, status: int, body: bytes) -> None:
        """Keeps the answer for `KEPT` from the beginning."""

    async def abandon(self, begun: Begun) -> None:
        """Nothing came of it: the next may try."""

    async def healthy(self) -> bool:
        """Whether it could take a decision now."""

    async def aclose(self) -> None: ...
