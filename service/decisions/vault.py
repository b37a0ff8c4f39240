"""Free text, sealed under a salt of its decision: without the salt nobody reads it again, and the audit chain stays whole.

What is sealed is AES-SIV (RFC 5297) under a key from HKDF-SHA256 of the master secret and the salt. Its associated data
is the kind and all that stays open, the decision's id among it: nothing sealed fits another record.
"""

import os
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic_core import from_json, to_jsonable_python

from service.decisions.canonical import base64url
from service.decisions.chain import Kind, sorted_json
from service.decisions.signing import BadSigningKeys
from service.errors import LedgerUnavailable
from service.vocabulary.proposal import Action, Asker
from service.vocabulary.verdict import Explanation

SECRET, KEY, CHECK = 32, 64, 8
"""Bytes: of a master secret or a salt, of an AES-256-SIV key, of a fingerprint."""
SEALED = "sealed"
ERASED = "erased"

Entropy = Callable[[int], bytes]
Place = Sequence[str | int]
"""Where a member stands: names and places in lists, outermost first."""

_DECISION: Mapping[tuple[str | int, ...], Any] = {
    ("proposal", "state"): {},
    ("proposal", "action"): Action(kind=ERASED).model_dump(mode="json"),
    ("proposal", "asker"): Asker(agent_id=ERASED).model_dump(mode="json"),
    ("explanation",): to_jsonable_python(Explanation("Erased on request.")),
    ("futures",): None,
}
_OVERRIDE: Mapping[tuple[str | int, ...], Any] = {("reason",): ERASED}
PRIVATE: Mapping[Kind, Mapping[tuple[str | int, ...], Any]] = {
    Kind.decision: _DECISION,
    Kind.adopted_decision: _DECISION,
    Kind.override: _OVERRIDE,
    Kind.adopted_override: _OVERRIDE,
    Kind.outcome: {("note",): ERASED},
}
"""What is sealed of a record of each kind, and what stands there once it is erased."""


class BadMaster(BadSigningKeys):
    """A master secret that cannot be had, or that others may have read or planted."""


class Vault:
    """Seals and opens. Pure but for `fresh`: what is sealed twice is equal."""

    def __init__(self, master: bytes, entropy: Entropy = os.urandom) -> None:
        if len(master) != SECRET:
            raise BadMaster(f"a master secret has {SECRET} bytes, not {len(master)}")
        self._master, self._entropy = master, entropy

    @property
    def fingerprint(self) -> str:
        """Tells one master secret from another and nothing about it: a ledger that holds another's must not be written."""
        return self._derived(None, CHECK, b"premortem.vault.check.1").hex()

    def fresh(self) -> bytes:
        """A salt."""
        return self._entropy(SECRET)

    def seal(self, salt: bytes, kind: Kind, told: str) -> str:
        """The record with its private members in one, `sealed`; a kind that has none as it is. Canonical JSON, both."""
        if kind not in PRIVATE:
            return told
        if len(salt) != SECRET:
            raise LedgerUnavailable(f"a salt has {SECRET} bytes, not {len(salt)}")
        record = _read(told)
        if SEALED in record:
            raise LedgerUnavailable("a record is sealed already")
        blob = self._cipher(salt).encrypt(sorted_json(_taken(record, _places(record, kind))), _bound(kind, record))
        return sorted_json(record | {SEALED: base64url(blob)}).decode()

    def open(self, salt: bytes | None, kind: Kind, told: str) -> str:
        """The record as it was before it was sealed; with no salt, as one whose free text is erased.

        Raises `LedgerUnavailable` if it is not what this vault sealed under this salt.
        """
        if kind not in PRIVATE or f'"{SEALED}"' not in told:
            return told
        record = _read(told)
        blob = record.pop(SEALED, None)
        if blob is None:
            return told
        if salt is None:
            _put(record, _places(record, kind).items())
        else:
            _put(record, self._opened(salt, blob, _bound(kind, record)))
        return sorted_json(record).decode()

    def _opened(self, salt: bytes, blob: Any, bound: list[bytes]) -> list[tuple[Place, Any]]:
        try:
            sealed = urlsafe_b64decode(f"{blob}{'=' * (-len(blob) % 4)}")
            if base64url(sealed) != blob:
                raise ValueError("another spelling of it")
            members: list[tuple[Place, Any]] = from_json(self._cipher(salt).decrypt(sealed, bound))
            return members
        except (InvalidTag, ValueError, TypeError) as error:
            raise LedgerUnavailable("a record is not as it was sealed, or was sealed under another secret") from error

    def _cipher(self, salt: bytes) -> AESSIV:
        return AESSIV(self._derived(salt, KEY, b"premortem.vault.1"))

    def _derived(self, salt: bytes | None, length: int, info: bytes) -> bytes:
        return HKDF(SHA256(), length, salt, info).derive(self._master)


def master(path: Path, entropy: Entropy = os.urandom) -> bytes:
    """The secret in a file that is its owner's alone, made at first start. Raises `BadMaster`.

    A file that was lost is made anew here: only the fingerprint tells, so keep the vault's with what it sealed.
    """
    try:
        if not path.exists():
            _make(path, entropy)
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise BadMaster(f"{path} is open to others: chmod go= {path}; what was sealed may have been read")
            secret = file.read(SECRET + 1)
    except OSError as error:
        raise BadMaster(f"the master secret cannot be had: {error}") from error
    if len(secret) != SECRET:
        raise BadMaster(f"{path} is not a master secret: it must have {SECRET} bytes exactly")
    return secret


def _make(path: Path, entropy: Entropy) -> None:
    """As a whole or not at all, and never over another's: whoever links first made it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{entropy(8).hex()}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(entropy(SECRET))
            file.flush()
            os.fsync(file.fileno())
        os.link(fresh, path)
    except FileExistsError:
        return
    finally:
        fresh.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _places(record: dict[str, Any], kind: Kind) -> dict[tuple[str | int, ...], Any]:
    """What is private of this record, with what stands there once it is erased: the rulings that it holds included."""
    rulings: list[tuple[str | int, ...]] = [
        ("approvals", at, "reason") for at in range(len(record.get("approvals") or ()))
    ]
    rulings += [("overridden", "reason")] if record.get("overridden") else []
    return {**PRIVATE[kind], **dict.fromkeys(rulings, ERASED)}


def _bound(kind: Kind, record: dict[str, Any]) -> list[bytes]:
    return [kind.value.encode(), sorted_json(record)]


def _read(told: str) -> dict[str, Any]:
    try:
        record = from_json(told)
    except ValueError as error:
        raise LedgerUnavailable("a record cannot be read") from error
    if not isinstance(record, dict):
        raise LedgerUnavailable("a record is not an object")
    return record


def _taken(record: dict[str, Any], places: Iterable[tuple[str | int, ...]]) -> list[tuple[Place, Any]]:
    """The members at these places, out of the record; those that it has."""
    found = [(place, _within(record, place[:-1]), place[-1]) for place in places]
    return [(place, parent.pop(name)) for place, parent, name in found if isinstance(parent, dict) and name in parent]


def _put(record: dict[str, Any], members: Iterable[tuple[Place, Any]]) -> None:
    for place, value in members:
        parent = _within(record, place[:-1])
        if not isinstance(parent, dict):
            raise LedgerUnavailable("a record is not as it was sealed")
        parent[place[-1]] = value


def _within(record: Any, place: Place) -> Any:
    """None if there is no such place."""
    for name in place:
        try:
            record = record[name]
        except (KeyError, IndexError, TypeError):
            return None
    return record
