"""A permit: this agent may do exactly this, in exactly this state, once, within a minute. A JWS signed with EdDSA.

Pure: the time is handed in. A permit follows from its decision alone, so asking again brings the same one, not another.
"""

from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import Field, JsonValue, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from service.decisions.canonical import NotCanonical, base64url, canonical, fingerprint, read
from service.decisions.signing import PublicKey, PublicKeys, SigningKey
from service.vocabulary.decision import Decision, Mode, OverrideRuling
from service.vocabulary.frozen import Frozen
from service.vocabulary.proposal import Action, Bound
from service.vocabulary.verdict import Ruling

TYPE = "premortem-permit+jwt"
LEEWAY_S = 5
"""How far behind an executor's clock may be when a permit begins. At its end there is no leeway."""


class PermitKind(StrEnum):
    """Whose word it is: the service's, or a supervisor's."""

    approval = "approval"
    override = "override"


LONGEST_S: Mapping[PermitKind, int] = {PermitKind.approval: 60, PermitKind.override: 300}


class Flaw(StrEnum):
    """Why a permit is refused, as an enum that an executor can count."""

    malformed = "malformed"
    wrong_header = "wrong_header"
    unknown_key = "unknown_key"
    bad_signature = "bad_signature"
    wrong_span = "wrong_span"
    not_yet_valid = "not_yet_valid"
    expired = "expired"
    wrong_iss = "wrong_iss"
    wrong_aud = "wrong_aud"
    wrong_domain = "wrong_domain"
    wrong_agent = "wrong_agent"
    wrong_act = "wrong_act"
    wrong_state = "wrong_state"
    used = "used"


class PermitRefused(Exception):
    """Do not act."""

    def __init__(self, flaw: Flaw) -> None:
        super().__init__(flaw)
        self.flaw = flaw


def bind(agent: str, action: Action, state: JsonValue) -> Bound:
    """`state` as it was sent, before its domain reads it; of the action all three members, one left out as its empty value.

    Raises `NotCanonical`, with where: in `action` or in `state`.
    """
    acted: JsonValue = {"kind": action.kind, "text": action.text, "arguments": action.arguments}
    return Bound(agent=agent, act=_hash("action", acted), state=_hash("state", state))


class Claims(Frozen):
    """What a permit says (RFC 7519 names; seconds since 1970). One that lasts too long cannot be made."""

    iss: str = Field(min_length=1)
    sub: str = Field(min_length=1, description="The decision's id")
    aud: str = Field(min_length=1, description="The executors it is for")
    domain: str = Field(min_length=1, description="Whose policy judged the action")
    agent: str = Field(min_length=1)
    act: str = Field(min_length=1)
    state: str = Field(min_length=1)
    kind: PermitKind
    jti: str = Field(min_length=1, description="One use each")
    iat: int = Field(gt=0)
    nbf: int = Field(gt=0)
    exp: int = Field(gt=0)

    @model_validator(mode="after")
    def _short(self) -> Self:
        if not self.exp - LONGEST_S[self.kind] <= self.iat <= self.nbf < self.exp:
            raise PydanticCustomError(Flaw.wrong_span, "it must end after it begins, and soon")
        return self


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who says so, and to which executors."""

    name: str
    audience: str

    def claims(self, decision: Decision, bound: Bound) -> Claims | None:
        """What this decision permits: an approval from its own time on, an override from the supervisor's; else nothing.

        A shadow permits nothing, whatever it says.
        """
        ruled = decision.overridden
        if decision.mode is Mode.shadow:
            return None
        if decision.ruling is Ruling.approve and ruled is None:
            return self._granted(PermitKind.approval, decision, bound, decision.at)
        if ruled is not None and ruled.ruling is OverrideRuling.approved:
            return self._granted(PermitKind.override, decision, bound, ruled.at)
        return None

    def _granted(self, kind: PermitKind, decision: Decision, bound: Bound, at: datetime) -> Claims:
        since = seconds(at)
        return Claims(
            iss=self.name,
            sub=decision.decision_id,
            aud=self.audience,
            domain=decision.domain,
            **bound.model_dump(),
            kind=kind,
            jti=f"{decision.decision_id}.{kind}",
            iat=int(since),
            nbf=int(since),
            exp=int(since) + LONGEST_S[kind],
        )


def sign(claims: Claims, key: SigningKey) -> str:
    """A compact JWS. Equal claims and key give an equal token."""
    header: dict[str, JsonValue] = {"alg": "EdDSA", "kid": key.public.kid, "typ": TYPE}
    told = f"{base64url(canonical(header))}.{base64url(canonical(claims.model_dump(mode='json')))}"
    return f"{told}.{base64url(key.private.sign(told.encode()))}"


@dataclass(frozen=True, slots=True)
class Expected:
    """What a permit must say to be good here, for what is about to be done."""

    issuer: str
    audience: str
    domain: str
    bound: Bound


def verify(token: str, keys: PublicKeys, expected: Expected, now: datetime) -> Claims:
    """Everything but single use. Raises `PermitRefused`."""
    claims = _read(_payload(token, keys))
    at = seconds(now)
    if at < claims.nbf - LEEWAY_S:
        raise PermitRefused(Flaw.not_yet_valid)
    if at >= claims.exp:
        raise PermitRefused(Flaw.expired)
    due = {"iss": expected.issuer, "aud": expected.audience, "domain": expected.domain} | expected.bound.model_dump()
    for name, value in due.items():
        if getattr(claims, name) != value:
            raise PermitRefused(Flaw(f"wrong_{name}"))
    return claims


@dataclass(frozen=True, slots=True)
class Redeemed:
    """The permits that were used, each remembered until it has run out for every clock."""

    until: Mapping[str, int] = field(default_factory=dict)

    def use(self, claims: Claims, now: datetime) -> "Redeemed":
        """Raises `PermitRefused` if it was used before."""
        if claims.jti in self.until:
            raise PermitRefused(Flaw.used)
        alive = {jti: until for jti, until in self.until.items() if until > seconds(now)}
        return Redeemed(alive | {claims.jti: claims.exp + LEEWAY_S})


def seconds(at: datetime) -> float:
    """Since 1970."""
    if at.tzinfo is None:
        raise ValueError("a time without a zone is no moment")
    return at.timestamp()


def _hash(member: str, value: JsonValue) -> str:
    try:
        return fingerprint(value)
    except NotCanonical as error:
        error.path = (member, *error.path)
        raise


def _payload(token: str, keys: PublicKeys) -> bytes:
    """What was signed, if one of these keys signed it."""
    try:
        head, body, signature = token.split(".")
        header, payload, signed = read(_bytes(head)), _bytes(body), _bytes(signature)
    except ValueError as error:
        raise PermitRefused(Flaw.malformed) from error
    kid = header.get("kid") if isinstance(header, dict) else None
    if header != {"alg": "EdDSA", "kid": kid, "typ": TYPE}:
        raise PermitRefused(Flaw.wrong_header)
    key = next((key for key in keys.keys if key.kid == kid), None)
    if key is None:
        raise PermitRefused(Flaw.unknown_key)
    try:
        _public(key).verify(signed, f"{head}.{body}".encode())
    except InvalidSignature as error:
        raise PermitRefused(Flaw.bad_signature) from error
    return payload


def _public(key: PublicKey) -> Ed25519PublicKey:
    try:
        return Ed25519PublicKey.from_public_bytes(_bytes(key.x))
    except ValueError as error:
        raise PermitRefused(Flaw.unknown_key) from error


def _read(payload: bytes) -> Claims:
    try:
        read(payload)
        return Claims.model_validate_json(payload, strict=True)
    except ValidationError as error:
        span = error.errors()[0]["type"] == Flaw.wrong_span
        raise PermitRefused(Flaw.wrong_span if span else Flaw.malformed) from error
    except NotCanonical as error:
        raise PermitRefused(Flaw.malformed) from error


def _bytes(text: str) -> bytes:
    """Strictly: another spelling of the same bytes is another token. Raises ValueError."""
    data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64url(data) != text:
        raise ValueError("not base64url")
    return data
