"""Keys: 256 random bits, shown once, kept hashed in a file that running services read anew when it changes."""

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import AwareDatetime, Field, ValidationError

from service.api.callers import Caller, Role
from service.vocabulary.frozen import Frozen
from service.vocabulary.proposal import HOUSE

SHOWN = 6
"""How many characters of its secret part tell a key from others of its role."""


class BadKeys(Exception):
    """A file of keys that cannot be read, or a name that is taken or unknown."""


class Key(Frozen):
    """What a key is good for. `prefix` is its beginning, `until` when it ends; no domains means all of them."""

    name: str = Field(
        min_length=1, max_length=128, pattern="^[^:]*$", description="No colon: tokens have the names oidc:..."
    )
    role: Role
    tenant: str = Field(default=HOUSE, min_length=1, max_length=64)
    domains: frozenset[str] = frozenset()
    tokens_per_minute: int | None = Field(default=None, ge=1)
    prefix: str = ""
    until: AwareDatetime | None = None

    def caller(self) -> Caller:
        return Caller(self.name, frozenset({self.role}), self.tenant, self.domains, self.tokens_per_minute)


class Keys:
    """By SHA-256 hash. Two keys of one name are alive while one takes the other's place, at no other time."""

    def __init__(
        self, path: Path, now: Callable[[], datetime], entropy: Callable[[], str] = lambda: secrets.token_urlsafe(32)
    ) -> None:
        self._path, self._now, self._entropy = path, now, entropy
        self._read_at: tuple[int, ...] | None = None
        self._kept: Mapping[str, Key] = {}
        self._refresh()

    def __len__(self) -> int:
        return len(self.all())

    def all(self) -> tuple[Key, ...]:
        self._refresh()
        return tuple(self._kept.values())

    def make(self, key: Key) -> str:
        """A new key, on the disk before it is shown. Raises `BadKeys` if the name is taken."""
        with self._writing() as kept:
            if any(other.name == key.name for other in kept.values()):
                raise BadKeys(f"there is a key named {key.name} already")
            return self._add(kept, key)

    def rotate(self, name: str, overlap: timedelta) -> str:
        """A new key in the place of the one that has this name, which stays good for the overlap."""
        now = self._now()
        with self._writing() as kept:
            current = [digest for digest, key in kept.items() if key.name == name and key.until is None]
            if not current:
                raise BadKeys(f"there is no key named {name}")
            successor = kept[current[0]]
            alive = {digest: key for digest, key in kept.items() if key.until is None or key.until > now}
            ending = {digest: kept[digest].model_copy(update={"until": now + overlap}) for digest in current}
            return self._add(alive | ending, successor)

    def revoke(self, name: str) -> None:
        """Every key of this name is nobody's from now on."""
        with self._writing() as kept:
            if not any(key.name == name for key in kept.values()):
                raise BadKeys(f"there is no key named {name}")
            self._write({digest: key for digest, key in kept.items() if key.name != name})

    async def caller(self, shown: str) -> Caller | None:
        self._refresh()
        found = self._kept.get(_hash(shown))
        return found.caller() if found and (found.until is None or self._now() < found.until) else None

    def _add(self, kept: Mapping[str, Key], key: Key) -> str:
        told = f"pm_{key.role}_{self._entropy()}"
        prefix = told[: len(f"pm_{key.role}_") + SHOWN]
        self._write({**kept, _hash(told): key.model_copy(update={"prefix": prefix, "until": None})})
        return told

    def _refresh(self) -> None:
        """Reads the file if it is another than before."""
        stamp = _stamp(self._path)
        if stamp != self._read_at:
            self._kept, self._read_at = self._read(), stamp

    def _read(self) -> dict[str, Key]:
        try:
            kept = json.loads(self._path.read_text())
            return {digest: Key.model_validate(told) for digest, told in kept.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError, ValidationError) as error:
            raise BadKeys(f"{self._path} is not a file of keys: {type(error).__name__}") from error

    @contextmanager
    def _writing(self) -> Iterator[dict[str, Key]]:
        """The keys as they are, to be written by nobody else meanwhile."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield self._read()
        finally:
            os.close(folder)

    def _write(self, keys: Mapping[str, Key]) -> None:
        told = {digest: key.model_dump(mode="json", exclude_defaults=True) for digest, key in keys.items()}
        fresh = self._path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(json.dumps(told, indent=2))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
