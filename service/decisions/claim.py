"""A request's claim to be carried out once, whatever its caller sends again."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from service.errors import KeyReused, LedgerUnavailable

KEPT = timedelta(hours=24)
LEASE = timedelta(seconds=60)
"""How long a claim that is not answered stays its process's own: longer than any request may take."""


@dataclass(frozen=True, slots=True)
class Claim:
    """`key` is the caller's own; `body_hash` of what was sent."""

    caller: str
    route: str
    key: str
    body_hash: str


@dataclass(frozen=True, slots=True)
class Begun:
    """Carry it out. `turn` tells this attempt from one whose process died."""

    claim: Claim
    turn: int


@dataclass(frozen=True, slots=True)
class InFlight:
    """Another request is being carried out under this claim."""

    since: datetime


@dataclass(frozen=True, slots=True)
class Answered:
    """What was answered, byte for byte."""

    status: int
    body: bytes


Standing = Begun | InFlight | Answered


@dataclass(frozen=True, slots=True)
class Kept:
    """A claim as a ledger keeps it."""

    body_hash: str
    turn: int
    began: datetime
    answer: Answered | None


def stand(claim: Claim, kept: Kept | None, now: datetime) -> Standing:
    """Where a claim stands; one that is `Begun` is the ledger's to write. Raises `KeyReused`."""
    if kept is None or now - kept.began >= KEPT:
        return Begun(claim, kept.turn + 1 if kept else 1)
    if kept.body_hash != claim.body_hash:
        raise KeyReused("this Idempotency-Key was sent with another body before")
    if kept.answer:
        return kept.answer
    return Begun(claim, kept.turn + 1) if now - kept.began >= LEASE else InFlight(kept.began)


def overtaken() -> LedgerUnavailable:
    return LedgerUnavailable("this request took longer than its lease, and another attempt took it over: send it again")
