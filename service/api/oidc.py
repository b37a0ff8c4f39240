"""A JWT of the organisation's identity provider as a credential: who it names, with which roles, and whether a person stands behind it.

PyJWT reads, checks the signature, the issuer and the audience; the time is handed in, so the moments are checked here.
Settings of RFC 8725 (JWT Best Current Practices): one issuer, asymmetric algorithms by name, explicit types, no keys from the token.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from time import monotonic as clock
from typing import Any

import jwt

from service.api.keyset import KEYS_OF, Keyset, discovery, secure
from service.api.keyset import IdentityProviderUnavailable as IdentityProviderUnavailable

ROLES = frozenset({"agent", "supervisor", "outcome", "admin", "auditor"})
TYPES = frozenset({"jwt", "at+jwt"})
MOST_TOKEN, MOST_NAME, MOST_LEEWAY_S = 8 * 1024, 255, 300
COMPACT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
"""No padding: another spelling of the same bytes is another token."""
CLIENTS = ("azp", "client_id", "cid", "appid")
"""Where providers put the client's own id; a token whose subject is its client is the client's."""
GRANTS = ("gty", "grant_type")
REQUIRED = ("iss", "aud", "sub", "exp", "iat")
SAID: Mapping[type[jwt.PyJWTError], str] = {
    jwt.InvalidSignatureError: "its signature is not the provider's",
    jwt.InvalidIssuerError: "it is another issuer's",
    jwt.InvalidAudienceError: "it is for another audience",
    jwt.MissingRequiredClaimError: f"it lacks one of {', '.join(REQUIRED)}",
}


class BadToken(Exception):
    """Nobody is let in by this. `detail` says why, and nothing that the token said."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Identity:
    """What a good token says. `human`: a person authenticated for it; no service credential may ever override."""

    name: str
    roles: frozenset[str]
    tenant: str
    human: bool


@dataclass(frozen=True, slots=True)
class Provider:
    """One issuer, as the operator trusts it. A claim may be a path ("realm_access.roles"). Raises ValueError if it is unsafe.

    Without `jwks_url` the keys are found by discovery; with a `tenant` everyone is of that one, whatever the token says.
    """

    issuer: str
    audience: str
    algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")
    jwks_url: str = ""
    roles_claim: str = "roles"
    tenant_claim: str = "tenant"
    tenant: str = ""
    leeway_s: int = 30

    def __post_init__(self) -> None:
        if not self.algorithms or not set(self.algorithms) <= KEYS_OF.keys():
            raise ValueError(f"algorithms of an identity provider are some of {', '.join(KEYS_OF)}")
        if not self.issuer or not self.audience or not self.roles_claim or not (self.tenant_claim or self.tenant):
            raise ValueError("an identity provider needs its issuer, our audience, and where roles and tenant stand")
        if not 0 <= self.leeway_s <= MOST_LEEWAY_S:
            raise ValueError(f"leeway is 0 to {MOST_LEEWAY_S} s")
        secure(self.jwks_url or discovery(self.issuer))


class OidcVerifier:
    """Everything that makes a bearer token this provider's word, for us, now."""

    def __init__(self, provider: Provider, now: Callable[[], datetime], monotonic: Callable[[], float] = clock) -> None:
        self._provider, self._now = provider, now
        self._keys = Keyset(provider.issuer, provider.jwks_url, provider.algorithms, monotonic)

    @property
    def trouble(self) -> str:
        """Why the provider's keys could not be fetched the last time; empty if they could."""
        return self._keys.trouble

    async def identity(self, token: str) -> Identity:
        """Raises `BadToken`, or `IdentityProviderUnavailable` if the key is not known and cannot be asked for."""
        kid, algorithm = self._header(token)
        fit = await self._keys.key(kid)
        if fit is None:
            raise BadToken("the provider has no key of this id")
        if algorithm not in fit:
            raise BadToken("the key it names is not for this algorithm")
        claims = self._claims(token, fit[algorithm])
        self._in_time(claims)
        tenant = self._provider.tenant or _found(claims, self._provider.tenant_claim)
        return Identity(
            name=f"oidc:{_named(claims['sub'], 'sub')}",
            roles=ROLES & set(_words(_found(claims, self._provider.roles_claim))),
            tenant=_named(tenant, "tenant"),
            human=_human(claims),
        )

    async def aclose(self) -> None:
        await self._keys.aclose()

    def _header(self, token: str) -> tuple[str, str]:
        """The key's id and the algorithm, not yet believed. Whatever else names a key (jku, x5u, jwk, x5c) is not read."""
        if len(token) > MOST_TOKEN:
            raise BadToken(f"a token is at most {MOST_TOKEN} bytes long")
        if not COMPACT.fullmatch(token):
            raise BadToken("not a signed JWT")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise BadToken("its header cannot be read") from error
        kid, algorithm, kind = header.get("kid"), header.get("alg"), header.get("typ")
        if algorithm not in self._provider.algorithms:
            raise BadToken("its algorithm is not allowed")
        if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in TYPES:
            raise BadToken("its type is neither JWT nor at+jwt")
        if "crit" in header:
            raise BadToken("it asks for extensions, and none is known here")
        if not isinstance(kid, str) or not kid:
            raise BadToken("it names no key")
        return kid, algorithm

    def _claims(self, token: str, key: jwt.PyJWK) -> Mapping[str, Any]:
        provider = self._provider
        try:
            return jwt.decode(
                token,
                key,
                [key.algorithm_name],
                options={
                    "require": list(REQUIRED),
                    **{"verify_exp": False, "verify_nbf": False, "verify_iat": False},
                    "enforce_minimum_key_length": True,
                },
                issuer=provider.issuer,
                audience=provider.audience,
            )
        except jwt.PyJWTError as error:
            raise BadToken(SAID.get(type(error), "its claims cannot be read")) from error

    def _in_time(self, claims: Mapping[str, Any]) -> None:
        at, leeway = self._now().timestamp(), self._provider.leeway_s
        if at - leeway >= _moment(claims, "exp"):
            raise BadToken("it has expired")
        if at + leeway < max(_moment(claims, "iat"), _moment(claims, "nbf") if "nbf" in claims else 0):
            raise BadToken("it is not valid yet")


def _moment(claims: Mapping[str, Any], name: str) -> int | float:
    """Seconds since 1970; a number, and a finite one."""
    value = claims[name]
    if type(value) is int or (type(value) is float and isfinite(value)):
        return value
    raise BadToken(f"its {name} is no time")


def _found(claims: Mapping[str, Any], claim: str) -> Any:
    """A claim by its whole name, for names may hold dots (https://example.com/roles), else by its path."""
    found: Any = claims
    for part in [claim] if claim in claims else claim.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _named(value: object, name: str) -> str:
    """OpenID Connect Core §2: `sub` is at most 255 characters. It is written down, so it must be fit to be read."""
    if not isinstance(value, str) or not value.strip() or len(value) > MOST_NAME or not value.isprintable():
        raise BadToken(f"its {name} is missing, too long or unreadable")
    return value


def _words(told: object) -> list[str]:
    """A list of strings, or one string by its spaces."""
    if isinstance(told, str):
        return told.split()
    return [each for each in told if isinstance(each, str)] if isinstance(told, list) else []


def _human(claims: Mapping[str, Any]) -> bool:
    """RFC 8176: `amr` is how the user authenticated. Not if the client is the subject, or acts for it (`act`, RFC 8693)."""
    methods = claims.get("amr")
    authenticated = isinstance(methods, list) and any(each.strip() for each in _words(methods))
    itself = any(claims["sub"] == claims.get(name) for name in CLIENTS) or claims.get("idtyp") == "app"
    grants = {grant.replace("_", "-").lower() for name in GRANTS for grant in _words(claims.get(name))}
    return authenticated and not itself and "client-credentials" not in grants and "act" not in claims
