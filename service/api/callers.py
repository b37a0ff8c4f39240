"""Who is calling. Keys are kept hashed; an agent's key can never override."""

import hashlib
import json
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fastapi import Request

from service.errors import NotAllowed, NotAuthenticated


class Role(StrEnum):
    agent = "agent"
    supervisor = "supervisor"


@dataclass(frozen=True, slots=True)
class Caller:
    """A name and what it may do."""

    name: str
    role: Role


class Keys:
    """A file of SHA-256 hashes of 256-bit random keys; a key itself is shown once, when it is made."""

    def __init__(self, path: Path, entropy: Callable[[], str] = lambda: secrets.token_urlsafe(32)) -> None:
        self._path, self._entropy = path, entropy
        self._callers = self._read()

    def __len__(self) -> int:
        return len(self._callers)

    def make(self, name: str, role: Role) -> str:
        """A new key, on the disk before it is shown. Raises ValueError if the name is taken."""
        if any(caller.name == name for caller in self._callers.values()):
            raise ValueError(f"there is a key named {name} already")
        key = f"pm_{role}_{self._entropy()}"
        self._callers[_hash(key)] = Caller(name, role)
        self._write()
        return key

    def caller(self, key: str) -> Caller | None:
        return self._callers.get(_hash(key))

    def _read(self) -> dict[str, Caller]:
        if not self._path.exists():
            return {}
        kept = json.loads(self._path.read_text())
        return {digest: Caller(told["name"], Role(told["role"])) for digest, told in kept.items()}

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        told = {digest: {"name": caller.name, "role": str(caller.role)} for digest, caller in self._callers.items()}
        fresh = self._path.with_suffix(".new")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(json.dumps(told, indent=2))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)


class Doorkeeper:
    """Lets a request in by `Authorization: Bearer KEY`; without keys (authentication off) everyone is the local operator."""

    def __init__(self, keys: Keys | None) -> None:
        self._keys = keys

    def admit(self, request: Request, *roles: Role) -> Caller:
        """Raises `NotAuthenticated` without a valid key, `NotAllowed` if its role is not one of `roles`."""
        if self._keys is None:
            return Caller("local operator", roles[0])
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        caller = self._keys.caller(key.strip()) if scheme.lower() == "bearer" else None
        if caller is None:
            raise NotAuthenticated("send a valid key: Authorization: Bearer KEY")
        if caller.role not in roles:
            raise NotAllowed(f"a key with the role {caller.role} may not do this; it takes {' or '.join(roles)}")
        return caller


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
