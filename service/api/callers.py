"""Who is calling. Keys are kept hashed; an agent's key can never override."""

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.errors import NotAllowed, NotAuthenticated

BEARER = HTTPBearer(auto_error=False, description="A key; made by `premortem keys NAME ROLE`")


class Role(StrEnum):
    agent = "agent"
    supervisor = "supervisor"


@dataclass(frozen=True, slots=True)
class Caller:
    """A name and what it may do."""

    name: str
    role: Role


class BadKeys(Exception):
    """A file of keys that cannot be read, or a name that is taken."""


class Keys:
    """A file of SHA-256 hashes of 256-bit random keys; a key itself is shown once, when it is made."""

    def __init__(self, path: Path, entropy: Callable[[], str] = lambda: secrets.token_urlsafe(32)) -> None:
        self._path, self._entropy = path, entropy
        self._callers = self._read()

    def __len__(self) -> int:
        return len(self._callers)

    def make(self, name: str, role: Role) -> str:
        """A new key, on the disk before it is shown. Raises `BadKeys` if the name is taken."""
        if any(caller.name == name for caller in self._callers.values()):
            raise BadKeys(f"there is a key named {name} already")
        key = f"pm_{role}_{self._entropy()}"
        callers = self._callers | {_hash(key): Caller(name, role)}
        self._write(callers)
        self._callers = callers
        return key

    def caller(self, key: str) -> Caller | None:
        return self._callers.get(_hash(key))

    def _read(self) -> dict[str, Caller]:
        if not self._path.exists():
            return {}
        try:
            kept = json.loads(self._path.read_text())
            return {digest: Caller(told["name"], Role(told["role"])) for digest, told in kept.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadKeys(f"{self._path} is not a file of keys: {error!r}") from error

    def _write(self, callers: Mapping[str, Caller]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        told = {digest: {"name": caller.name, "role": str(caller.role)} for digest, caller in callers.items()}
        fresh = self._path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(json.dumps(told, indent=2))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)


class Doorkeeper:
    """Lets a request in by `Authorization: Bearer KEY`; without keys (authentication off) everyone is the local operator."""

    def __init__(self, keys: Keys | None) -> None:
        self._keys = keys

    def opens_to(self, *roles: Role) -> Any:
        """A dependency that admits these roles, before anything is said about the body."""

        async def admitted(shown: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]) -> Caller:
            return self.admit(shown.credentials if shown else "", *roles)

        return Depends(admitted)

    def admit(self, key: str, *roles: Role) -> Caller:
        """Raises `NotAuthenticated` without a valid key, `NotAllowed` if its role is not one of `roles`."""
        if self._keys is None:
            return Caller("local operator", roles[0])
        caller = self._keys.caller(key)
        if caller is None:
            raise NotAuthenticated("send a valid key: Authorization: Bearer KEY")
        if caller.role not in roles:
            raise NotAllowed(f"a key with the role {caller.role} may not do this; it takes {' or '.join(roles)}")
        return caller


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
