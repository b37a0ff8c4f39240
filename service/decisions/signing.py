"""The keys that sign permits: Ed25519, one file each in a folder, named by when they were made. The newest signs."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from service.decisions.canonical import base64url, fingerprint
from service.vocabulary.frozen import Frozen

NAMED = "%Y%m%dT%H%M%SZ.pem"
KEPT_FOR = timedelta(minutes=15)
"""How long a key that signs no more stays published: three times the longest permit."""


class BadSigningKeys(Exception):
    """Keys that cannot be had, or that others may have read or planted."""


class PublicKey(Frozen):
    """A JWK (RFC 8037); `kid` is its thumbprint (RFC 7638)."""

    kty: Literal["OKP"] = "OKP"
    crv: Literal["Ed25519"] = "Ed25519"
    x: str
    kid: str
    use: Literal["sig"] = "sig"
    alg: Literal["EdDSA"] = "EdDSA"


class PublicKeys(Frozen):
    """A JWK set, as it is published."""

    keys: tuple[PublicKey, ...]


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, and when it began to sign."""

    made: datetime
    private: Ed25519PrivateKey = field(repr=False)

    @property
    def public(self) -> PublicKey:
        x = base64url(self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
        return PublicKey(x=x, kid=fingerprint({"crv": "Ed25519", "kty": "OKP", "x": x}))


class KeyRing:
    """The folder is read anew whenever it is asked, so a rotation reaches every running service. Raises `BadSigningKeys`."""

    def __init__(
        self, folder: Path, generate: Callable[[], Ed25519PrivateKey] = lambda: Ed25519PrivateKey.generate()
    ) -> None:
        self._folder, self._generate = folder, generate

    def open(self, now: datetime) -> None:
        """Makes the first key at first start; from then on every key must be readable, by its owner alone."""
        if not self._folder.exists():
            self._folder.mkdir(mode=0o700, parents=True)
        if not self._keys():
            self.rotate(now)

    def rotate(self, now: datetime) -> SigningKey:
        """A new key, which signs from now on."""
        path = self._folder / now.astimezone(UTC).strftime(NAMED)
        key = SigningKey(_made(path), self._generate())
        if any(older.made >= key.made for older in self._keys()):
            raise BadSigningKeys(f"{self._folder} has a key as new as {path.stem}: wait a second, or set the clock")
        _write(path, key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return key

    def newest(self) -> SigningKey:
        """The key that signs."""
        keys = self._keys()
        if not keys:
            raise BadSigningKeys(f"{self._folder} has no key")
        return keys[-1]

    def published(self, now: datetime) -> PublicKeys:
        """The key that signs, and each older one until no permit of its can be alive."""
        keys = self._keys()
        older = [key for key, next_key in pairwise(keys) if now < next_key.made + KEPT_FOR]
        return PublicKeys(keys=tuple(key.public for key in [*older, *keys[-1:]]))

    def _keys(self) -> list[SigningKey]:
        """Oldest first."""
        try:
            _own(self._folder, os.stat(self._folder))
            return [_read(path) for path in sorted(self._folder.glob("*.pem"))]
        except OSError as error:
            raise BadSigningKeys(f"the signing keys cannot be read: {error}") from error


def _read(path: Path) -> SigningKey:
    with path.open("rb") as file:
        _own(path, os.fstat(file.fileno()))
        told = file.read()
    try:
        key = load_pem_private_key(told, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadSigningKeys(f"{path} is not a private key in PEM: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BadSigningKeys(f"{path} is not an Ed25519 key")
    return SigningKey(_made(path), key)


def _own(path: Path, found: os.stat_result) -> None:
    if found.st_mode & 0o077:
        raise BadSigningKeys(f"{path} is open to others: chmod go= {path}, and rotate if they may have read it")


def _made(path: Path) -> datetime:
    try:
        return datetime.strptime(path.name, NAMED).replace(tzinfo=UTC)
    except ValueError as error:
        raise BadSigningKeys(f"{path} is not named by a time, as in 20261124T120000Z.pem") from error


def _write(path: Path, told: bytes) -> None:
    """As a whole or not at all: the folder may be read meanwhile."""
    fresh = path.with_suffix(".new")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(told)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
    except OSError as error:
        raise BadSigningKeys(f"{path} cannot be written: {error}") from error
