"""Who is calling, for which tenant, and what they may do."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Protocol

from fastapi import Depends, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.errors import NotAllowed, NotAuthenticated
from service.vocabulary.proposal import HOUSE

BEARER = HTTPBearer(auto_error=False, description="A key (`premortem keys make NAME ROLE`), or an OIDC token")


class Role(StrEnum):
    """agent asks; supervisor rules; outcome reports what followed; admin switches, erases, adds history; auditor reads."""

    agent = "agent"
    supervisor = "supervisor"
    outcome = "outcome"
    admin = "admin"
    auditor = "auditor"


@dataclass(frozen=True, slots=True)
class Caller:
    """A name within a tenant, both by its credential; no domains means all. Whoever has the role supervisor is a person."""

    name: str
    roles: frozenset[Role]
    tenant: str = HOUSE
    domains: frozenset[str] = frozenset()
    tokens_per_minute: int | None = None

    def may(self, role: Role) -> bool:
        return role in self.roles

    def sees(self, domain: str) -> bool:
        return not self.domains or domain in self.domains


class Credentials(Protocol):
    """One way of showing who one is."""

    async def caller(self, shown: str) -> Caller | None:
        """None for what is no credential of this kind, or none that is good. Raises `NotAuthenticated` to say why."""


class Doorkeeper:
    """Lets a request in by `Authorization: Bearer CREDENTIAL`; with none to check, everyone is local, in the role that it takes."""

    def __init__(self, *credentials: Credentials) -> None:
        self._credentials = credentials

    def opens_to(self, *roles: Role) -> Any:
        """A dependency that admits these roles, before anything is said about the body."""

        async def admitted(shown: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]) -> Caller:
            return await self.admit(shown.credentials if shown else "", *roles)

        return Depends(admitted)

    async def admit(self, shown: str, *roles: Role) -> Caller:
        """Raises `NotAuthenticated` without a good credential, `NotAllowed` if none of its roles is one of `roles`."""
        if not self._credentials:
            return Caller(f"local {roles[0]}", frozenset(roles))
        for credentials in self._credentials:
            caller = await credentials.caller(shown)
            if caller is not None:
                return _allowed(caller, roles)
        raise NotAuthenticated("send a valid key or token: Authorization: Bearer CREDENTIAL")


def _allowed(caller: Caller, roles: tuple[Role, ...]) -> Caller:
    if caller.roles.isdisjoint(roles):
        held = ", ".join(sorted(caller.roles)) or "none"
        raise NotAllowed(f"a credential with the role {held} may not do this; it takes {' or '.join(roles)}")
    return caller
