"""The audit chain: every event holds the hash of the one before, so that nothing is changed, dropped or put in unseen."""

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import AwareDatetime, ConfigDict, Field, field_serializer

from service.vocabulary.frozen import Frozen

GENESIS = "0" * 64
"""What the first event holds in place of the hash before it."""
EVENT, CHECKPOINT = b"premortem.event.1\n", b"premortem.checkpoint.1\n"

Hex32 = Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")]
Hex64 = Annotated[str, Field(pattern=r"\A[0-9a-f]{128}\z")]


class Kind(StrEnum):
    """What happened. What was decided before there was a chain was adopted into it, and says so."""

    decision = "decision"
    override = "override"
    outcome = "outcome"
    policy = "policy"
    model = "model"
    key = "key"
    switch = "switch"
    erasure = "erasure"
    checkpoint = "checkpoint"
    adopted_decision = "adopted_decision"
    adopted_override = "adopted_override"


def sorted_json(value: Any) -> bytes:
    """One spelling, UTF-8. Not RFC 8785, which has no number of 2**53 or more: a ledger takes whatever was decided."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


@dataclass(frozen=True, slots=True)
class Draft:
    """An event that has no place in the chain yet. `subject` is a decision's id or a name, `body` canonical JSON."""

    at: datetime
    tenant: str
    kind: Kind
    subject: str
    body: str


@dataclass(frozen=True, slots=True)
class Head:
    """Where the chain ends."""

    seq: int = 0
    hash: str = GENESIS


class Told(Frozen):
    """A line of the audit; times are in UTC, to the microsecond, spelt in one way."""

    model_config = ConfigDict(str_max_length=None)

    at: AwareDatetime

    @field_serializer("at")
    def _utc(self, at: datetime) -> str:
        return spelt(at)

    def line(self) -> bytes:
        return sorted_json(self.model_dump(mode="json"))


class Event(Told):
    """`hash` is the SHA-256 of a version line and the canonical JSON of all the other fields."""

    seq: int = Field(ge=1)
    tenant: str
    kind: Kind
    subject: str
    body: str
    previous: Hex32
    hash: Hex32

    def digest(self) -> str:
        return _digest(self.model_dump(mode="json", exclude={"hash"}))


class Checkpoint(Told):
    """Signed: the chain had this head then. `key` is the Ed25519 public key itself, `seq` 0 an empty chain."""

    seq: int = Field(ge=0)
    hash: Hex32
    key: Hex32
    signature: Hex64

    def signed(self) -> bool:
        told = self.model_dump(mode="json", exclude={"signature"})
        try:
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.key))
            key.verify(bytes.fromhex(self.signature), CHECKPOINT + sorted_json(told))
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class Sealer:
    """Signs the chain's head at every `every`-th event, and when asked."""

    key: Ed25519PrivateKey
    every: int = 256

    @property
    def public(self) -> str:
        return self.key.public_key().public_bytes_raw().hex()

    def seal(self, head: Head, at: datetime) -> Checkpoint:
        told = {"seq": head.seq, "hash": head.hash, "at": spelt(at), "key": self.public}
        return Checkpoint.model_validate(told | {"signature": self.key.sign(CHECKPOINT + sorted_json(told)).hex()})


def spelt(at: datetime) -> str:
    """Sorts as the times do."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def link(head: Head, draft: Draft) -> Event:
    told = {
        **{"seq": head.seq + 1, "at": spelt(draft.at), "tenant": draft.tenant, "kind": draft.kind.value},
        **{"subject": draft.subject, "body": draft.body, "previous": head.hash},
    }
    return Event.model_validate(told | {"hash": _digest(told)})


def extend(head: Head, drafts: Iterable[Draft], sealer: Sealer | None = None) -> Sequence[Event]:
    """The drafts in their places; after every `sealer.every`-th event a checkpoint, which is an event as well."""
    events: list[Event] = []
    for draft in drafts:
        events.append(link(head, draft))
        head = Head(events[-1].seq, events[-1].hash)
        if sealer and head.seq % sealer.every == 0:
            body = sealer.seal(head, draft.at).line().decode()
            events.append(link(head, Draft(draft.at, draft.tenant, Kind.checkpoint, str(head.seq), body)))
            head = Head(events[-1].seq, events[-1].hash)
    return events


@dataclass(frozen=True, slots=True)
class Broken:
    """The first event that is not as it was, by its place in the chain, and why."""

    seq: int
    why: str


class Walk:
    """Follows a chain from its beginning, one event at a time. No keys trusted means any key: sound, but by whom?"""

    def __init__(self, checkpoints: Iterable[Checkpoint] = (), trusted: Collection[str] = ()) -> None:
        self.head = Head()
        self._trusted = trusted
        self._owed: dict[int, list[Checkpoint]] = {}
        for checkpoint in checkpoints:
            self._owed.setdefault(checkpoint.seq, []).append(checkpoint)

    def step(self, event: Event) -> Broken | None:
        """What is wrong with the event at this place, if anything is."""
        seq = self.head.seq + 1
        why = self._wrong(event, seq)
        self.head = Head(seq, event.hash)
        for checkpoint in self._owed.pop(seq, ()):
            why = why or self.differs(checkpoint, self.head)
        return Broken(seq, why) if why else None

    def end(self) -> Broken | None:
        """What the checkpoints that are left say of the chain's end."""
        for seq, checkpoints in sorted(self._owed.items()):
            if seq > self.head.seq:
                return Broken(self.head.seq + 1, f"missing: a checkpoint was signed over {seq} events")
            for checkpoint in checkpoints:
                if why := self.differs(checkpoint, Head()):
                    return Broken(1, why)
        return None

    def differs(self, checkpoint: Checkpoint, head: Head) -> str | None:
        """Why a checkpoint does not vouch for this head."""
        if not checkpoint.signed():
            return "the signature of its checkpoint is false"
        if self._trusted and checkpoint.key not in self._trusted:
            return "its checkpoint is signed with a key that is not trusted"
        if (checkpoint.seq, checkpoint.hash) != (head.seq, head.hash):
            return "its checkpoint was signed over another chain"
        return None

    def _wrong(self, event: Event, seq: int) -> str | None:
        if event.seq != seq:
            return f"event {event.seq} stands in its place"
        if event.previous != self.head.hash:
            return "it does not follow the event before it"
        if event.hash != event.digest():
            return "its hash is not that of what it says"
        if event.kind is Kind.checkpoint:
            try:
                return self.differs(Checkpoint.model_validate_json(event.body), self.head)
            except ValueError:
                return "its checkpoint cannot be read"
        return None


def verify(
    events: Iterable[Event], checkpoints: Iterable[Checkpoint] = (), trusted: Collection[str] = ()
) -> Broken | None:
    """The first broken event of a whole chain. What is cut off at its end, only a checkpoint can tell."""
    walk = Walk(checkpoints, trusted)
    for event in events:
        if broken := walk.step(event):
            return broken
    return walk.end()


def _digest(told: dict[str, Any]) -> str:
    return hashlib.sha256(EVENT + sorted_json(told)).hexdigest()
